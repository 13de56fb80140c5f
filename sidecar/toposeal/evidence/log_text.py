"""What events say, for people: one line each, cut out of bytes that nobody trusts. No IO, never a refusal.

Layouts: TCG PC Client Platform Firmware Profile 1.06: UEFI_VARIABLE_DATA (10.2.6), descriptions of blobs
and tables (10.2.4, 10.2.5), TCG_PCClientTaggedEvent (10.2.10). What does not fit its layout is shown raw.
"""

from __future__ import annotations

import re

from toposeal.evidence.aael import entry_of
from toposeal.evidence.dstack_log import RUNTIME_EVENT
from toposeal.evidence.event_log import EV_EVENT_TAG, LoggedEvent

_VARIABLES = frozenset({0x80000001, 0x80000002, 0x8000000C, 0x800000E0})
_DESCRIBED = frozenset({0x8000000A, 0x8000000B})  # u8 length and a description come first
_VARIABLE_HEADER = 32  # GUID 16, u64 length of the name in characters, u64 size of the data
_TAG_HEADER = 8  # u32 id, u32 size
_PLAIN = re.compile(rb"[ -~\n]+")


def describe(event: LoggedEvent) -> str:
    """Text that may hold any character; whoever prints it makes it printable."""
    data = event.data
    if (entry := entry_of(event)) is not None:
        return entry
    if event.event_type == RUNTIME_EVENT:
        return f"{event.name}: {_text(data) or data.hex()}"
    found: str | None = None
    if event.event_type in _VARIABLES:
        found = _variable(data)
    elif event.event_type in _DESCRIBED and data and data[0] < len(data):
        found = _text(data[1 : 1 + data[0]])
    elif event.event_type == EV_EVENT_TAG:
        found = _text(data[_TAG_HEADER:])
    return found or _text(data) or data.hex()


def _variable(data: bytes) -> str | None:
    """`Name (N bytes)`, or nothing where the lengths are not those of the data."""
    length, size = int.from_bytes(data[16:24], "little"), int.from_bytes(data[24:_VARIABLE_HEADER], "little")
    if len(data) < _VARIABLE_HEADER or _VARIABLE_HEADER + 2 * length + size != len(data):
        return None
    name = data[_VARIABLE_HEADER : _VARIABLE_HEADER + 2 * length].decode("utf-16-le", "replace")
    return f"{name} ({size} bytes)"


def _text(data: bytes) -> str | None:
    """ASCII, with or without the NUL that ends it."""
    text = data.removesuffix(b"\0")
    return text.decode("ascii") if _PLAIN.fullmatch(text) else None
