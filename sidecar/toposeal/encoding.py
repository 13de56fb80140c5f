"""Length-prefixed transcripts, domain-separated hashes, canonical protobuf. No IO.

PROTOCOL.md section 2 fixes every byte that this module makes.
"""

from __future__ import annotations

import hashlib
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from toposeal.errors import Reason, RemoteProtocolError

M = TypeVar("M", bound=Message)


def lp(data: bytes) -> bytes:
    """`LP(x)`: u32be length, then the bytes."""
    return len(data).to_bytes(4, "big") + data


def u64(value: int) -> bytes:
    """Unsigned 64-bit big-endian; raises OverflowError outside its range."""
    return value.to_bytes(8, "big")


def digest(tag: str, *parts: bytes) -> bytes:
    """`H(tag | LP(part)...)`: SHA-384, 48 bytes."""
    return hashlib.sha384(transcript(tag, *parts)).digest()


def transcript(tag: str, *parts: bytes) -> bytes:
    """`tag | LP(part)...`: what is hashed or signed. No tag is a prefix of another transcript,
    since tags are ASCII and the byte after a tag is the zero top byte of a length below 2^24."""
    return tag.encode("ascii") + b"".join([lp(part) for part in parts])


def encode(message: Message) -> bytes:
    """The one canonical encoding (PROTOCOL.md 2.2): fields ascending, defaults absent."""
    return message.SerializeToString(deterministic=True)


def decode(kind: type[M], data: bytes, field: str, limit: int) -> M:
    """Parse `data` as exactly one canonical `kind`, or raise RemoteProtocolError naming `field`.

    Unknown fields, reordered fields, non-minimal varints and explicit defaults all differ from
    the canonical encoding and are refused by the one comparison at the end (P11).
    """
    if len(data) > limit:
        raise RemoteProtocolError.of(Reason.TOO_LARGE, field, f"{len(data)} bytes", f"at most {limit}")
    try:
        message = kind.FromString(data)
    except (DecodeError, RecursionError, ValueError) as error:
        raise RemoteProtocolError.of(
            Reason.MALFORMED, field, type(error).__name__, kind.DESCRIPTOR.full_name
        ) from error
    message.DiscardUnknownFields()
    if encode(message) != data:
        raise RemoteProtocolError.of(
            Reason.NOT_CANONICAL, field, "another encoding", "the canonical encoding"
        )
    return message
