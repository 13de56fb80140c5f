"""Keys of simulated boots: real ones, and ones that sign symbolically under the same public keys.

A symbolic signature is a MAC over the exact message under a secret of this very key. Production refuses it:
only inside `symbolic_signatures` are the public keys of a parsed IDENTITY such that understand it. Parsers,
transcripts and checks are the shipped ones in both cases.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from hashlib import blake2b
from types import ModuleType
from typing import Protocol, TypeVar, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    derive_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from toposeal.membership import exchange, hello, identity, leave, updates
from toposeal.membership.hello import verify_hello
from toposeal.membership.identity import Identity, make_identity, parse_identity, read_ik, verify_identity
from toposeal.membership.signing import SigningKeys
from toposeal.membership.state import Own
from toposeal.names import mesh_id
from toposeal.pki.mint import mint_ca, serial_number
from toposeal.topology.accept import SignedTopology, accept
from toposeal.topology.owner import spki
from toposeal_lab.simulation import symbolic
from toposeal_lab.simulation.dice import Dice
from toposeal_lab.simulation.symbolic import WALL, owner

T = TypeVar("T")

POOL = 256  # boots of one story, at most
_SIGNATURE_SIZE = 64
_REMEMBERED = 4096


class Entropy(Protocol):
    """`random.Random`, or `Dice`."""

    def randbytes(self, n: int, /) -> bytes: ...


class SymbolicKey:
    """Both halves of a key pair whose real public half is `public`."""

    def __init__(self, public: Ed25519PublicKey | EllipticCurvePublicKey) -> None:
        self._public = public
        self._secret = secret_of(public)

    def public_key(self) -> Ed25519PublicKey | EllipticCurvePublicKey:
        return self._public

    def sign(self, message: bytes, *_: object) -> bytes:
        return blake2b(message, key=self._secret, digest_size=_SIGNATURE_SIZE).digest()

    def verify(self, signature: bytes, message: bytes, *_: object) -> None:
        """Raises InvalidSignature, as the real one does."""
        if signature != blake2b(message, key=self._secret, digest_size=_SIGNATURE_SIZE).digest():
            raise InvalidSignature


def secret_of(public: Ed25519PublicKey | EllipticCurvePublicKey) -> bytes:
    """What stands for the private half."""
    return blake2b(b"symbolic" + spki(public), digest_size=32).digest()


@dataclass(frozen=True)
class Boot:
    """The private keys of one boot, both kinds."""

    ik: Ed25519PrivateKey
    ca: EllipticCurvePrivateKey
    serial: int
    secrets: tuple[bytes, ...]  # what must never leave the member (S7), in hexadecimal too

    @cached_property
    def real(self) -> SigningKeys:
        return SigningKeys(self.ik, self.ca)

    @cached_property
    def symbolic(self) -> SigningKeys:
        ik, ca = SymbolicKey(self.ik.public_key()), SymbolicKey(self.ca.public_key())
        return SigningKeys(cast(Ed25519PrivateKey, ik), cast(EllipticCurvePrivateKey, ca))


def boot_of(entropy: Entropy) -> Boot:
    """Keys from `entropy`."""
    ik = entropy.randbytes(32)
    scalar = (int.from_bytes(entropy.randbytes(31), "big") + 1).to_bytes(32, "big")
    ca = derive_private_key(int.from_bytes(scalar, "big"), SECP256R1())
    key, serial = Ed25519PrivateKey.from_private_bytes(ik), serial_number(entropy.randbytes(20))
    secrets = (ik, scalar, secret_of(key.public_key()), secret_of(ca.public_key()))
    return Boot(key, ca, serial, (*secrets, *(secret.hex().encode() for secret in secrets)))


@cache
def pooled(number: int) -> Boot:
    """One of POOL boots that are made once for all stories."""
    return boot_of(Dice("boot", number))


def own_of(
    boot: Boot, keys: SigningKeys, role: str, address: str, signed: SignedTopology, owner_seed: int = 1
) -> Own:
    """Identity and configuration of one boot."""
    root, _ = owner(owner_seed)
    mesh = signed.topology.mesh
    made = make_identity(keys, mesh_id(root.canonical, mesh), mesh, role, ca_der(boot, mesh))
    return Own(made, keys, root, signed, (address,))


def make_own(entropy: Entropy, role: str, address: str, signed: SignedTopology, owner_seed: int = 1) -> Own:
    """Keys, identity and configuration of one boot, all of it real."""
    boot = boot_of(entropy)
    return own_of(boot, boot.real, role, address, signed, owner_seed)


@lru_cache(_REMEMBERED)
def ca_der(boot: Boot, mesh: str) -> bytes:
    return mint_ca(boot.ca, mesh, boot.serial, WALL)


def p256(entropy: Entropy) -> EllipticCurvePrivateKey:
    return derive_private_key(int.from_bytes(entropy.randbytes(31), "big") + 1, SECP256R1())


@contextmanager
def symbolic_signatures() -> Iterator[None]:
    """Inside, keys of parsed identities verify symbolic signatures and no others. Besides, what was parsed,
    verified or accepted once is remembered by its exact bytes, as a pure function's value may be, and frozen
    values are copied without a detour. That none of it changes a step is what stories with real signatures
    show.
    """
    if identity.parse_identity is not parse_identity:  # inside already
        yield
        return
    swapped: list[tuple[ModuleType, str, object]] = [
        (identity, "parse_identity", _remembered_identity(parse_identity)),
        *((module, "verify_identity", _remembered(verify_identity)) for module in (exchange, identity)),
        *((module, "verify_hello", _remembered(verify_hello)) for module in (exchange, hello)),
        (leave, "read_ik", _symbolic_ik),
        *((module, "accept", _remembered(accept)) for module in (updates, symbolic)),
        *((module, "replace", _copied) for module in _members()),
    ]
    shipped = [(module, name, vars(module)[name]) for module, name, _ in swapped]
    _put(swapped)
    try:
        yield
    finally:
        _put(shipped)


def _put(values: Iterable[tuple[ModuleType, str, object]]) -> None:
    for module, name, value in values:
        setattr(module, name, value)


def _members() -> Iterator[ModuleType]:
    """The modules of the state machine that copy its values."""
    for name, module in sys.modules.items():
        if name.startswith("toposeal.membership.") and vars(module).get("replace") is dataclasses.replace:
            yield module


def _copied(value: T, **changes: object) -> T:
    """`dataclasses.replace` for dataclasses whose constructor only stores its arguments."""
    kind = value.__class__
    fields = value.__dict__ | changes
    derived = _DERIVED.get(kind)
    for name in _derived(kind) if derived is None else derived:
        fields.pop(name, None)
    copy = object.__new__(kind)
    object.__setattr__(copy, "__dict__", fields)
    return copy


_DERIVED: dict[type, tuple[str, ...]] = {}  # what a value keeps beside its fields, of which it is made


def _derived(kind: type) -> tuple[str, ...]:
    names = tuple(name for name, value in vars(kind).items() if isinstance(value, cached_property))
    return _DERIVED.setdefault(kind, names)


def _symbolic(parsed: Identity) -> Identity:
    ik, ca = SymbolicKey(parsed.ik), SymbolicKey(parsed.ca.public_key)
    certificate = replace(parsed.ca, public_key=cast(EllipticCurvePublicKey, ca))
    return replace(parsed, ik=cast(Ed25519PublicKey, ik), ca=certificate)


def _symbolic_ik(spki: bytes, field: str) -> SymbolicKey:
    return SymbolicKey(read_ik(spki, field))


@cache
def _remembered_identity(parse: Callable[[bytes, bytes, str], Identity]) -> Callable[..., Identity]:
    return lru_cache(_REMEMBERED)(lambda body, mesh, name: _symbolic(parse(body, mesh, name)))


@cache
def _remembered(shipped: Callable[..., T]) -> Callable[..., T]:
    return lru_cache(_REMEMBERED)(shipped)
