"""dstack's events have the digests that their words make, or are refused."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.dstack_log import parse_dstack_log
from toposeal.evidence.event_log import LogKind
from toposeal.limits import MAX_EVENT_LOG_SIZE, MAX_LOGGED_EVENTS
from toposeal_lab.eventlogs import EV_NO_ACTION, EV_SEPARATOR, dstack_event, dstack_log

RUNTIME = dstack_event("app-id", b"\xde\xad")
FIRMWARE: dict[str, object] = {
    "imr": 0,
    "event_type": EV_SEPARATOR,
    "digest": hashlib.sha384(bytes(4)).hexdigest(),
    "event": "",
    "event_payload": "00000000",
}


def refused(data: bytes) -> str:
    with pytest.raises(EvidenceError) as caught:
        parse_dstack_log(data)
    assert caught.value.reason is Reason.EVENT_LOG
    return str(caught.value)


def changed(**members: Any) -> bytes:
    return dstack_log([RUNTIME | members])


def test_a_log_gives_its_events_in_order() -> None:
    data = dstack_log([FIRMWARE, RUNTIME])
    log = parse_dstack_log(data)
    assert (log.kind, log.used, log.initial) == (LogKind.DSTACK, len(data), None)
    assert [(event.register, event.name, event.data) for event in log.events] == [
        (0, "", bytes(4)),
        (3, "app-id", b"\xde\xad"),
    ]
    assert all(event.measured for event in log.events)
    assert parse_dstack_log(b" [ ]\n").events == ()


def test_a_digest_may_be_left_out_where_words_make_it() -> None:
    """As tdx-lite does."""
    whole = parse_dstack_log(dstack_log([RUNTIME])).events
    without = {name: value for name, value in RUNTIME.items() if name != "digest"}
    assert parse_dstack_log(dstack_log([without])).events == whole
    assert parse_dstack_log(changed(digest="")).events == whole


def test_a_digest_of_other_words_is_refused() -> None:
    assert "digest" in refused(changed(event="app-ID"))
    assert "digest" in refused(changed(event_payload="dead00"))
    assert "digest" in refused(changed(digest="00" * 48))
    assert "digest" in refused(changed(version=2))


def test_the_second_version_is_canonical_json() -> None:
    for name in ("compose-hash", 'a"\\\n\x08\x01é漢😀'):
        event = dstack_event(name, b"\xab", version=2)
        parsed = parse_dstack_log(json.dumps([event]).encode()).events[0]
        assert parsed.digest.hex() == event["digest"]
    plain = b'{"event":"compose-hash","event_type":134217729,"payload":"ab","version":2}'
    event = dstack_event("compose-hash", b"\xab", version=2)
    assert event["digest"] == hashlib.sha384(plain).hexdigest()


def test_the_preimage_may_be_told_and_has_to_be_right() -> None:
    preimage = b"\1\0\0\x08:app-id:\xde\xad"
    assert parse_dstack_log(changed(hash_input=preimage.hex(), version=1)).events[0].measured
    assert parse_dstack_log(changed(hash_input=None)).events[0].measured
    assert "hash_input" in refused(changed(hash_input="00"))
    assert "hash_input" in refused(changed(hash_input=7))


def test_firmware_needs_its_digest() -> None:
    assert "firmware" in refused(dstack_log([FIRMWARE | {"digest": ""}]))
    assert "47 bytes" in refused(dstack_log([FIRMWARE | {"digest": "00" * 47}]))
    stripped = parse_dstack_log(dstack_log([FIRMWARE | {"event_payload": ""}])).events[0]
    assert not stripped.measured


def test_an_event_without_action_extends_nothing() -> None:
    event = parse_dstack_log(dstack_log([FIRMWARE | {"event_type": EV_NO_ACTION}])).events[0]
    assert (event.register, event.digest) == (None, b"")


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("imr", 4),
        ("imr", -1),
        ("imr", True),
        ("imr", "3"),
        ("imr", (1 << 32) - 1),
        ("event_type", 1 << 32),
        ("event_type", None),
        ("event", 3),
        ("event", "\ud800"),
        ("event_payload", "DEAD"),
        ("event_payload", "dea"),
        ("event_payload", 7),
        ("digest", None),
        ("version", 0),
        ("version", 3),
        ("version", "2"),
        ("further", 1),
    ],
)
def test_members_are_exact(member: str, value: object) -> None:
    refused(changed(**{member: value}))


@pytest.mark.parametrize("member", ["imr", "event_type", "event", "event_payload"])
def test_members_are_all_there(member: str) -> None:
    refused(dstack_log([{name: value for name, value in RUNTIME.items() if name != member}]))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[1]",
        b"[[]]",
        b"[",
        b"\xff",
        b"[1.5]",
        b"[NaN]",
        b'[{"imr": 1, "imr": 1}]',
        b"[" * 5000,
        b"[" + b"9" * 5000 + b"]",
    ],
)
def test_E14_other_json_is_refused(data: bytes) -> None:
    refused(data)


def test_sizes_are_bounded() -> None:
    one = {name: value for name, value in RUNTIME.items() if name != "digest"}
    assert len(parse_dstack_log(dstack_log([one] * MAX_LOGGED_EVENTS)).events) == MAX_LOGGED_EVENTS
    assert "at most" in refused(dstack_log([one] * (MAX_LOGGED_EVENTS + 1)))
    assert "size" in refused(b" " * MAX_EVENT_LOG_SIZE + b"[]")
