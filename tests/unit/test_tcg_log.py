"""Firmware's log is read within its bounds, to its end and no further, or refused."""

from __future__ import annotations

import struct

import pytest

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.event_log import EVENT_TYPES, LogKind
from toposeal.evidence.tcg_log import parse_bare_events, parse_ccel_table, parse_tcg_log
from toposeal.limits import MAX_EVENT_LOG_SIZE, MAX_LOGGED_EVENTS
from toposeal_lab.eventlogs import (
    EV_IPL,
    EV_NO_ACTION,
    SHA1,
    SHA256,
    SHA384,
    Event,
    boot_events,
    ccel,
    ccel_table,
    specification,
)

BOTH = specification(((SHA1, 20), (SHA384, 48)))
ONE = Event(1, EV_IPL, b"one")


def refused(data: bytes) -> str:
    with pytest.raises(EvidenceError) as caught:
        parse_tcg_log(data)
    assert caught.value.reason is Reason.EVENT_LOG
    return str(caught.value)


def test_a_log_gives_its_events_in_order() -> None:
    log = parse_tcg_log(ccel(boot_events()))
    assert log.kind is LogKind.CCEL
    assert [event.register for event in log.events] == [0, 0, 1, None, 2]
    assert [event.data for event in log.events] == [event.data for event in boot_events()]
    assert [event.digest for event in log.events] == [
        b"" if event.kind == EV_NO_ACTION else event.digest for event in boot_events()
    ]
    assert log.used == len(specification()) + sum(len(event.encode()) for event in boot_events())
    assert log.initial is None


def test_what_an_event_tells_is_proven_only_by_its_own_digest() -> None:
    assert [event.measured for event in parse_tcg_log(ccel(boot_events())).events] == [
        *(True, True, False, False, False)
    ]


def test_types_have_the_names_of_tcg() -> None:
    names = [event.type_name for event in parse_tcg_log(ccel([*boot_events(), Event(4, 0x99, b"")])).events]
    assert names[:2] == ["EV_EFI_VARIABLE_DRIVER_CONFIG", "EV_SEPARATOR"]
    assert names[-1] == "0x00000099"
    assert EVENT_TYPES[0x800000E0] == "EV_EFI_VARIABLE_AUTHORITY"


@pytest.mark.parametrize(
    "tail", [b"", b"\0", bytes(3), bytes(64), b"\xff" * 4, b"\xff" * 999, b"\xff" * 4 + bytes(99)]
)
def test_the_log_ends_with_its_bytes_or_in_filling(tail: bytes) -> None:
    log = parse_tcg_log(specification() + ONE.encode() + tail)
    assert (len(log.events), log.used) == (1, len(specification()) + len(ONE.encode()))


def test_an_event_behind_the_terminator_is_refused() -> None:
    head = specification() + ONE.encode()
    assert "terminator" in refused(head + b"\xff" * 4 + ONE.encode())
    assert "terminator" in refused(head + b"\xff" * 4 + b"\0\xff")
    # Zeros are an end only if nothing else follows: this is an event of index 0.
    assert "pcrIndex" in refused(
        head + bytes(8) + struct.pack("<IH", 1, SHA384) + bytes(48) + struct.pack("<I", 1) + b"x"
    )


def test_algorithms_besides_sha384_are_passed_over_and_checked() -> None:
    both = Event(1, EV_IPL, b"x", ((SHA1, b"\1" * 20), (SHA384, b"\2" * 48)))
    assert parse_tcg_log(BOTH + both.encode()).events[0].digest == b"\2" * 48
    alone = Event(1, EV_IPL, b"x", ((SHA1, b"\1" * 20),))
    assert "no SHA-384" in refused(BOTH + alone.encode())
    twice = Event(1, EV_IPL, b"x", ((SHA384, b"\2" * 48),) * 2)
    assert "hashAlg" in refused(BOTH + twice.encode())
    strange = Event(1, EV_IPL, b"x", ((SHA256, b"\2" * 32),))
    assert "hashAlg" in refused(BOTH + strange.encode())
    assert "digests.count" in refused(specification() + twice.encode())
    assert "digests.count" in refused(specification() + Event(1, EV_IPL, b"x", ()).encode())


@pytest.mark.parametrize("index", [0, 5, 255, (1 << 32) - 2])
def test_an_index_is_that_of_an_rtmr(index: int) -> None:
    assert "pcrIndex" in refused(specification() + Event(index, EV_IPL, b"x").encode())


def test_an_event_without_action_may_name_any_register_and_extends_none() -> None:
    event = Event(0, EV_NO_ACTION, b"x", ((SHA384, b"\1" * 48),))
    assert parse_tcg_log(specification() + event.encode()).events[0].digest == b""


@pytest.mark.parametrize("length", [4, 1000, (1 << 32) - 1])
def test_E14_an_event_lies_inside_the_log(length: int) -> None:
    head = specification() + ONE.encode()[:-7]
    assert parse_tcg_log(head + struct.pack("<I", 3) + b"one").events[0].data == b"one"
    assert parse_tcg_log(head + struct.pack("<I", 0)).events[0].data == b""
    assert "event[" not in refused(head + struct.pack("<I", length) + b"one")


def test_E14_every_truncation_is_refused_or_shorter() -> None:
    whole = specification() + ONE.encode()
    for end in range(len(whole)):
        if end == len(specification()):
            assert parse_tcg_log(whole[:end]).events == ()
        else:
            # A first event that is cut after zeros alone would be filling; index 1 is not.
            refused(whole[:end])


@pytest.mark.parametrize(
    ("offset", "value", "field"),
    [
        (0, 5, "specification"),
        (4, 4, "specification"),
        (8, 1, "specification"),
        (28, 36, "specification"),
        (28, 38, "specification"),
        (32, 0x20202020, "signature"),
        (56, 0, "numberOfAlgorithms"),
        (56, 2, "digestSizes"),
        (56, 9, "numberOfAlgorithms"),
        (56, (1 << 32) - 1, "numberOfAlgorithms"),
        (60, SHA384 | 47 << 16, "digestSizes"),
        (60, SHA384, "digestSizes"),
        (60, SHA256 | 32 << 16, "no SHA-384"),
        (60, 0x0099 | 65 << 16, "digestSizes"),
        (60, 0x0099, "digestSizes"),
        (28, (1 << 32) - 1, "specification.event"),
    ],
)
def test_the_specification_event_is_exact(offset: int, value: int, field: str) -> None:
    data = bytearray(specification() + ONE.encode())
    assert parse_tcg_log(bytes(data)).events
    struct.pack_into("<I", data, offset, value)
    assert field in refused(bytes(data))


def test_algorithms_of_the_specification_stand_once_and_have_their_size() -> None:
    assert parse_tcg_log(specification(((0x99, 1), (SHA384, 48)), b"vendor")).events == ()
    assert "digestSizes" in refused(specification(((SHA384, 48), (SHA384, 48))))


def test_sizes_are_bounded() -> None:
    many = [Event(1, EV_IPL, b"")] * (MAX_LOGGED_EVENTS + 1)
    assert len(parse_tcg_log(ccel(many[1:])).events) == MAX_LOGGED_EVENTS
    assert f"at most {MAX_LOGGED_EVENTS}" in refused(ccel(many))
    assert parse_tcg_log(ccel([], MAX_EVENT_LOG_SIZE)).events == ()
    assert "size" in refused(ccel([], MAX_EVENT_LOG_SIZE + 1))


def test_bare_events_have_no_specification() -> None:
    assert [event.data for event in parse_bare_events(ONE.encode() * 2)] == [b"one"] * 2
    assert parse_bare_events(b"") == ()
    with pytest.raises(EvidenceError):
        parse_bare_events(specification())


def test_the_table_says_where_the_log_is() -> None:
    table = parse_ccel_table(ccel_table())
    assert (table.revision, table.oem_id, table.cc_type, table.cc_subtype) == (1, "LAB", 2, 0)
    assert (table.log_area_minimum_length, table.log_area_start_address) == (65536, 0x7E000000)


def test_another_table_is_refused() -> None:
    good = ccel_table()
    swapped = bytes([good[4]]) + good[1:4] + good[:1] + good[5:]  # the same sum
    longer = good[:4] + b"\x39" + good[5:9] + bytes([good[9] - 1 & 0xFF]) + good[10:]
    for bad, field in (
        (good[:-1], "table"),
        (good + b"\0", "table"),
        (swapped, "table.signature"),
        (longer, "table.length"),
        (good[:-1] + b"\1", "table.checksum"),
        (ccel_table(cc_type=1), "table.cc_type"),
    ):
        with pytest.raises(EvidenceError) as caught:
            parse_ccel_table(bad)
        assert caught.value.mismatches[0].field == f"event_log.{field}"
