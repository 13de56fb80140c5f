"""The log of Confidential Containers' attestation agent (AAEL), in both forms that the field has. No IO.

Text: one event a line, `domain operation content`, whose digest is that of the line without its end. The
first line, `INIT sha384/HEX`, tells what the register was and is extended itself. Binary, by later agents:
TCG_PCR_EVENT2 structures of type EV_EVENT_TAG without a specification event, tagged `AAEL`; appended to
the firmware's log they are part of that. The text form does not name its register. The agent's default,
PCR 17, is RTMR[3] (guest-components, attester/src/tdx, pcr_to_ccmr).
"""

from __future__ import annotations

import hashlib
import re

from toposeal.evidence.event_log import EV_EVENT_TAG, EventLog, LoggedEvent, LogKind, refusal
from toposeal.evidence.tcg_log import parse_bare_events
from toposeal.limits import MAX_EVENT_LOG_SIZE, MAX_LOGGED_EVENTS

TAG = 0x4141454C  # "AAEL"
RUNTIME_REGISTER = 3
INIT = b"INIT "
_TAG_HEADER = 8  # u32 id, u32 size
_INIT = re.compile(rb"INIT sha384/([0-9a-f]{96})")
_ENTRY = re.compile(rb"[!-~]+ [!-~]+ [^\0-\x1f\x7f]+")


def parse_aael(data: bytes) -> EventLog:
    """Parse either form, at most MAX_EVENT_LOG_SIZE bytes and MAX_LOGGED_EVENTS events.

    Raises EvidenceError(EVENT_LOG).
    """
    if len(data) > MAX_EVENT_LOG_SIZE:
        raise refusal("size", f"{len(data)} bytes", f"at most {MAX_EVENT_LOG_SIZE}")
    return _parse_text(data) if data.startswith(INIT) else _parse_binary(data)


def entry_of(event: LoggedEvent) -> str | None:
    """The agent's line in `event` of either form, or None for an event of another's."""
    data = event.data
    if event.event_type == EV_EVENT_TAG:
        if len(data) < _TAG_HEADER or int.from_bytes(data[:4], "little") != TAG:
            return None
        data = data[_TAG_HEADER:]
    elif event.event_type or not event.measured:
        return None
    return data.decode("utf-8", "replace")


def _parse_text(data: bytes) -> EventLog:
    if not data.endswith(b"\n"):
        raise refusal("text", "no end of line", "whole lines")
    lines = data[:-1].split(b"\n")
    if len(lines) > MAX_LOGGED_EVENTS:
        raise refusal("events", len(lines), f"at most {MAX_LOGGED_EVENTS}")
    first = _INIT.fullmatch(lines[0])
    if first is None:
        raise refusal("init", lines[0], "INIT sha384/ and 48 bytes, lower-case hexadecimal")
    for number, line in enumerate(lines[1:], 1):
        _check_entry(line, f"events[{number}]")
    events = tuple(
        LoggedEvent(RUNTIME_REGISTER, 0, hashlib.sha384(line).digest(), line, measured=True) for line in lines
    )
    return EventLog(LogKind.AAEL, events, len(data), initial=bytes.fromhex(first[1].decode("ascii")))


def _parse_binary(data: bytes) -> EventLog:
    events = parse_bare_events(data)
    if not events:
        raise refusal("events", "none", "the agent's")
    for number, event in enumerate(events):
        field, text = f"events[{number}]", event.data[_TAG_HEADER:]
        if event.event_type != EV_EVENT_TAG or entry_of(event) is None:
            raise refusal(field, event.type_name, "EV_EVENT_TAG of the agent")
        if int.from_bytes(event.data[4:_TAG_HEADER], "little") != len(text):
            raise refusal(f"{field}.taggedEventDataSize", event.data[4:_TAG_HEADER], len(text))
        if not event.measured:
            raise refusal(f"{field}.digest", event.digest, "that of the tagged event")
        _check_entry(text, field)
    return EventLog(LogKind.AAEL, events, len(data))


def _check_entry(line: bytes, field: str) -> None:
    """Domain and operation without space, content without control characters, all of it UTF-8."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise refusal(field, error, "UTF-8") from error
    if _ENTRY.fullmatch(line) is None:
        raise refusal(field, line, "domain operation content")
