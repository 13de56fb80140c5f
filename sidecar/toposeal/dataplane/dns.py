"""The pod's DNS: one query's bytes in, one answer's bytes out. No IO.

Every name of the mesh, and every host outside that the pod's role names, has one IPv4 address and nothing
else; no other name exists. Answers are those
of RFC 1035 and 6891, authoritative, never larger than 512 bytes, and repeat the question as it was
asked (its case too, which resolvers use as a nonce).
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import IntEnum

from toposeal.dataplane.vips import Places
from toposeal.limits import DNS_TTL
from toposeal.topology.model import Topology

# Lower-case names as they are on the wire (each label after its length, the root's zero) -> 4 bytes of IPv4.
Names = Mapping[bytes, bytes]

MAX_ANSWER = 512  # RFC 1035 4.2.1: what every resolver takes over UDP

_HEADER = struct.Struct("!6H")
_MAX_NAME = 255
_A, _OPT, _IN = 1, 41, 1
_META_TYPES = range(249, 256)  # TKEY, TSIG, IXFR, AXFR, MAILB, MAILA, ANY: no data behind any of them
_RESPONSE, _OPCODE, _RECURSION_DESIRED = 0x8000, 0x7800, 0x0100
_AUTHORITATIVE, _RECURSION_AVAILABLE = 0x0400, 0x0080
_POINTER_TO_QUESTION = b"\xc0\x0c"
_OWN_OPT = b"\x00" + struct.pack("!HHIH", _OPT, MAX_ANSWER, 0, 0)
_BADVERS_OPT = b"\x00" + struct.pack("!HHIH", _OPT, MAX_ANSWER, 1 << 24, 0)


class Rcode(IntEnum):
    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5


@dataclass(frozen=True)
class _Question:
    raw: bytes  # name, type and class as they were asked
    name: bytes  # on the wire, lower case
    kind: int
    domain_class: int
    end: int  # offset of what follows


def names(topology: Topology, roles: Collection[str], places: Places) -> Names:
    """`<role>` and `<role>.<mesh>` of those `roles`. Role and mesh names have no dots: nothing collides.

    Before the seal these are all roles of the topology, afterwards those that have members (N4).
    """
    table = {}
    for role in roles:
        address = ipaddress.IPv4Address(places.role(role)).packed
        table[_wire_name(role)] = address
        table[_wire_name(role, topology.mesh)] = address
    return table


def host_names(topology: Topology, role: str, places: Places) -> Names:
    """The hosts outside the mesh that members of `role` may call."""
    return {
        _wire_name(*entry.host.split(".")): ipaddress.IPv4Address(places.host(entry.host)).packed
        for entry in topology.roles[role].egress
        if entry.host is not None
    }


def answer(query: bytes, table: Names | None) -> bytes | None:
    """The answer to one message (at most 65535 bytes), or None for what deserves none.

    `table` is None before the pod knows its topology: every name then fails for now (SERVFAIL), which
    resolvers report as temporary, not as absent. Never raises.
    """
    if len(query) < _HEADER.size:
        return None
    ident, flags, questions, answers, authorities, additional = _HEADER.unpack_from(query)
    if flags & _RESPONSE:
        return None  # two servers would answer each other for ever
    if flags & _OPCODE:
        return _reply(ident, flags, Rcode.NOTIMP)
    question = _question(query) if questions == 1 and not answers and not authorities else None
    extension = _extension(query[question.end :], additional) if question else None
    if question is None or extension is None:
        return _reply(ident, flags, Rcode.FORMERR)
    if extension == _BADVERS_OPT:
        return _reply(ident, flags, Rcode.NOERROR, question, extension=extension)
    rcode, address = _lookup(question, table)
    return _reply(ident, flags, rcode, question, address, extension)


def _wire_name(*labels: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode("ascii") for label in labels) + b"\x00"


def _question(query: bytes) -> _Question | None:
    """The one question, at offset 12; None if it is cut, too long or compressed (RFC 1035 4.1.2)."""
    at = _HEADER.size
    while at < len(query) and at - _HEADER.size < _MAX_NAME:
        length = query[at]
        at += 1
        if length == 0:
            if len(query) < at + 4:
                return None
            kind, domain_class = struct.unpack_from("!HH", query, at)
            raw = query[_HEADER.size : at + 4]
            # Lengths are below 64, the first capital letter is 65: lower() changes letters only.
            return _Question(raw, raw[:-4].lower(), kind, domain_class, at + 4)
        if length > 63:
            return None  # a pointer, or one of the label types that were never used
        at += length
    return None


def _extension(rest: bytes, count: int) -> bytes | None:
    """The OPT record to answer with (RFC 6891 6.1.1), empty without one; None if `rest` is anything else."""
    if count == 0:
        return b"" if not rest else None
    if count != 1 or len(rest) < 11 or rest[:3] != b"\x00\x00\x29":
        return None
    version = rest[6]
    if len(rest) != 11 + int.from_bytes(rest[9:11], "big"):
        return None
    return _OWN_OPT if version == 0 else _BADVERS_OPT


def _lookup(question: _Question, table: Names | None) -> tuple[Rcode, bytes]:
    """The response code and the address, empty where there is none (NODATA)."""
    if question.domain_class != _IN or question.kind in _META_TYPES:
        return Rcode.REFUSED, b""
    if table is None:
        return Rcode.SERVFAIL, b""
    address = table.get(question.name)
    if address is None:
        return Rcode.NXDOMAIN, b""
    return Rcode.NOERROR, address if question.kind == _A else b""


def _reply(
    ident: int,
    flags: int,
    rcode: Rcode,
    question: _Question | None = None,
    address: bytes = b"",
    extension: bytes = b"",
) -> bytes:
    out = _RESPONSE | _AUTHORITATIVE | _RECURSION_AVAILABLE | (flags & (_OPCODE | _RECURSION_DESIRED)) | rcode
    header = _HEADER.pack(ident, out, int(question is not None), int(bool(address)), 0, int(bool(extension)))
    record = b""
    if address:
        record = _POINTER_TO_QUESTION + struct.pack("!HHIH", _A, _IN, DNS_TTL, len(address)) + address
    return header + (question.raw if question else b"") + record + extension
