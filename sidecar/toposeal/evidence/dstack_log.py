"""dstack's event log: a JSON array of events, registers counted from 0. No IO.

Format: dstack's cc-eventlog (TdxEvent). The digest of a runtime event is made from its name and payload,
version 1 as `type u32 LE ":" name ":" payload`, version 2 as canonical JSON (RFC 8785); it is computed
here whether the log tells it or not. Firmware's events carry digests that their payload does not make.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from toposeal import strict_json
from toposeal.evidence import rtmr
from toposeal.evidence.event_log import EV_NO_ACTION, EventLog, LoggedEvent, LogKind, refusal
from toposeal.limits import DIGEST_SIZE, MAX_EVENT_LOG_SIZE, MAX_LOGGED_EVENTS

RUNTIME_EVENT = 0x08000001
_MAX_TYPE = (1 << 32) - 1
_HEX = re.compile(r"(?:[0-9a-f]{2})*", re.ASCII)
_NEEDED = frozenset({"imr", "event_type", "event", "event_payload"})
_OPTIONAL = frozenset({"digest", "version", "hash_input"})


def parse_dstack_log(data: bytes) -> EventLog:
    """Parse at most MAX_EVENT_LOG_SIZE bytes of strict JSON and MAX_LOGGED_EVENTS events.

    Raises EvidenceError(EVENT_LOG): unknown or missing members, a digest that its event does not have,
    an event of the firmware without one.
    """
    value = _json(data)
    if not isinstance(value, list):
        raise refusal("json", type(value).__name__, "an array")
    if len(value) > MAX_LOGGED_EVENTS:
        raise refusal("events", len(value), f"at most {MAX_LOGGED_EVENTS}")
    events = tuple(_event(each, f"events[{place}]") for place, each in enumerate(value))
    return EventLog(LogKind.DSTACK, events, len(data))


def _json(data: bytes) -> object:
    if len(data) > MAX_EVENT_LOG_SIZE:
        raise refusal("size", f"{len(data)} bytes", f"at most {MAX_EVENT_LOG_SIZE}")
    try:
        return strict_json.read(data)
    except strict_json.JsonError as error:
        raise refusal("json", error.found, error.expected) from error


def _event(value: object, field: str) -> LoggedEvent:
    if not isinstance(value, dict) or not _NEEDED <= value.keys() <= _NEEDED | _OPTIONAL:
        found = sorted(value) if isinstance(value, dict) else type(value).__name__
        raise refusal(field, found, f"{sorted(_NEEDED)}, and no others but {sorted(_OPTIONAL)}")
    register = _integer(value["imr"], f"{field}.imr", rtmr.REGISTERS - 1)
    kind = _integer(value["event_type"], f"{field}.event_type", _MAX_TYPE)
    name = _text(value["event"], f"{field}.event")
    payload = _bytes(value["event_payload"], f"{field}.event_payload")
    told = _bytes(value.get("digest", ""), f"{field}.digest")
    if kind == RUNTIME_EVENT:
        digest = _runtime_digest(value, name, payload, field)
        if told not in (b"", digest):
            raise refusal(f"{field}.digest", told, digest)
        return LoggedEvent(register, kind, digest, payload, name, measured=True)
    if kind == EV_NO_ACTION:
        return LoggedEvent(None, kind, b"", payload, name)
    if len(told) != DIGEST_SIZE:
        raise refusal(
            f"{field}.digest", f"{len(told)} bytes", f"{DIGEST_SIZE}: firmware's is not in its payload"
        )
    measured = hashlib.sha384(payload).digest() == told
    return LoggedEvent(register, kind, told, payload, name, measured)


def _runtime_digest(value: Mapping[str, Any], name: str, payload: bytes, field: str) -> bytes:
    """Of what dstack extends, which `hash_input` may repeat."""
    version = _integer(value.get("version", 1), f"{field}.version", max(_PREIMAGES))
    if version not in _PREIMAGES:
        raise refusal(f"{field}.version", version, sorted(_PREIMAGES))
    preimage = _PREIMAGES[version](name, payload)
    told = value.get("hash_input")
    if told is not None and _bytes(told, f"{field}.hash_input") != preimage:
        raise refusal(f"{field}.hash_input", told, preimage)
    return hashlib.sha384(preimage).digest()


def _binary(name: str, payload: bytes) -> bytes:
    return RUNTIME_EVENT.to_bytes(4, "little") + b":" + name.encode("utf-8") + b":" + payload


def _canonical(name: str, payload: bytes) -> bytes:
    """RFC 8785 of these four members: sorted, without space, nothing escaped that need not be."""
    members = {"event": name, "event_type": RUNTIME_EVENT, "payload": payload.hex(), "version": 2}
    return json.dumps(members, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode("utf-8")


_PREIMAGES: Mapping[int, Callable[[str, bytes], bytes]] = {1: _binary, 2: _canonical}


def _integer(value: object, field: str, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise refusal(field, value, f"an integer from 0 to {most}")
    return value


def _text(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise refusal(field, type(value).__name__, "text")
    return value


def _bytes(value: object, field: str) -> bytes:
    if not isinstance(value, str) or _HEX.fullmatch(value) is None:
        raise refusal(field, value, "lower-case hexadecimal")
    return bytes.fromhex(value)
