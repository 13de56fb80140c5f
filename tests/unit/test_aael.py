"""The attestation agent's log, both its forms, exactly as agents write them."""

from __future__ import annotations

import hashlib
import struct

import pytest

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.aael import entry_of, parse_aael
from toposeal.evidence.event_log import LoggedEvent, LogKind
from toposeal.evidence.tcg_log import parse_tcg_log
from toposeal.limits import MAX_EVENT_LOG_SIZE, MAX_LOGGED_EVENTS
from toposeal_lab.eventlogs import AAEL_TAG, EV_EVENT_TAG, EV_IPL, Event, agent_event, agent_text, ccel

PULL = 'github.com/confidential-containers PullImage {"image":"alpine","digest":"sha256:00"}'
ONE = agent_event("domain", "operation", "content")


def refused(data: bytes) -> str:
    with pytest.raises(EvidenceError) as caught:
        parse_aael(data)
    assert caught.value.reason is Reason.EVENT_LOG
    return str(caught.value)


def test_text_gives_the_start_and_a_digest_of_each_line() -> None:
    data, digests = agent_text([PULL, "a b c d"], b"\1" * 48)
    log = parse_aael(data)
    assert (log.kind, log.used, log.initial) == (LogKind.AAEL, len(data), b"\1" * 48)
    assert [event.digest for event in log.events] == digests
    assert {event.register for event in log.events} == {3}
    assert [entry_of(event) for event in log.events][1:] == [PULL, "a b c d"]


def test_digests_are_those_of_the_agents_own_tests() -> None:
    text = parse_aael(agent_text(["domain operation content"])[0]).events[1]
    assert text.digest.hex().startswith("26d944cb8d99096590252283b8c807b9508329b068703bdb")
    binary = parse_aael(ONE.encode()).events[0]
    assert binary.digest.hex().startswith("dad5f0e226318ffa9839b75a472c6aa7fdb5834949d0a0a2")


def test_an_entry_is_laid_out_as_in_a_log_from_the_field() -> None:
    """One of Alibaba Cloud's, as Confidential Containers' trustee keeps it."""
    data = b"LEAA\x24\0\0\0coco.com some-operation some-content"
    event = parse_aael(agent_event("coco.com", "some-operation", "some-content").encode()).events[0]
    assert (event.data, event.register) == (data, 3)
    assert event.digest.hex().startswith("2330183d89750c6a374ac9827d33a33636e7876733544584")


def test_binary_gives_each_entry_and_its_register() -> None:
    data = ONE.encode() + agent_event("x", "y", "z z", index=3).encode()
    log = parse_aael(data)
    assert (log.kind, log.used, log.initial) == (LogKind.AAEL, len(data), None)
    assert [event.register for event in log.events] == [3, 2]
    assert [entry_of(event) for event in log.events] == ["domain operation content", "x y z z"]


def test_an_entry_in_the_firmwares_log_is_the_agents_too() -> None:
    linux = Event(3, EV_EVENT_TAG, struct.pack("<II", 0x8F3B22ED, 5) + b"Linux", None)
    events = parse_tcg_log(ccel([Event(1, EV_IPL, b"x"), linux, ONE])).events
    assert [entry_of(event) for event in events] == [None, None, "domain operation content"]
    assert entry_of(LoggedEvent(3, EV_EVENT_TAG, bytes(48), b"LEAA")) is None
    assert entry_of(LoggedEvent(3, 0, bytes(48), b"not measured")) is None


@pytest.mark.parametrize(
    "line",
    [
        "",
        "domain",
        "domain operation",
        "domain operation ",
        " domain operation content",
        "domain  operation content",
        "do\tmain operation content",
        "domain operation con\ttent",
        "domain operation content\r",
        "dömain operation content",
    ],
)
def test_another_line_is_refused(line: str) -> None:
    parse_aael(agent_text(["domain operation cöntent"])[0])
    refused(agent_text([line])[0])


@pytest.mark.parametrize(
    "first",
    [
        b"INIT sha256/" + b"00" * 32,
        b"INIT sha384/" + b"00" * 47,
        b"INIT sha384/" + b"00" * 49,
        b"INIT sha384/" + b"AB" * 48,
        b"INIT  sha384/" + b"00" * 48,
        b"INIT sha384/" + b"00" * 48 + b" ",
        b"INIT ",
    ],
)
def test_another_start_is_refused(first: bytes) -> None:
    assert "init" in refused(first + b"\na b c\n")


def test_text_has_whole_lines_of_utf8() -> None:
    data = agent_text(["a b c"])[0]
    assert "whole lines" in refused(data[:-1])
    refused(data + b"\n")
    assert "UTF-8" in refused(data + b"a b \xff\n")


def test_binary_is_the_agents_alone() -> None:
    other = Event(4, EV_IPL, b"x").encode()
    untagged = Event(4, EV_EVENT_TAG, b"short").encode()
    foreign = Event(4, EV_EVENT_TAG, struct.pack("<II", 1, 1) + b"x").encode()
    for each in (other, untagged, foreign):
        assert "EV_EVENT_TAG of the agent" in refused(ONE.encode() + each)
    line = b"a b c"
    short = Event(4, EV_EVENT_TAG, struct.pack("<II", AAEL_TAG, 4) + line)
    assert "taggedEventDataSize" in refused(short.encode())
    bare = Event(4, EV_EVENT_TAG, struct.pack("<II", AAEL_TAG, 5) + line)
    assert parse_aael(bare.encode()).events
    forged = Event(4, bare.kind, bare.data, ((0x0C, hashlib.sha384(line).digest()),))
    assert "that of the tagged event" in refused(forged.encode())
    assert "domain operation content" in refused(agent_event("a", "b", "").encode())
    odd = Event(4, EV_EVENT_TAG, struct.pack("<II", AAEL_TAG, 5) + b"a b \xff")
    assert "UTF-8" in refused(odd.encode())
    assert "none" in refused(b"")


def test_sizes_are_bounded() -> None:
    most = agent_text(["a b c"] * (MAX_LOGGED_EVENTS - 1))[0]
    assert len(parse_aael(most).events) == MAX_LOGGED_EVENTS
    assert "at most" in refused(most + b"a b c\n")
    assert "size" in refused(b"INIT " + b"x" * MAX_EVENT_LOG_SIZE)
