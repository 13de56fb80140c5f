"""The budget of restarts: so many in an hour, each after twice the pause, and then no more."""

from __future__ import annotations

from toposeal.gate.restarts import Ends, after_end
from toposeal.limits import MAX_ENVOY_RESTARTS, RESTART_PAUSE, RESTART_PERIOD


def pauses(*times: int) -> list[int | None]:
    ends: Ends = ()
    found = []
    for now in times:
        ends, pause = after_end(ends, now)
        found.append(pause)
    return found


def test_D7_fault_16_each_pause_is_twice_the_last_until_the_budget_is_spent() -> None:
    expected = [RESTART_PAUSE * 2**n for n in range(MAX_ENVOY_RESTARTS)]
    assert pauses(*range(MAX_ENVOY_RESTARTS + 2)) == [*expected, None, None]


def test_an_end_counts_for_one_period_and_not_a_moment_longer() -> None:
    assert pauses(0, RESTART_PERIOD - 1) == [RESTART_PAUSE, 2 * RESTART_PAUSE]
    assert pauses(0, RESTART_PERIOD) == [RESTART_PAUSE, RESTART_PAUSE]
    spent = [0] * (MAX_ENVOY_RESTARTS + 1)
    assert pauses(*spent, RESTART_PERIOD)[-1] == RESTART_PAUSE


def test_no_more_is_kept_than_the_budget_needs() -> None:
    ends: Ends = ()
    for now in range(0, 10 * RESTART_PERIOD, RESTART_PERIOD // 2):
        ends, _ = after_end(ends, now)
    assert len(ends) == 2
