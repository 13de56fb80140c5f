"""The signatures of the protocol, each over `tag | LP(body)` (PROTOCOL.md 2.5). No IO, no entropy.

IK is Ed25519 and the CA key signs ECDSA P-256 with RFC 6979 nonces: both deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from toposeal.encoding import transcript
from toposeal.errors import Reason, RemoteProtocolError


class Tag(StrEnum):
    """Domain separation: a signature under one tag is worth nothing under another."""

    IDENTITY = "toposeal/v1/sig/identity"
    HELLO = "toposeal/v1/sig/hello"
    PING = "toposeal/v1/sig/ping"
    PONG = "toposeal/v1/sig/pong"
    PROPOSE = "toposeal/v1/sig/propose"
    COMMIT = "toposeal/v1/sig/commit"
    SEALED = "toposeal/v1/sig/sealed"
    HEARTBEAT = "toposeal/v1/sig/heartbeat"
    WANT = "toposeal/v1/sig/want"
    LEAVE = "toposeal/v1/sig/leave"


@dataclass(frozen=True)
class SigningKeys:
    """The two private keys of one boot. Kept out of every representation (F4)."""

    ik: Ed25519PrivateKey = field(repr=False)
    ca: EllipticCurvePrivateKey = field(repr=False)

    def sign(self, tag: Tag, body: bytes) -> bytes:
        """IK signature, 64 bytes."""
        return self.ik.sign(transcript(tag, body))

    def sign_ca(self, tag: Tag, body: bytes) -> bytes:
        """CA-key signature, DER. Only IDENTITY and COMMIT are ever signed with it, and X.509."""
        return self.ca.sign(transcript(tag, body), ECDSA(SHA256(), deterministic_signing=True))


def verify_ik(key: Ed25519PublicKey, tag: Tag, body: bytes, signature: bytes) -> None:
    """Raise RemoteProtocolError(SIGNATURE_INVALID) unless `signature` is IK's over `body`."""
    try:
        key.verify(signature, transcript(tag, body))
    except InvalidSignature as error:
        raise _invalid(tag, "IK") from error


def verify_ca(key: EllipticCurvePublicKey, tag: Tag, body: bytes, signature: bytes) -> None:
    """Raise RemoteProtocolError(SIGNATURE_INVALID) unless `signature` is the CA key's over `body`."""
    try:
        key.verify(signature, transcript(tag, body), ECDSA(SHA256()))
    except InvalidSignature as error:
        raise _invalid(tag, "CA key") from error


def _invalid(tag: Tag, key: str) -> RemoteProtocolError:
    return RemoteProtocolError.of(
        Reason.SIGNATURE_INVALID, tag.value, "a signature that does not verify", f"the sender's {key}"
    )
