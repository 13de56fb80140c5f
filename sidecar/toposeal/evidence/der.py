"""Strict DER, as much as a vendor's certificate needs: bytes in, pieces or a typed refusal out. No IO.

Only definite, minimal lengths and one-byte tags exist here (X.690, section 10).
"""

from __future__ import annotations

from functools import lru_cache

from toposeal.errors import EvidenceError, Reason

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, OID = 0x01, 0x02, 0x03, 0x04, 0x06
UTF8_STRING, PRINTABLE_STRING, IA5_STRING = 0x0C, 0x13, 0x16
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18
SEQUENCE, SET = 0x30, 0x31
_MAX_LENGTH_SIZE = 3  # bytes of one length: 16 MiB, far above any certificate
_LONG_FORM = 0x80
_CONTINUED = 0x80
_TRUE = b"\xff"
_MAX_INTEGER_SIZE = 21  # RFC 5280 4.1.2.2: 20 bytes, and a zero before them where the first bit is set
_MAX_OID_SIZE = 32  # twice the longest that any vendor here writes
_REMEMBERED = 128  # object identifiers: a certificate has about twenty, and all have the same


class DerReader:
    """A cursor over `data` that accepts what it is asked for and refuses anything else."""

    def __init__(self, data: bytes, field: str, reason: Reason) -> None:
        self._data = data
        self._field = field
        self._reason = reason
        self._offset = 0

    def element(self, *tags: int) -> bytes:
        """The content of the next element, whose tag must be one of `tags`."""
        return self.tagged(*tags)[1]

    def whole(self, tag: int) -> bytes:
        """The next element with its tag and length, as it stands."""
        start = self._offset
        self.element(tag)
        return self._data[start : self._offset]

    def tagged(self, *tags: int) -> tuple[int, bytes]:
        """Tag and content of the next element, whose tag must be one of `tags`."""
        found = self._take(1)[0]
        if found not in tags:
            raise self.refusal(f"tag {found:#04x}", "tag " + " or ".join(f"{tag:#04x}" for tag in tags))
        return found, self._take(self._length())

    def inside(self, tag: int) -> DerReader:
        """A reader of the content of the next element."""
        return DerReader(self.element(tag), self._field, self._reason)

    def has(self, tag: int) -> bool:
        """Whether the next element is there and carries `tag`."""
        return self._data[self._offset : self._offset + 1] == bytes([tag])

    def more(self) -> bool:
        return self._offset < len(self._data)

    def end(self) -> None:
        """Refuse whatever follows."""
        if self.more():
            raise self.refusal(
                f"{len(self._data) - self._offset} bytes more", "nothing after the last element"
            )

    def integer(self) -> int:
        """A non-negative INTEGER in its shortest form, of at most 20 bytes, as a serial number has."""
        content = self.element(INTEGER)
        if len(content) > _MAX_INTEGER_SIZE:
            raise self.refusal(f"a number of {len(content)} bytes", f"at most {_MAX_INTEGER_SIZE} bytes")
        if not content or content[0] > 0x7F or (len(content) > 1 and content[0] == 0 and content[1] < 0x80):
            raise self.refusal(content.hex(), "a whole number in its shortest form")
        return int.from_bytes(content, "big")

    def true(self) -> None:
        """A BOOLEAN that is TRUE: DER never writes the default."""
        content = self.element(BOOLEAN)
        if content != _TRUE:
            raise self.refusal(content.hex(), "TRUE")

    def bits(self) -> bytes:
        """A BIT STRING of whole bytes."""
        content = self.element(BIT_STRING)
        if content[:1] != b"\0":
            raise self.refusal("unused bits", "whole bytes")
        return content[1:]

    def oid(self) -> str:
        """An OBJECT IDENTIFIER in dotted form."""
        content = self.element(OID)
        dotted = _dotted(content) if len(content) <= _MAX_OID_SIZE else None
        if dotted is None:
            raise self.refusal(content.hex(), "an object identifier, its arcs in their shortest form")
        return dotted

    def refusal(self, found: object, expected: object) -> EvidenceError:
        return EvidenceError.of(self._reason, f"{self._field} before {self._offset}", found, expected)

    def _length(self) -> int:
        first = self._take(1)[0]
        if first < _LONG_FORM:
            return first
        size = first - _LONG_FORM
        if not 1 <= size <= _MAX_LENGTH_SIZE:
            raise self.refusal(f"length form {first:#04x}", "a definite length")
        length = int.from_bytes(self._take(size), "big")
        if length < _LONG_FORM or length >> 8 * (size - 1) == 0:
            raise self.refusal(f"{length} in {size} bytes", "a length in its shortest form")
        return length

    def _take(self, size: int) -> bytes:
        end = self._offset + size
        if end > len(self._data):
            raise self.refusal(f"{len(self._data) - self._offset} bytes", f"{size} bytes")
        piece = self._data[self._offset : end]
        self._offset = end
        return piece


@lru_cache(_REMEMBERED)
def _dotted(content: bytes) -> str | None:
    """The dotted form of an OBJECT IDENTIFIER's content (X.690, 8.19); None for what is none."""
    identifiers: list[int] = []
    value = 0
    for byte in content:
        if byte == _CONTINUED and value == 0:
            return None
        value = value << 7 | byte & 0x7F
        if byte < _CONTINUED:
            identifiers.append(value)
            value = 0
    if not content or content[-1] >= _CONTINUED:
        return None
    first = min(identifiers[0] // 40, 2)
    return ".".join(map(str, (first, identifiers[0] - 40 * first, *identifiers[1:])))
