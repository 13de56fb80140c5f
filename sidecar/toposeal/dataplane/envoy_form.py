"""One message rendered for a member that stands in for all, then copied with other strings. No IO.

Envoy's message types cost milliseconds for each message, and a mesh has one for each of a thousand members:
they make the form, for strings as long as the member's, so that no length of the wire format changes.
"""

from __future__ import annotations

from collections.abc import Callable

from toposeal.dataplane.envoy_plan import Peer
from toposeal.errors import LocalProtocolError, Reason

# Bytes that no member's string has. Each stand-in has a first byte of its own, so that none of them is found
# anywhere but at its own place.
_FIRST, _REST = b"\x01\x02\x03\x04", b"\x7f"
_ABSENT = bytes((*_FIRST, *_REST))
_Strings = tuple[bytes, ...]


class Form:
    """What `encode` gives for a peer and one more string, such as an address: it may differ between two in no
    more than domain, SPIFFE identity, CA and that string, each of them as it stands.
    """

    def __init__(self, encode: Callable[[Peer, str], bytes]) -> None:
        self._encode = encode
        self._forms: dict[tuple[int, ...], bytes] = {}

    def of(self, peer: Peer, more: str = "") -> bytes:
        """`encode(peer, more)`. Raises LocalProtocolError for a string that no member can have."""
        strings = tuple(text.encode() for text in (peer.domain, peer.spiffe, peer.ca_pem, more))
        if any(string.translate(None, _ABSENT) != string for string in strings):
            raise _refusal("a control character", "printable strings")
        lengths = tuple(map(len, strings))
        form = self._forms.get(lengths)
        if form is None:
            form = self._forms[lengths] = self._made(lengths)
        return _filled(form, strings)

    def _made(self, lengths: tuple[int, ...]) -> bytes:
        """Tried on another peer before it is used for any."""
        form = self._encoded(_stand_ins(lengths))
        other = tuple(
            letter * length for letter, length in zip((b"a", b"b", b"c", b"d"), lengths, strict=True)
        )
        if _filled(form, other) != self._encoded(other):
            raise _refusal("another message", "that of the peer")
        return form

    def _encoded(self, strings: _Strings) -> bytes:
        domain, spiffe, ca_pem, more = (string.decode("ascii") for string in strings)
        return self._encode(Peer(domain, spiffe, ca_pem, ()), more)


def _stand_ins(lengths: tuple[int, ...]) -> _Strings:
    return tuple(
        (first.to_bytes() + _REST * length)[:length] for first, length in zip(_FIRST, lengths, strict=True)
    )


def _filled(form: bytes, strings: _Strings) -> bytes:
    for stand_in, string in zip(_stand_ins(tuple(map(len, strings))), strings, strict=True):
        if string:
            form = form.replace(stand_in, string)
    return form


def _refusal(found: str, expected: str) -> LocalProtocolError:
    return LocalProtocolError.of(Reason.INTERNAL, "form", found, expected)
