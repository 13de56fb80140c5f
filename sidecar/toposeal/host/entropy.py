"""Random bytes from the kernel, with the one check that a caller can make (O4). No other source."""

from __future__ import annotations

import secrets

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from toposeal.errors import PodError, Reason
from toposeal.membership.signing import SigningKeys


def random_bytes(size: int) -> bytes:
    """`size` bytes, at least 16. Raises PodError(ENTROPY) when the kernel's generator repeats itself."""
    first, second = secrets.token_bytes(size), secrets.token_bytes(size)
    if first == second or len(set(first)) < 4:
        raise PodError.of(Reason.ENTROPY, "getrandom", "the same bytes twice", "random bytes")
    return first


def new_signing_keys() -> SigningKeys:
    """IK and CA key of one boot. They never leave this process."""
    random_bytes(32)
    return SigningKeys(ed25519.Ed25519PrivateKey.generate(), new_key())


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())
