"""Leaves: new ones at half life, and again while there is time."""

from __future__ import annotations

import pytest

from toposeal.errors import LocalProtocolError
from toposeal.limits import ROTATION_RETRY, TIMER_BOUNDS
from toposeal.pki.rotation import LeafSchedule, schedule


def test_leaves_are_due_at_half_life() -> None:
    assert schedule(1_000, 86_400_000) == LeafSchedule(1_000 + 43_200_000, 1_000 + 86_400_000)


def test_a_failed_rotation_is_tried_at_half_of_what_is_left() -> None:
    first = schedule(0, 80_000)
    second = first.retry(40_000)
    assert second == LeafSchedule(60_000, 80_000)
    assert second.retry(60_000).due_at == 70_000


def test_a_failing_rotation_never_spins() -> None:
    tired = schedule(0, 80_000).retry(79_999)
    assert tired.due_at == 79_999 + ROTATION_RETRY
    assert tired.retry(90_000).due_at == 90_000 + ROTATION_RETRY


def test_the_shortest_life_that_a_topology_can_ask_for_leaves_room_to_try_again() -> None:
    shortest = schedule(0, TIMER_BOUNDS["leaf_lifetime_ms"][0])
    assert shortest.expires_at - shortest.due_at > 2 * ROTATION_RETRY


def test_a_leaf_without_a_life_is_our_own_fault() -> None:
    with pytest.raises(LocalProtocolError):
        schedule(0, 1)
