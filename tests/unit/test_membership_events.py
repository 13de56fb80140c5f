"""Events as whoever prints one sees them."""

from __future__ import annotations

from toposeal.membership.events import Timer


def test_F4_entropy_is_in_no_representation() -> None:
    assert repr(Timer(bytes(range(64)))) == "Timer()"
