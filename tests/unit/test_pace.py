"""host/pace.py: a burst of messages is spread out while the pod serves, and never held for long."""

from __future__ import annotations

import pytest

from toposeal.host.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_pod_that_serves_sends_one_message_at_a_time() -> None:
    clock = Clock()
    pace = Pace(lambda: True, clock)
    assert [pace.delay(4) for _ in range(4)] == pytest.approx([0, 0.04, 0.08, 0.12])
    clock.now += 0.1
    assert pace.delay(4) == pytest.approx(0.06)


def test_who_has_been_quiet_sends_at_once_and_saves_up_nothing() -> None:
    clock = Clock()
    pace = Pace(lambda: True, clock)
    pace.delay(4)
    clock.now += 60
    assert [pace.delay(4) for _ in range(2)] == pytest.approx([0, 0.04])


def test_a_thousand_peers_are_told_in_the_time_of_five() -> None:
    for peers in (5, 1000):
        pace = Pace(lambda: True, Clock())
        assert [pace.delay(peers) for _ in range(peers)][-1] == pytest.approx(0.2, rel=0.25)


def test_no_message_waits_longer_than_a_second() -> None:
    pace = Pace(lambda: True, Clock())
    assert max(pace.delay(4) for _ in range(1000)) == 1.0


def test_a_pod_that_does_not_serve_hurries() -> None:
    serves = True
    pace = Pace(lambda: serves, Clock())
    for _ in range(10):
        pace.delay(4)
    serves = False
    assert [pace.delay(4) for _ in range(10)] == [0.0] * 10
    serves = True
    assert pace.delay(4) == 0.0
