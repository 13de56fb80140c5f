"""A message of Envoy's with places for what there is of each member: filled in, it is that member's. No IO.

Envoy's message types take longer to import than a change of members may last. Only the renderer's child has
them; it makes the forms (envoy_form_maker), one for the members of a kind, and the daemon fills them in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from toposeal.dataplane.envoy_plan import Peer


class Slot(IntEnum):
    """Which string of a member is in a place."""

    DOMAIN = 1
    SPIFFE = 2
    CA_PEM = 3
    MORE = 4  # one more, such as an address


@dataclass(frozen=True)
class Part:
    """One of three: bytes as they stand; a member's string; or parts that their length precedes."""

    literal: bytes = b""
    slot: int = 0  # Slot; 0: none
    nested: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Form:
    parts: tuple[Part, ...]


def filled_in(form: Form, members: Iterable[tuple[Peer, str]]) -> Iterator[bytes]:
    """One message for each of `members`, in their order. A string may be anything: its length is its own, and
    nothing in it ends its place.
    """
    known: dict[tuple[int, ...], tuple[bytes | Slot, ...]] = {}
    for peer, more in members:
        strings = _strings(peer, more)
        lengths = tuple(map(len, strings))
        pieces = known.get(lengths)
        if pieces is None:
            pieces = known[lengths] = tuple(_joined(_pieces(form.parts, lengths)))
        yield b"".join(piece if isinstance(piece, bytes) else strings[piece - 1] for piece in pieces)


def varint(number: int) -> bytes:
    """As protobuf encodes it: seven bits a byte, the least first (its encoding, "Base 128 Varints")."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*encoded, number))


def _strings(peer: Peer, more: str) -> tuple[bytes, ...]:
    """In the order of Slot."""
    return peer.domain.encode(), peer.spiffe.encode(), peer.ca_pem.encode(), more.encode()


def _pieces(parts: Iterable[Part], lengths: tuple[int, ...]) -> Iterator[bytes | Slot]:
    for part in parts:
        if part.slot:
            yield Slot(part.slot)
        elif part.nested:
            inner = tuple(_pieces(part.nested, lengths))
            yield varint(sum(len(p) if isinstance(p, bytes) else lengths[p - 1] for p in inner))
            yield from inner
        else:
            yield part.literal


def _joined(pieces: Iterable[bytes | Slot]) -> Iterator[bytes | Slot]:
    """The same with as few pieces as there can be."""
    literal = b""
    for piece in pieces:
        if isinstance(piece, bytes):
            literal += piece
        else:
            yield literal
            yield piece
            literal = b""
    yield literal
