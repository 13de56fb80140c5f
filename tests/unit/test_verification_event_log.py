"""A log is believed only if all four registers of the quote are what it replays to."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from support.tdx import quote

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence import rtmr
from toposeal.evidence.event_log import EventLog
from toposeal.limits import MAX_EVENT_LOGS
from toposeal.verification.event_log import Replay, compare, read_logs, require_equal
from toposeal_lab.eventlogs import (
    EV_IPL,
    Event,
    agent_event,
    agent_text,
    boot_events,
    ccel,
    dstack_event,
    dstack_log,
    registers,
)

BOOT = boot_events()
RUNTIME = [agent_event("a", "b", "c"), agent_event("d", "e", "f")]


def logs(*files: bytes) -> tuple[EventLog, ...]:
    return read_logs(files)


def refused(replay: Replay, rtmr: tuple[bytes, ...]) -> set[str]:
    """The fields that the refusal names."""
    with pytest.raises(EvidenceError) as caught:
        require_equal(quote(rtmr=rtmr), replay)
    assert {each.reason for each in caught.value.mismatches} == {Reason.EVENT_LOG_REPLAY}
    return {each.field for each in caught.value.mismatches}


def test_a_log_that_replays_is_believed() -> None:
    found = quote(rtmr=registers(BOOT))
    replay = compare(found, logs(ccel(BOOT)))
    assert (replay.matches, replay.equal, replay.registers) == ((0, 1, 2, 3), True, registers(BOOT))
    require_equal(found, replay)


def test_a_log_of_another_boot_of_the_same_image_is_refused() -> None:
    """It agrees in what the firmware and the boot loader measured."""
    other = [*BOOT[:-1], Event(3, EV_IPL, b"kernel_cmdline: debug\0")]
    replay = compare(quote(rtmr=registers(BOOT)), logs(ccel(other)))
    assert (replay.matches, replay.equal) == ((0, 1, 3), False)
    assert refused(replay, rtmr=registers(BOOT)) == {"quote.rtmr2"}


@pytest.mark.parametrize("index", range(4))
def test_every_register_is_compared(index: int) -> None:
    values = list(registers(BOOT))
    values[index] = b"\1" * 48
    replay = compare(quote(rtmr=tuple(values)), logs(ccel(BOOT)))
    assert index not in replay.matches
    assert refused(replay, rtmr=tuple(values)) == {f"quote.rtmr{index}"}


def test_an_event_too_few_or_twice_or_in_other_order_is_refused() -> None:
    for wrong in (BOOT[1:], [*BOOT, BOOT[0]], [BOOT[1], BOOT[0], *BOOT[2:]]):
        assert compare(quote(rtmr=registers(BOOT)), logs(ccel(wrong))).matches == (1, 2, 3)


def test_logs_follow_each_other() -> None:
    found = quote(rtmr=registers(BOOT + RUNTIME))
    runtime = b"".join(event.encode() for event in RUNTIME)
    assert compare(found, logs(ccel(BOOT), runtime)).equal
    assert compare(found, logs(ccel(BOOT + RUNTIME))).equal
    assert compare(found, logs(ccel(BOOT))).matches == (0, 1, 2)
    assert compare(found, logs(runtime)).matches == (3,)


def test_an_agents_text_starts_where_the_logs_before_it_end() -> None:
    text, digests = agent_text(["a b c"])
    *first, last = registers(BOOT)
    found = quote(rtmr=(*first, rtmr.replay(last, digests)))
    assert compare(found, logs(ccel(BOOT), text)).equal
    late, digests = agent_text(["a b c"], b"\1" * 48)
    found = quote(rtmr=(*first, rtmr.replay(b"\1" * 48, digests)))
    with pytest.raises(EvidenceError) as caught:
        compare(found, logs(ccel(BOOT), late))
    assert caught.value.mismatches[0].field == "event_log.init"
    assert caught.value.reason is Reason.EVENT_LOG_REPLAY


def test_dstacks_events_are_named_only_once_all_is_equal() -> None:
    events = [dstack_event("app-id", b"\1"), dstack_event("system-ready", b"")]
    digests = [bytes.fromhex(str(event["digest"])) for event in events]
    value = rtmr.replay(rtmr.ZERO, digests)
    good = compare(quote(rtmr=(*[rtmr.ZERO] * 3, value)), logs(dstack_log(events)))
    assert good.summary() == {
        "eventlog": {
            "events": 2,
            "matches": [0, 1, 2, 3],
            "rtmr3_digests_ok": True,
            "rtmr3_events": ["app-id", "system-ready"],
        }
    }
    bad = compare(quote(rtmr=(b"\1" * 48, rtmr.ZERO, rtmr.ZERO, value)), logs(dstack_log(events)))
    assert bad.summary() == {"eventlog": {"events": 2, "matches": [1, 2, 3], "rtmr3_digests_ok": True}}
    foreign = {"imr": 3, "event_type": EV_IPL, "digest": "11" * 48, "event": "app-id", "event_payload": "01"}
    forged = compare(quote(), logs(dstack_log([foreign])))
    assert forged.summary()["eventlog"]["rtmr3_digests_ok"] is False


def test_a_summary_has_a_part_for_each_log() -> None:
    found = quote(rtmr=registers(BOOT + RUNTIME))
    summary = compare(found, logs(ccel(BOOT), b"".join(event.encode() for event in RUNTIME))).summary()
    assert summary["ccel"] == {
        "events": 5,
        "used_bytes": logs(ccel(BOOT))[0].used,
        "replayed": {f"rtmr{index}": value.hex() for index, value in enumerate(registers(BOOT + RUNTIME))},
        "matches": [0, 1, 2, 3],
    }
    assert summary["aael"] == {"events": 2, "matches": [0, 1, 2, 3]}
    assert json.dumps(summary)


def test_there_are_one_to_three_logs_each_of_its_own_kind() -> None:
    for files in ([], [b"[]"] * (MAX_EVENT_LOGS + 1), [ccel(BOOT), ccel(BOOT)], [b"no log"]):
        with pytest.raises(EvidenceError) as caught:
            read_logs(files)
        assert caught.value.reason is Reason.EVENT_LOG


def test_a_replay_is_a_value() -> None:
    replay = compare(quote(rtmr=registers(BOOT)), logs(ccel(BOOT)))
    assert not replace(replay, matches=(0, 1, 2)).equal
