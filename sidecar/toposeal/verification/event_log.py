"""Event logs beside a quote: every register replayed and compared, and only then believed. No IO.

Logs of one image at another boot agree on RTMR[0] and RTMR[1] and not on RTMR[2], so all four are compared,
those included in which no log has an event. Several logs follow each other: the firmware's, then the
runtime's. The quote's own authenticity is judged elsewhere; without it this proves nothing.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from toposeal.errors import EvidenceError, Mismatch, Reason, printable
from toposeal.evidence import rtmr
from toposeal.evidence.event_log import EventLog, LogKind, refusal
from toposeal.evidence.log_reader import read_event_log
from toposeal.evidence.tdx_quote import TdxQuote
from toposeal.limits import MAX_EVENT_LOGS

_RUNTIME = 3


@dataclass(frozen=True)
class Replay:
    """Logs, what they make of the registers, and which of these the quote has. `compare` makes it."""

    logs: tuple[EventLog, ...]
    registers: tuple[bytes, ...]  # RTMR[0] to RTMR[3], 48 bytes each
    matches: tuple[int, ...]

    @property
    def equal(self) -> bool:
        """Whether all four are the quote's: then the logs tell what was extended."""
        return len(self.matches) == rtmr.REGISTERS

    def summary(self) -> dict[str, Any]:
        """For JSON: what can be said of logs, under the name of each kind. Events' own words stand in
        it only if all registers are equal."""
        return {log.kind.value: _SUMMARIES[log.kind](self, log) for log in self.logs}


def read_logs(files: Sequence[bytes]) -> tuple[EventLog, ...]:
    """Parse 1 to MAX_EVENT_LOGS logs, each of another kind. Raises EvidenceError(EVENT_LOG)."""
    if not 1 <= len(files) <= MAX_EVENT_LOGS:
        raise refusal("files", len(files), f"1 to {MAX_EVENT_LOGS}")
    logs = tuple(read_event_log(data) for data in files)
    if len({log.kind for log in logs}) != len(logs):
        raise refusal("kind", ", ".join(log.kind for log in logs), "each kind once")
    return logs


def compare(quote: TdxQuote, logs: Sequence[EventLog]) -> Replay:
    """Replay `logs` in their order from registers of zero.

    Raises EvidenceError(EVENT_LOG_REPLAY) for a log that starts from another state of RTMR[3] than the
    logs before it end in: something was extended that no log tells.
    """
    registers = [rtmr.ZERO] * rtmr.REGISTERS
    for log in logs:
        if log.initial is not None and log.initial != registers[_RUNTIME]:
            found = registers[_RUNTIME].hex()
            raise EvidenceError.of(Reason.EVENT_LOG_REPLAY, "event_log.init", log.initial, found)
        for event in log.events:
            if event.register is not None:
                registers[event.register] = rtmr.extend(registers[event.register], event.digest)
    matches = tuple(
        index for index, value in enumerate(registers) if hmac.compare_digest(value, _quoted(quote, index))
    )
    return Replay(tuple(logs), tuple(registers), matches)


def require_equal(quote: TdxQuote, replay: Replay) -> None:
    """Raise EvidenceError(EVENT_LOG_REPLAY) with every register of `quote` that the logs do not give."""
    wrong = [
        Mismatch(
            Reason.EVENT_LOG_REPLAY,
            f"quote.rtmr{index}",
            printable(_quoted(quote, index)),
            f"{value.hex()}, which the log replays to",
        )
        for index, value in enumerate(replay.registers)
        if index not in replay.matches
    ]
    if wrong:
        raise EvidenceError(*wrong)


def _quoted(quote: TdxQuote, index: int) -> bytes:
    return (quote.rtmr0, quote.rtmr1, quote.rtmr2, quote.rtmr3)[index]


def _ccel(replay: Replay, log: EventLog) -> dict[str, Any]:
    replayed = {f"rtmr{index}": value.hex() for index, value in enumerate(replay.registers)}
    head = {"events": len(log.events), "used_bytes": log.used}
    return {**head, "replayed": replayed, "matches": list(replay.matches)}


def _dstack(replay: Replay, log: EventLog) -> dict[str, Any]:
    summary: dict[str, Any] = {"events": len(log.events), "matches": list(replay.matches)}
    runtime = [event for event in log.events if event.register == _RUNTIME]
    # False too for an event of another type there, whose digest is not that of its words.
    summary["rtmr3_digests_ok"] = all(event.measured for event in runtime)
    if replay.equal:
        summary["rtmr3_events"] = [event.name for event in runtime]
    return summary


def _aael(replay: Replay, log: EventLog) -> dict[str, Any]:
    return {"events": len(log.events), "matches": list(replay.matches)}


_SUMMARIES = {LogKind.CCEL: _ccel, LogKind.DSTACK: _dstack, LogKind.AAEL: _aael}
