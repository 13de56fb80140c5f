"""The GHCB certificate table, configfs-tsm's auxblob: a hint from the host, bounded, never trusted. No IO.

Layout: AMD 56421 (GHCB standardization), MSG_REPORT_REQ: entries of 24 bytes (GUID in RFC 4122 order,
u32 offset, u32 length, little-endian), an entry of zeros, then the blobs. What is found here has to pass
the same checks as anything that came over the network.
"""

from __future__ import annotations

from dataclasses import dataclass

from toposeal.errors import EvidenceError, Reason
from toposeal.limits import MAX_CERTIFICATE_TABLE_ENTRIES, MAX_CERTIFICATE_TABLE_SIZE

ARK = bytes.fromhex("c0b406a4a803495297433fb6014cd0ae")
ASK = bytes.fromhex("4ab7b379bbac4fe4a02f05aef327c782")  # names the ASVK too
VCEK = bytes.fromhex("63da758de6644564adc5f4b93be8accd")
VLEK = bytes.fromhex("a8074bc2a25a483eaae639c045a0b8a1")
CRL = bytes.fromhex("92f81bc358114d3d97ffd19f88dc67ea")
ENTRY_SIZE = 24
_GUID_SIZE = 16
_FIELD = "certificate_table"


@dataclass(frozen=True)
class CertificateTable:
    """The blobs that AMD's GUIDs name; None where the host gives none. Other GUIDs are passed over."""

    vcek: bytes | None = None
    vlek: bytes | None = None
    ca: bytes | None = None  # ASK or ASVK
    root: bytes | None = None
    crl: bytes | None = None


_MEMBERS = {VCEK: "vcek", VLEK: "vlek", ASK: "ca", ARK: "root", CRL: "crl"}


def is_certificate_table(data: bytes) -> bool:
    """Whether a GUID of AMD's stands where an entry of a table would begin."""
    places = range(0, MAX_CERTIFICATE_TABLE_ENTRIES * ENTRY_SIZE, ENTRY_SIZE)
    return any(data[place : place + _GUID_SIZE] in _MEMBERS for place in places)


def parse_certificate_table(data: bytes) -> CertificateTable:
    """Parse at most 32 KiB; empty input is an empty table, since a host may have none to give.

    Raises EvidenceError(CERTIFICATE_TABLE): no terminator, more than eight entries, one GUID twice, a
    blob that is empty, overlaps another or the entries, or reaches outside.
    """
    if len(data) > MAX_CERTIFICATE_TABLE_SIZE:
        raise _refusal("", f"{len(data)} bytes", f"at most {MAX_CERTIFICATE_TABLE_SIZE}")
    entries = _entries(bytes(data)) if data else []
    _expect_apart(entries, (len(entries) + 1) * ENTRY_SIZE, len(data))
    blobs: dict[str, bytes] = {}
    seen: set[bytes] = set()
    for guid, start, end in entries:
        if guid in seen:
            raise _refusal(".guid", f"{guid.hex()} twice", "every GUID once")
        seen.add(guid)
        if guid in _MEMBERS:
            blobs[_MEMBERS[guid]] = bytes(data[start:end])
    return CertificateTable(**blobs)


def _entries(data: bytes) -> list[tuple[bytes, int, int]]:
    """GUID, start and end of each entry before the terminator."""
    entries: list[tuple[bytes, int, int]] = []
    for position in range(0, (MAX_CERTIFICATE_TABLE_ENTRIES + 1) * ENTRY_SIZE, ENTRY_SIZE):
        entry = data[position : position + ENTRY_SIZE]
        if len(entry) != ENTRY_SIZE:
            raise _refusal(f" at {position}", "the end", "a terminating entry of zeros")
        if not any(entry):
            return entries
        start = int.from_bytes(entry[_GUID_SIZE:20], "little")
        end = start + int.from_bytes(entry[20:], "little")
        entries.append((entry[:_GUID_SIZE], start, end))
    raise _refusal("", "more entries", f"at most {MAX_CERTIFICATE_TABLE_ENTRIES}")


def _expect_apart(entries: list[tuple[bytes, int, int]], first: int, size: int) -> None:
    """Blobs lie after the entries, inside the table, none of them in another."""
    free = first
    for guid, start, end in sorted(entries, key=lambda entry: entry[1:]):
        if not free <= start < end <= size:
            raise _refusal(f".{guid.hex()}", f"{start} to {end}", f"a blob between {free} and {size}")
        free = end


def _refusal(member: str, found: object, expected: object) -> EvidenceError:
    return EvidenceError.of(Reason.CERTIFICATE_TABLE, f"{_FIELD}{member}", found, expected)
