"""Random bytes from the kernel, with the checks that a caller can make (O4). No other source."""

from __future__ import annotations

import secrets

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from toposeal.errors import PodError, Reason
from toposeal.membership.signing import SigningKeys

_MIN_SIZE = 16
_MIN_VARIETY = 4  # 16 random bytes have fewer distinct values once in 10**24 times


def random_bytes(size: int) -> bytes:
    """`size` bytes, at least 16. Raises PodError(ENTROPY) when the kernel's generator fails, answers
    too little or repeats itself.
    """
    if size < _MIN_SIZE:
        raise ValueError(f"{size} bytes are too few to judge: at least {_MIN_SIZE}")
    first, second = _draw(size), _draw(size)
    if first == second or len(set(first)) < _MIN_VARIETY:
        raise PodError.of(Reason.ENTROPY, "getrandom", "the same bytes twice", "random bytes")
    return first


def new_signing_keys() -> SigningKeys:
    """IK and CA key of one boot. They never leave this process. Raises PodError(ENTROPY)."""
    random_bytes(32)
    return SigningKeys(ed25519.Ed25519PrivateKey.generate(), new_key())


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _draw(size: int) -> bytes:
    try:
        drawn = secrets.token_bytes(size)
    except (OSError, NotImplementedError) as error:
        raise PodError.of(Reason.ENTROPY, "getrandom", type(error).__name__, "random bytes") from error
    if len(drawn) != size:
        raise PodError.of(Reason.ENTROPY, "getrandom", f"{len(drawn)} bytes", size)
    return drawn
