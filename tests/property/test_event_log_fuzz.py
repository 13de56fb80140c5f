"""Any bytes are refused as an event log with a typed reason, quickly, or they are one.

`--hypothesis-profile deep` samples more than 20,000 changes of each.
"""

from __future__ import annotations

import struct
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.quick import quickly
from support.tdx import quote

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence import rtmr
from toposeal.evidence.event_log import EventLog
from toposeal.evidence.log_reader import log_kind, read_event_log
from toposeal.evidence.log_text import describe
from toposeal.evidence.tcg_log import parse_ccel_table
from toposeal.limits import MAX_EVENT_LOG_SIZE, MAX_LOGGED_EVENTS
from toposeal.verification.event_log import compare
from toposeal_lab.eventlogs import (
    EV_IPL,
    Event,
    agent_event,
    agent_text,
    boot_events,
    ccel,
    ccel_table,
    dstack_event,
    dstack_log,
    specification,
)

MANY = settings(max_examples=max(500, settings.default.max_examples if settings.default else 0))
LIMIT_SECONDS, LIMIT_BYTES = 0.05, 10 << 20
LOGS = {
    "ccel": ccel(boot_events(), 900),
    "dstack": dstack_log([dstack_event("app-id", b"\1"), dstack_event("b", b"", version=2)]),
    "aael-text": agent_text(["domain operation content", "a b c"])[0],
    "aael-binary": b"".join(agent_event("a", "b", content).encode() for content in "cd"),
}


def read(data: bytes) -> EventLog | None:
    """The log, or None for a typed refusal. Anything else escapes, and so does a slow one."""

    def work() -> EventLog | None:
        try:
            log = read_event_log(data)
        except EvidenceError as refused:
            assert refused.reason is Reason.EVENT_LOG
            assert str(refused)
            return None
        for event in log.events:
            describe(event)
        return log

    return quickly(work, LIMIT_SECONDS)


def digests(log: EventLog) -> list[tuple[int | None, bytes]]:
    return [(event.register, event.digest) for event in log.events]


def changed(data: bytes, offset: int, bit: int) -> bytes:
    place = offset % len(data)
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


@pytest.mark.parametrize("name", LOGS)
def test_the_unchanged_logs_are_the_positive_control(name: str) -> None:
    assert read(LOGS[name])


@given(st.sampled_from(list(LOGS)), st.integers(0, 1 << 11), st.integers(0, 7))
@MANY
def test_E13_no_flipped_bit_makes_an_event_prove_other_words(name: str, offset: int, bit: int) -> None:
    """Where digests stay the same, so do the words that they prove."""
    log, genuine = read(changed(LOGS[name], offset, bit)), read(LOGS[name])
    assert genuine is not None
    if log is not None and log.initial == genuine.initial and digests(log) == digests(genuine):
        for new, old in zip(log.events, genuine.events, strict=True):
            assert not new.measured or new.data == old.data


@given(st.sampled_from(list(LOGS)), st.integers(0, 1 << 11), st.integers(0, 1 << 11), st.binary(max_size=80))
@MANY
def test_E14_a_cut_or_spliced_log_is_refused_or_another_log(
    name: str, start: int, end: int, middle: bytes
) -> None:
    read(LOGS[name][:start] + middle + LOGS[name][end:])


@pytest.mark.parametrize("name", LOGS)
def test_E14_no_truncation_replays_as_the_whole(name: str) -> None:
    genuine = read(LOGS[name])
    assert genuine is not None
    for end in range(len(LOGS[name])):
        log = read(LOGS[name][:end])
        if log is not None and end < genuine.used:
            assert len(log.events) < len(genuine.events)


@given(st.sampled_from(["ccel", "aael-binary"]), st.integers(0, 1 << 10), st.sampled_from([0, (1 << 32) - 1]))
@MANY
def test_E14_lengths_of_0_and_all_ones_are_refused_or_another_log(name: str, place: int, value: int) -> None:
    data = bytearray(LOGS[name])
    struct.pack_into("<I", data, place % (len(data) - 4), value)
    read(bytes(data))


@given(st.binary(max_size=2000))
def test_E14_arbitrary_bytes_are_no_log(data: bytes) -> None:
    for head in (b"", specification(), b"[", b'[{"imr":', b"INIT ", LOGS["aael-binary"][:20]):
        read(head + data)
    for table in (data, ccel_table()[:36] + data):
        try:
            parse_ccel_table(table)
        except EvidenceError as refused:
            assert refused.reason is Reason.EVENT_LOG


@given(st.binary(min_size=48, max_size=48), st.integers(0, 3))
def test_no_other_register_is_explained(value: bytes, index: int) -> None:
    log = read_event_log(LOGS["ccel"])
    honest = compare(quote(), [log]).registers
    values = list(honest)
    values[index] = value
    assert compare(quote(rtmr=tuple(values)), [log]).equal == (value == honest[index])


@given(st.permutations(range(4)))
def test_order_counts(order: list[int]) -> None:
    events = [Event(4, EV_IPL, bytes([n])) for n in range(4)]
    honest = rtmr.replay(rtmr.ZERO, [event.digest for event in events])
    log = read_event_log(ccel([events[n] for n in order]))
    assert (compare(quote(), [log]).registers[3] == honest) == (order == sorted(order))


def test_E14_the_largest_logs_are_read_quickly_and_take_little_memory() -> None:
    events = [Event(4, EV_IPL, b"x" * 380)] * MAX_LOGGED_EVENTS
    one = {name: value for name, value in dstack_event("name", b"\1" * 40).items() if name != "digest"}
    largest = [
        ccel(events),
        b"".join(agent_event("a", "b", "c" * 350).encode() for _ in range(MAX_LOGGED_EVENTS)),
        dstack_log([one] * MAX_LOGGED_EVENTS),
        agent_text(["a b " + "c" * 400] * (MAX_LOGGED_EVENTS - 1))[0],
        specification() + bytes(MAX_EVENT_LOG_SIZE - len(specification())),
        b"[" + b" " * (MAX_EVENT_LOG_SIZE - 2) + b"]",
    ]
    assert all(log_kind(data) and len(data) <= MAX_EVENT_LOG_SIZE for data in largest)
    tracemalloc.start()
    for data in largest:
        read_event_log(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < LIMIT_BYTES
    for data in largest:
        assert read(data)
        assert read(data + b"\1" * MAX_EVENT_LOG_SIZE) is None
        log = read_event_log(data)
        quickly(lambda log=log: compare(quote(), [replace(log, initial=None)]), LIMIT_SECONDS)  # type: ignore[misc]
