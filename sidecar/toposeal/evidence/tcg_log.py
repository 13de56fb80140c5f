"""The TCG2 crypto-agile event log of a TDX guest (CCEL), and ACPI's table that locates it. No IO.

Layout, little-endian: TCG PC Client Platform Firmware Profile 1.06, 10.2.1 (TCG_PCClientPCREvent),
10.2.2 (TCG_PCR_EVENT2), 10.4.5.1 (TCG_EfiSpecIdEvent). The registers: UEFI 2.11, 38.4.1: CC MR index 0
is MRTD, 1 to 4 are RTMR[0] to RTMR[3]. The table: ACPI 6.5, 5.2.34.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from toposeal.evidence.event_log import EV_NO_ACTION, EventLog, LoggedEvent, LogKind, refusal
from toposeal.limits import DIGEST_SIZE, MAX_EVENT_LOG_SIZE, MAX_LOG_ALGORITHMS, MAX_LOGGED_EVENTS

TPM_ALG_SHA384 = 0x000C
CCEL_TABLE_SIZE = 56
CCEL_SIGNATURE = b"CCEL"
SPEC_ID = b"Spec ID Event03\0"
SPEC_ID_OFFSET = 32  # behind index, type, digest and size of the first event
_SHA1_SIZE = 20
_MAX_DIGEST_SIZE = 64
_MRTD, _LAST_RTMR = 0, 4  # CC MR indices
_END = 0xFFFF_FFFF
_CC_TYPE_TDX = 2
_DIGEST_SIZES = {0x0004: 20, 0x000B: 32, TPM_ALG_SHA384: DIGEST_SIZE, 0x000D: 64, 0x0012: 32}


@dataclass(frozen=True)
class CcelTable:
    """ACPI's CCEL table: where firmware left the log. Nothing measures it."""

    revision: int
    oem_id: str
    cc_type: int  # 2: TDX
    cc_subtype: int
    log_area_minimum_length: int  # bytes: LAML
    log_area_start_address: int  # LASA


def parse_tcg_log(data: bytes) -> EventLog:
    """Parse a whole log, its specification event first, with what fills up its area behind it.

    At most MAX_EVENT_LOG_SIZE bytes and MAX_LOGGED_EVENTS events; the log ends with its bytes, at an
    index of 0xFFFFFFFF, or where only zeros follow. Raises EvidenceError(EVENT_LOG).
    """
    reader = _Reader(data)
    events = _events(reader, _specification(reader))
    return EventLog(LogKind.CCEL, tuple(events), reader.position)


def parse_bare_events(data: bytes) -> tuple[LoggedEvent, ...]:
    """TCG_PCR_EVENT2 structures with SHA-384 alone and no specification event before them, as the
    attestation agent keeps its own. Bounds and errors as in `parse_tcg_log`."""
    return tuple(_events(_Reader(data), {TPM_ALG_SHA384: DIGEST_SIZE}))


def parse_ccel_table(data: bytes) -> CcelTable:
    """Parse exactly 56 bytes, checksum included. Raises EvidenceError(EVENT_LOG)."""
    if len(data) != CCEL_TABLE_SIZE:
        raise refusal("table", f"{len(data)} bytes", CCEL_TABLE_SIZE)
    reader = _Reader(data)
    if reader.take(4, "table.signature") != CCEL_SIGNATURE:
        raise refusal("table.signature", data[:4], CCEL_SIGNATURE)
    length = reader.number(4, "table.length")
    if length != CCEL_TABLE_SIZE:
        raise refusal("table.length", length, CCEL_TABLE_SIZE)
    if sum(data) % 256:
        raise refusal("table.checksum", sum(data) % 256, 0)
    if data[36] != _CC_TYPE_TDX:
        raise refusal("table.cc_type", data[36], f"{_CC_TYPE_TDX}, TDX")
    return CcelTable(
        revision=data[8],
        oem_id=data[10:16].decode("ascii", "replace").rstrip(),
        cc_type=data[36],
        cc_subtype=data[37],
        log_area_minimum_length=int.from_bytes(data[40:48], "little"),
        log_area_start_address=int.from_bytes(data[48:56], "little"),
    )


class _Reader:
    """Takes what is there; what is not is a refusal that names the field."""

    def __init__(self, data: bytes) -> None:
        if len(data) > MAX_EVENT_LOG_SIZE:
            raise refusal("size", f"{len(data)} bytes", f"at most {MAX_EVENT_LOG_SIZE}")
        self.data, self.position = bytes(data), 0

    def take(self, size: int, field: str) -> bytes:
        left = len(self.data) - self.position
        if size > left:
            raise refusal(field, f"{size} bytes", f"at most the {left} that are left")
        self.position += size
        return self.data[self.position - size : self.position]

    def number(self, size: int, field: str) -> int:
        return int.from_bytes(self.take(size, field), "little")

    def at_end(self) -> bool:
        """Whether nothing but filling follows. Bytes behind a terminator would be read by some and not
        by others, so they are refused."""
        if not self.data[self.position :].strip(b"\0"):
            return True
        if int.from_bytes(self.data[self.position : self.position + 4], "little") != _END:
            return False
        rest = self.data[self.position + 4 :]
        if rest.strip(b"\0") and rest.strip(b"\xff"):
            raise refusal("terminator", "other bytes behind it", "nothing, or one byte repeated: 00 or ff")
        return True


def _specification(reader: _Reader) -> Mapping[int, int]:
    """The event in the format of SHA-1 before all others: it gives the size of each algorithm's digests."""
    field = "specification"
    index, kind = reader.number(4, field), reader.number(4, field)
    digest = reader.take(_SHA1_SIZE, f"{field}.digest")
    if index > _LAST_RTMR or kind != EV_NO_ACTION or any(digest):
        raise refusal(field, f"index {index}, type {kind:#x}", "EV_NO_ACTION with a digest of zeros")
    return _algorithms(_Reader(reader.take(reader.number(4, f"{field}.eventSize"), f"{field}.event")))


def _algorithms(reader: _Reader) -> Mapping[int, int]:
    field = "specification.signature"
    signature = reader.take(len(SPEC_ID), field)
    if signature != SPEC_ID:
        raise refusal(field, signature, "Spec ID Event03")
    reader.take(8, "specification.version")  # platform class, version, errata, size of UINTN
    count = reader.number(4, "specification.numberOfAlgorithms")
    if not 1 <= count <= MAX_LOG_ALGORITHMS:
        raise refusal("specification.numberOfAlgorithms", count, f"1 to {MAX_LOG_ALGORITHMS}")
    sizes: dict[int, int] = {}
    for _ in range(count):
        algorithm = reader.number(2, "specification.digestSizes")
        size = reader.number(2, "specification.digestSizes")
        known = _DIGEST_SIZES.get(algorithm, size)
        if algorithm in sizes or size != known or not 0 < size <= _MAX_DIGEST_SIZE:
            raise refusal("specification.digestSizes", f"{algorithm:#06x}: {size}", "each once, at its size")
        sizes[algorithm] = size
    if TPM_ALG_SHA384 not in sizes:
        raise refusal("specification.digestSizes", "no SHA-384", "what an RTMR is extended with")
    reader.take(reader.number(1, "specification.vendorInfoSize"), "specification.vendorInfo")
    if reader.position != len(reader.data):
        raise refusal("specification", f"{len(reader.data)} bytes", reader.position)
    return sizes


def _events(reader: _Reader, sizes: Mapping[int, int]) -> list[LoggedEvent]:
    events: list[LoggedEvent] = []
    while not reader.at_end():
        if len(events) == MAX_LOGGED_EVENTS:
            raise refusal("events", "more", f"at most {MAX_LOGGED_EVENTS}")
        events.append(_event(reader, sizes, f"events[{len(events)}]"))
    return events


def _event(reader: _Reader, sizes: Mapping[int, int], field: str) -> LoggedEvent:
    index, kind = reader.number(4, f"{field}.pcrIndex"), reader.number(4, f"{field}.eventType")
    digests = _digests(reader, sizes, field)
    data = reader.take(reader.number(4, f"{field}.eventSize"), f"{field}.event")
    if kind == EV_NO_ACTION:
        return LoggedEvent(None, kind, b"", data)
    if not _MRTD < index <= _LAST_RTMR:
        # MRTD was finished before the first event could be logged.
        raise refusal(f"{field}.pcrIndex", index, f"1 to {_LAST_RTMR}")
    digest = digests.get(TPM_ALG_SHA384)
    if digest is None:
        raise refusal(f"{field}.digests", "no SHA-384", "what an RTMR is extended with")
    return LoggedEvent(index - 1, kind, digest, data, measured=hashlib.sha384(data).digest() == digest)


def _digests(reader: _Reader, sizes: Mapping[int, int], field: str) -> dict[int, bytes]:
    count = reader.number(4, f"{field}.digests.count")
    if not 0 < count <= len(sizes):
        raise refusal(f"{field}.digests.count", count, f"1 to {len(sizes)}")
    digests: dict[int, bytes] = {}
    for _ in range(count):
        algorithm = reader.number(2, f"{field}.digests.hashAlg")
        if algorithm not in sizes or algorithm in digests:
            raise refusal(f"{field}.digests.hashAlg", f"{algorithm:#06x}", "each algorithm of the log once")
        digests[algorithm] = reader.take(sizes[algorithm], f"{field}.digests.digest")
    return digests
