"""PEM of certificates as other programs write it, taken apart into DER and written canonically. No IO."""

from __future__ import annotations

import base64
import binascii
import re

from toposeal.errors import EvidenceError, Reason

_BLOCK = re.compile(
    rb"\s*-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]{1,16384})-----END CERTIFICATE-----\s*", re.ASCII
)
_SPACE = re.compile(rb"\s+", re.ASCII)
_LINE = 64


def decode(text: bytes, field: str) -> tuple[bytes, ...]:
    """The DER of each certificate, one at least, whatever the line ends and the space between.

    For text that no signature covers. Raises EvidenceError(CERTIFICATE_INVALID) naming `field`.
    """
    found: list[bytes] = []
    position = 0
    while position < len(text) or not found:
        match = _BLOCK.match(text, position)
        if match is None:
            expected = "certificates in PEM"
            raise EvidenceError.of(Reason.CERTIFICATE_INVALID, field, f"other text at {position}", expected)
        found.append(_decoded(_SPACE.sub(b"", match[1]), field))
        position = match.end()
    return tuple(found)


def encode(*certificates: bytes) -> bytes:
    """Canonical PEM of certificates in DER."""
    return b"".join(_encoded(der) for der in certificates)


def _encoded(der: bytes) -> bytes:
    text = base64.b64encode(der)
    lines = [text[at : at + _LINE] for at in range(0, len(text), _LINE)]
    return b"\n".join([b"-----BEGIN CERTIFICATE-----", *lines, b"-----END CERTIFICATE-----", b""])


def _decoded(text: bytes, field: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise EvidenceError.of(Reason.CERTIFICATE_INVALID, field, error, "base64") from error
