"""Makes a form of what Envoy's message types encode for a member that stands in for all. No IO.

In the child alone. It knows nothing of Envoy's schema: it looks for the stand-ins in what was encoded, and
tries what it has made on other members before anybody uses it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from toposeal.dataplane.envoy_form import Form, Part, Slot, filled_in, varint
from toposeal.dataplane.envoy_plan import Peer
from toposeal.errors import LocalProtocolError, Reason

Encode = Callable[[Peer, str], bytes]

_STAND_INS = {slot: bytes((slot, *b"\x7f\x7f\x7f\x7f", slot)) for slot in Slot}  # found nowhere else
_ANY = re.compile(b"(" + b"|".join(map(re.escape, _STAND_INS.values())) + b")")
_SLOTS = {stand_in: slot for slot, stand_in in _STAND_INS.items()}
_LENGTHS = ((1, 2, 3, 4), (40, 90, 700, 15), (130, 127, 128, 20_000))  # each length's length changes
_VARINT, _DELIMITED = 0, 2  # wire types (protobuf's encoding, "Message Structure")
_FIXED = {1: 8, 5: 4}  # and those of a fixed size in bytes


class _NoMessageError(Exception):
    """These bytes are a string."""


def made(encode: Encode) -> Form:
    """The form of `encode`, which may differ between two members in no more than domain, SPIFFE identity, CA
    and one more string, each of them as it stands. Raises LocalProtocolError where it differs in more.
    """
    try:
        form = Form(tuple(_parts(_encoded(encode, tuple(_STAND_INS.values())))))
    except _NoMessageError:
        raise LocalProtocolError.of(Reason.INTERNAL, "form", "no message", "an encoded message") from None
    for lengths in _LENGTHS:
        strings = tuple(
            letter * length for letter, length in zip((b"a", b"b", b"c", b"d"), lengths, strict=True)
        )
        (found,) = filled_in(form, [_member(strings)])
        if found != _encoded(encode, strings):
            raise LocalProtocolError.of(Reason.INTERNAL, "form", "another message", "that of the member")
    return form


def _member(strings: tuple[bytes, ...]) -> tuple[Peer, str]:
    domain, spiffe, ca_pem, more = (string.decode("ascii") for string in strings)
    return Peer(domain, spiffe, ca_pem, ()), more


def _encoded(encode: Encode, strings: tuple[bytes, ...]) -> bytes:
    return encode(*_member(strings))


def _parts(message: bytes) -> Iterator[Part]:
    """Only what holds a stand-in is taken apart. Raises _NoMessageError."""
    start = at = 0
    while at < len(message):
        tag, at = _number(message, at)
        kind, begin = tag & 7, at
        if kind == _DELIMITED:
            length, begin = _number(message, at)
            at = begin + length
        elif kind == _VARINT:
            _, at = _number(message, at)
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            raise _NoMessageError
        if at > len(message):
            raise _NoMessageError
        if kind == _DELIMITED and _ANY.search(message, begin, at):
            yield Part(literal=message[start : begin - len(varint(length))])
            yield Part(nested=_content(message[begin:at]))
            start = at
    if start < at:
        yield Part(literal=message[start:])


def _content(content: bytes) -> tuple[Part, ...]:
    """Of a field that its length precedes: another message, or a string."""
    try:
        return tuple(_parts(content))
    except _NoMessageError:
        pieces = _ANY.split(content)
        return tuple(
            Part(slot=_SLOTS[piece]) if piece in _SLOTS else Part(literal=piece) for piece in pieces if piece
        )


def _number(message: bytes, at: int) -> tuple[int, int]:
    """The varint at `at`, and where it ends. Raises _NoMessageError."""
    number = shift = 0
    while at < len(message):
        number |= (message[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if message[at - 1] < 0x80:
            return number, at
    raise _NoMessageError
