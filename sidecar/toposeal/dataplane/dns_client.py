"""One DNS question to a server outside, and what its answer says. No IO.

Nobody believes the answer: which server says what only decides where bytes are tried to be sent to. So an
answer has to fit its question, and is then read for addresses alone (RFC 1035 4.1, RFC 6891).
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from enum import IntEnum

from toposeal.errors import Reason, RemoteProtocolError
from toposeal.limits import MAX_DNS_ANSWER, MAX_EGRESS_ADDRESSES

UDP_SIZE = 1232  # what crosses every network unfragmented (DNS flag day 2020)

_HEADER = struct.Struct("!6H")
_FIXED = struct.Struct("!HHIH")  # of a record, after its name
_RESPONSE, _OPCODE, _TRUNCATED, _RECURSION_DESIRED, _RCODE = 0x8000, 0x7800, 0x0200, 0x0100, 0x000F
_IN, _OPT, _POINTER = 1, 41, 0xC0
_SIZES = {1: 4, 28: 16}


class Kind(IntEnum):
    A = 1
    AAAA = 28


@dataclass(frozen=True)
class Answer:
    """`truncated`: the same has to be asked over TCP."""

    addresses: tuple[str, ...]  # IP literals, at most MAX_EGRESS_ADDRESSES, as they came
    ttl: int  # seconds: the shortest of them; 0 without addresses
    truncated: bool


def question(ident: int, host: str, kind: Kind) -> bytes:
    """The message that asks for `host` (ASCII labels of 1 to 63 bytes); `ident` is 16 random bits."""
    header = _HEADER.pack(ident, _RECURSION_DESIRED, 1, 0, 0, 1)
    labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in host.split("."))
    extension = b"\x00" + struct.pack("!HHIH", _OPT, UDP_SIZE, 0, 0)
    return header + labels + b"\x00" + struct.pack("!HH", kind, _IN) + extension


def read_answer(message: bytes, asked: bytes) -> Answer:
    """What `message` (at most 4096 bytes) answers to `asked`, as `question` made it; an error code answers
    that there is no address.

    Raises RemoteProtocolError: it answers something else, is no answer, or cannot be read.
    """
    if len(message) > MAX_DNS_ANSWER:
        raise _refusal(f"{len(message)} bytes", f"at most {MAX_DNS_ANSWER}")
    query = asked[_HEADER.size : -11]  # without the OPT record
    kind = int.from_bytes(query[-4:-2], "big")
    try:
        ident, flags, questions, answers, _, _ = _HEADER.unpack_from(message)
        start = _HEADER.size + len(query)
        if message[:2] != asked[:2] or not flags & _RESPONSE or flags & _OPCODE:
            raise _refusal(f"id {ident}, flags {flags:#06x}", "an answer to what was asked")
        if questions != 1 or message[_HEADER.size : start].lower() != query:
            raise _refusal("another question", "the one that was asked")
        found = [] if flags & _RCODE else _records(message, start, answers, kind)
    except (struct.error, IndexError):
        raise _refusal("a message that ends early", "a whole one") from None
    addresses = tuple(dict.fromkeys(address for address, _ in found))[:MAX_EGRESS_ADDRESSES]
    ttl = min((ttl for _, ttl in found), default=0)
    return Answer(addresses, ttl, bool(flags & _TRUNCATED))


def _records(message: bytes, at: int, count: int, kind: int) -> list[tuple[str, int]]:
    """Address and TTL of every record of `kind`. Whose they are does not matter: aliases are followed by
    whoever answers.
    """
    found = []
    for _ in range(count):
        at = _after_name(message, at)
        record, domain_class, ttl, size = _FIXED.unpack_from(message, at)
        at += _FIXED.size
        data = message[at : at + size]
        if len(data) != size:
            raise IndexError
        if record == kind and domain_class == _IN and size == _SIZES[kind]:
            found.append((str(ipaddress.ip_address(data)), min(ttl, 0x7FFFFFFF)))
        at += size
    return found


def _after_name(message: bytes, at: int) -> int:
    """Where the name at `at` ends; a pointer ends it, and is not followed."""
    while length := message[at]:
        if length & _POINTER == _POINTER:
            return at + 2
        at += 1 + length
    return at + 1


def _refusal(found: object, expected: str) -> RemoteProtocolError:
    return RemoteProtocolError.of(Reason.MALFORMED, "dns.answer", found, expected)
