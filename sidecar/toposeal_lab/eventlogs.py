"""Simulated event logs: events in, bytes out, in the formats of firmware, dstack and the attestation agent.

Nothing here makes a register; whoever wants a quote that a log replays to extends as the guest would.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SHA1, SHA256, SHA384 = 0x0004, 0x000B, 0x000C
EV_NO_ACTION, EV_SEPARATOR, EV_EVENT_TAG, EV_IPL = 0x03, 0x04, 0x06, 0x0D
DSTACK_RUNTIME = 0x08000001
AAEL_TAG = 0x4141454C
ZERO = bytes(48)


@dataclass(frozen=True)
class Event:
    """One TCG_PCR_EVENT2: CC MR index 1 to 4, and digests; without any, SHA-384 of `data`."""

    index: int
    kind: int
    data: bytes
    digests: tuple[tuple[int, bytes], ...] | None = None

    def encode(self) -> bytes:
        digests = ((SHA384, self.digest),) if self.digests is None else self.digests
        listed = b"".join(struct.pack("<H", algorithm) + digest for algorithm, digest in digests)
        head = struct.pack("<III", self.index, self.kind, len(digests))
        return head + listed + struct.pack("<I", len(self.data)) + self.data

    @property
    def digest(self) -> bytes:
        """What the register is extended with, 48 bytes."""
        own = dict(self.digests or ())
        return own.get(SHA384, hashlib.sha384(self.data).digest())


def boot_events() -> list[Event]:
    """A boot as short as can be: firmware, boot loader, kernel; an event that extends nothing."""
    return [
        Event(1, 0x80000001, b"SecureBoot"),
        Event(1, EV_SEPARATOR, bytes(4)),
        Event(2, 0x80000003, b"shim", ((SHA384, hashlib.sha384(b"the image of shim").digest()),)),
        Event(0, EV_NO_ACTION, b"StartupLocality", ((SHA384, ZERO),)),
        Event(3, EV_IPL, b"kernel_cmdline: quiet\0", ((SHA384, hashlib.sha384(b"quiet").digest()),)),
    ]


def registers(events: Iterable[Event]) -> tuple[bytes, bytes, bytes, bytes]:
    """RTMR[0] to RTMR[3] after `events`, as the TDX module has them."""
    values = [ZERO] * 4
    for event in events:
        if event.kind != EV_NO_ACTION:
            values[event.index - 1] = hashlib.sha384(values[event.index - 1] + event.digest).digest()
    first, second, third, fourth = values
    return first, second, third, fourth


def specification(algorithms: Sequence[tuple[int, int]] = ((SHA384, 48),), vendor: bytes = b"") -> bytes:
    """The first event, which gives the log's algorithms."""
    body = b"Spec ID Event03\0" + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, len(algorithms))
    body += b"".join(struct.pack("<HH", *each) for each in algorithms) + bytes([len(vendor)]) + vendor
    return struct.pack("<II", 0, EV_NO_ACTION) + bytes(20) + struct.pack("<I", len(body)) + body


def ccel(events: Iterable[Event], area: int = 4096) -> bytes:
    """A firmware's log in an area of at least `area` bytes, filled up as OVMF does."""
    return (specification() + b"".join(event.encode() for event in events)).ljust(area, b"\xff")


def ccel_table(*, cc_type: int = 2, log_area: int = 65536) -> bytes:
    """ACPI's table that points to the log."""
    head = (
        b"CCEL"
        + struct.pack("<IBB", 56, 1, 0)
        + b"LAB   "
        + b"TOPOSEAL"
        + struct.pack("<I4sI", 1, b"LAB ", 1)
    )
    table = bytearray(head + struct.pack("<BBHQQ", cc_type, 0, 0, log_area, 0x7E000000))
    table[9] = -sum(table) % 256
    return bytes(table)


def agent_event(domain: str, operation: str, content: str, index: int = 4) -> Event:
    """What a later attestation agent writes for one of its entries."""
    line = f"{domain} {operation} {content}".encode()
    return Event(index, EV_EVENT_TAG, struct.pack("<II", AAEL_TAG, len(line)) + line)


def agent_text(lines: Sequence[str], initial: bytes = ZERO) -> tuple[bytes, list[bytes]]:
    """An earlier agent's log and the digests that it has extended RTMR[3] with."""
    told = [f"INIT sha384/{initial.hex()}", *lines]
    return "".join(f"{line}\n" for line in told).encode(), [
        hashlib.sha384(line.encode()).digest() for line in told
    ]


def dstack_event(name: str, payload: bytes, register: int = 3, version: int = 1) -> dict[str, object]:
    """A runtime event with its digest, as dstack writes it."""
    preimage = DSTACK_RUNTIME.to_bytes(4, "little") + b":" + name.encode() + b":" + payload
    event: dict[str, object] = {"imr": register, "event_type": DSTACK_RUNTIME}
    if version == 2:
        body = {"event": name, "event_type": DSTACK_RUNTIME, "payload": payload.hex(), "version": 2}
        preimage = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
        event["version"] = 2
    digest = hashlib.sha384(preimage).hexdigest()
    return event | {"digest": digest, "event": name, "event_payload": payload.hex()}


def dstack_log(events: Sequence[dict[str, object]]) -> bytes:
    return json.dumps(events).encode("ascii")
