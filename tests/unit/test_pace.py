"""host/pace.py: a burst of messages is spread out while the pod serves, and never held for long."""

from __future__ import annotations

import pytest

from toposeal.host.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def queued(pace: Pace, messages: int, peers: int) -> list[float]:
    """Seconds that each of so many, queued together at 100, waits."""
    return [pace.due(peers) - 100 for _ in range(messages)]


def test_a_pod_that_serves_sends_one_message_at_a_time() -> None:
    clock = Clock()
    pace = Pace(lambda: True, clock)
    assert queued(pace, 4, 4) == pytest.approx([0, 0.03, 0.06, 0.09])
    clock.now += 0.1
    assert queued(pace, 1, 4) == pytest.approx([0.12])


def test_who_has_been_quiet_sends_at_once_and_saves_up_nothing() -> None:
    clock = Clock()
    pace = Pace(lambda: True, clock)
    pace.due(4)
    clock.now += 60
    assert queued(pace, 2, 4) == pytest.approx([60, 60.03])


def test_a_thousand_peers_are_told_in_the_time_of_four() -> None:
    for peers in (4, 1000):
        assert queued(Pace(lambda: True, Clock()), peers + 1, peers)[-1] == pytest.approx(0.12)


def test_nothing_is_held_back_for_long_whatever_was_queued_before_it() -> None:
    assert max(queued(Pace(lambda: True, Clock()), 1000, 4)) == 0.75


def test_a_pod_that_does_not_serve_hurries() -> None:
    serves = True
    pace = Pace(lambda: serves, Clock())
    queued(pace, 10, 4)
    serves = False
    assert queued(pace, 10, 4) == [0.0] * 10
    serves = True
    assert queued(pace, 1, 4) == [0.0]
