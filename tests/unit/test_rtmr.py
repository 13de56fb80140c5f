"""The registers are extended as the TDX module does it, and the event of an instance is its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence import rtmr

IID = bytes(range(48))


def test_the_event_of_an_instance_is_tag_length_and_id() -> None:
    expected = hashlib.sha384(b"toposeal/v1/rtmr3" + b"\0\0\0\x30" + IID).digest()
    assert rtmr.instance_event(IID) == expected
    assert rtmr.instance_event(bytes(48)) != expected


def test_an_extension_is_the_digest_of_register_and_event() -> None:
    event = rtmr.instance_event(IID)
    assert rtmr.extend(rtmr.ZERO, event) == hashlib.sha384(bytes(48) + event).digest()
    assert rtmr.extend(event, rtmr.ZERO) != rtmr.extend(rtmr.ZERO, event)


def test_a_replay_extends_in_order_from_the_base() -> None:
    first, second = b"\1" * 48, b"\2" * 48
    assert rtmr.replay(IID, []) == IID
    assert rtmr.replay(IID, [first, second]) == rtmr.extend(rtmr.extend(IID, first), second)
    assert rtmr.replay(IID, [first, second]) != rtmr.replay(IID, [second, first])


@pytest.mark.parametrize("size", [0, 1, 47, 49, 96])
def test_another_length_is_refused(size: int) -> None:
    wrong, right = bytes(size), bytes(48)
    calls: list[Callable[[], bytes]] = [
        lambda: rtmr.instance_event(wrong),
        lambda: rtmr.extend(wrong, right),
        lambda: rtmr.extend(right, wrong),
        lambda: rtmr.replay(wrong, []),
        lambda: rtmr.replay(right, [right, wrong]),
    ]
    for call in calls:
        with pytest.raises(EvidenceError) as caught:
            call()
        assert caught.value.reason is Reason.MALFORMED
