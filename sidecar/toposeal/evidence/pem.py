"""PEM of certificates, taken apart into DER: canonical, or as other programs write it; and written. No IO."""

from __future__ import annotations

import base64
import binascii
import re

from toposeal.errors import EvidenceError, Reason

_BLOCK = re.compile(
    rb"\s*-----BEGIN CERTIFICATE-----\s*([A-Za-z0-9+/][A-Za-z0-9+/=\s]{0,16383})-----END CERTIFICATE-----\s*",
    re.ASCII,
)
_SPACE = re.compile(rb"\s+", re.ASCII)
_LINE = 64


def decode(text: bytes, field: str, reason: Reason = Reason.CERTIFICATE_INVALID) -> tuple[bytes, ...]:
    """The DER of each certificate, one at least, whatever the line ends and the space between.

    For text that no signature covers. Raises EvidenceError(`reason`) naming `field`.
    """
    found: list[bytes] = []
    position = 0
    while position < len(text) or not found:
        match = _BLOCK.match(text, position)
        if match is None:
            raise EvidenceError.of(reason, field, f"other text at {position}", "certificates in PEM")
        found.append(_decoded(_SPACE.sub(b"", match[1]), field, reason))
        position = match.end()
    return tuple(found)


def decode_canonical(
    text: bytes, field: str, reason: Reason = Reason.CERTIFICATE_INVALID
) -> tuple[bytes, ...]:
    """The DER of each certificate, one at least, of text that is what `encode` would write.

    So no other reader sees other certificates in it, and no bit of it is free; a missing last newline is
    admitted, since genuine chains differ there. Raises EvidenceError(`reason`) naming `field`.
    """
    found = decode(text, field, reason)
    if text.removesuffix(b"\n") != encode(*found).removesuffix(b"\n"):
        raise EvidenceError.of(reason, field, "another encoding", "canonical PEM")
    return found


def encode(*certificates: bytes) -> bytes:
    """Canonical PEM of certificates in DER."""
    return b"".join(_encoded(der) for der in certificates)


def _encoded(der: bytes) -> bytes:
    text = base64.b64encode(der)
    lines = [text[at : at + _LINE] for at in range(0, len(text), _LINE)]
    return b"\n".join([b"-----BEGIN CERTIFICATE-----", *lines, b"-----END CERTIFICATE-----", b""])


def _decoded(text: bytes, field: str, reason: Reason) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise EvidenceError.of(reason, field, error, "base64") from error
