"""Which part of the time belongs to a round, by what the members say."""

from __future__ import annotations

from toposeal_lab.bench_spans import committed
from toposeal_lab.member import Event


def phase(at: float, name: str, epoch: int) -> Event:
    return {"t": at, "event": "phase", "phase": name, "epoch": epoch}


def gate(at: float, state: str, epoch: int) -> Event:
    return {"t": at, "event": "gate", "state": state, "epoch": epoch}


def test_a_round_is_from_the_first_proposal_until_the_last_serves() -> None:
    """Not while they gather, and not where one was in the middle of it when the journals begin or end."""
    one = [gate(0.9, "open", 1), phase(1.0, "gathering", 2), phase(1.9, "proposed", 2), gate(2.3, "open", 2)]
    other = [phase(1.1, "gathering", 2), phase(1.8, "proposed", 2), phase(2.0, "sealed", 2)]
    other += [gate(2.2, "open", 2), phase(6.0, "proposed", 3), gate(6.1, "suspended", 3)]
    assert committed([*one, gate(0.8, "open", 1), *other, gate(6.2, "open", 3)], 2) == [(1.8, 2.3)]
