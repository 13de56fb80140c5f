"""Event logs in `toposeal evidence`: shown as a table, or replayed beside the quote that they come with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from toposeal.errors import EvidenceError, printable
from toposeal.evidence import rtmr
from toposeal.evidence.event_log import EventLog, LoggedEvent, LogKind, refusal
from toposeal.evidence.kind import EvidenceKind
from toposeal.evidence.log_reader import log_kind, read_event_log
from toposeal.evidence.log_text import describe
from toposeal.evidence.tcg_log import CCEL_SIGNATURE, CCEL_TABLE_SIZE, parse_ccel_table
from toposeal.evidence.tdx_quote import parse_tdx_quote
from toposeal.host.files import read_once
from toposeal.limits import MAX_EVENT_LOG_SIZE
from toposeal.verification.event_log import Replay, compare, read_logs, require_equal
from toposeal.verification.evidence_check import Judgement

_SHOWN = 100  # characters of one event
_DIGEST_SHOWN = 16  # hexadecimal digits: JSON has all of them
_HINT = "nothing here is proven: toposeal evidence verify QUOTE --event-log FILE compares it with a quote"


@dataclass(frozen=True)
class Logged:
    """What logs add to a verdict: nothing when none were given."""

    replay: Replay | None = None
    refusals: tuple[EvidenceError, ...] = ()

    def judged(self, judgement: Judgement) -> Judgement:
        """The verdict with what the logs have against it; it stays authentic if it was."""
        return replace(judgement, refusals=(*judgement.refusals, *self.refusals))

    def as_json(self, judgement: Judgement) -> dict[str, Any]:
        """Members of the verdict; the events themselves only if all of it is accepted: the host of a guest
        that it may debug writes registers as it likes."""
        if self.replay is None:
            return {}
        members = self.replay.summary()
        if judgement.acceptable:
            members["event_log"] = [_row(log.kind, e) for log in self.replay.logs for e in log.events]
        return members

    def notes(self) -> Iterator[str]:
        """For people, on an authentic quote."""
        if self.replay is not None and self.replay.equal:
            for log in self.replay.logs:
                yield f"{len(log.events)} events of {log.kind.value} replay to the registers of the quote"


def add_option(add: Callable[..., object]) -> None:
    text = "TDX: CCEL, dstack's log or the attestation agent's; several in their order"
    add("--event-log", metavar="FILE", action="append", help=text)


def check(kind: EvidenceKind | None, data: bytes, paths: Sequence[str] | None) -> Logged:
    """Replay the logs at `paths` beside the quote `data`. Raises UsageError for files that cannot be read."""
    files = [read_once(path, MAX_EVENT_LOG_SIZE) for path in paths or ()]
    if not files:
        return Logged()
    try:
        if kind is not EvidenceKind.TDX:
            raise refusal("kind", kind or "unknown evidence", "a TDX quote: nothing else has such registers")
        quote, logs = parse_tdx_quote(data), read_logs(files)
        found = compare(quote, logs)
    except EvidenceError as error:
        return Logged(None, (error,))
    try:
        require_equal(quote, found)
    except EvidenceError as error:
        return Logged(found, (error,))
    return Logged(found)


def show(data: bytes, as_json: bool) -> bool:
    """Print `data` if it is an event log, or ACPI's table of one; returns whether it is.

    Raises EvidenceError where it cannot be read.
    """
    if data.startswith(CCEL_SIGNATURE) and len(data) == CCEL_TABLE_SIZE:
        _print_table(asdict(parse_ccel_table(data)), as_json)
    elif log_kind(data) is not None:
        _print_log(read_event_log(data), as_json)
    else:
        return False
    return True


def _print_table(table: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"kind": "ccel_table", "fields": table}))
        return
    for name, value in {"kind": "ccel_table", **table}.items():
        print(f"{name:<24}{printable(value)}")


def _print_log(log: EventLog, as_json: bool) -> None:
    rows, values = [_row(log.kind, event) for event in log.events], _replayed(log)
    if as_json:
        head = {"kind": log.kind.value, "used_bytes": log.used}
        print(json.dumps({**head, "replayed": values, "events": rows}))
        return
    print(f"kind {log.kind.value}, {len(log.events)} events, {log.used} bytes")
    width = max((len(event.type_name) for event in log.events), default=0)
    for number, event in enumerate(log.events):
        register = "-" if event.register is None else event.register
        digest = event.digest.hex()[:_DIGEST_SHOWN] or "-"
        mark = "=" if event.measured else " "
        line = f"{number:>4}  rtmr{register}  {event.type_name:<{width}}  {digest:<{_DIGEST_SHOWN}} {mark} "
        print(f"{line}{printable(describe(event), _SHOWN)}")
    for name, value in values.items():
        print(f"{name}  {value}")
    print("= marks events whose digest is that of what they say")
    print(_HINT)


def _replayed(log: EventLog) -> dict[str, str]:
    """What the registers would be if nothing but this log had extended them."""
    values = [rtmr.ZERO] * rtmr.REGISTERS
    if log.initial is not None:
        values[-1] = log.initial
    for event in log.events:
        if event.register is not None:
            values[event.register] = rtmr.extend(values[event.register], event.digest)
    return {f"rtmr{index}": value.hex() for index, value in enumerate(values)}


def _row(kind: LogKind, event: LoggedEvent) -> dict[str, Any]:
    """One event under the names that its log has for things, then our own reading of it."""
    digest, data = event.digest.hex(), event.data.hex()
    if kind is LogKind.DSTACK:
        told: dict[str, Any] = {"event_type": event.event_type, "digest": digest, "event": event.name}
        told["event_payload"] = data
    elif event.event_type:
        told = {"eventType": event.type_name, "digest": digest, "eventSize": len(event.data), "event": data}
    else:
        told = {"digest": digest, "event": event.data.decode("utf-8")}
    return {"rtmr": event.register, **told, "measured": event.measured, "text": printable(describe(event))}
