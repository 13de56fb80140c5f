"""The owner root: which keys, how many of each group, must have signed a topology. No IO.

Canonical JSON `{"required":[[[key,...],k],...]}`, keys as base64 of DER SubjectPublicKeyInfo. Every
group must meet its k, counted by distinct key. Its SHA-384 is what is measured into a pod, so the
file has one spelling only: `sha384sum` of the file is the digest.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from toposeal.errors import Mismatch, Reason, TopologyError
from toposeal.limits import MAX_OWNER_KEYS, MAX_OWNER_ROOT_SIZE
from toposeal.topology import strict_json
from toposeal.topology.schema import mismatch

PublicKey = Ed25519PublicKey | EllipticCurvePublicKey
PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey

_ED25519_P = (1 << 255) - 19
_ED25519_Y8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7  # order 8
_ED25519_SMALL = {0, 1, _ED25519_P - 1, _ED25519_Y8, _ED25519_P - _ED25519_Y8}


@dataclass(frozen=True)
class OwnerKey:
    """One public key; two are the same when their DER bytes are."""

    spki: bytes
    _public: PublicKey = field(compare=False, repr=False)

    @classmethod
    def parse(cls, der: bytes, path: str) -> OwnerKey:
        """Read DER SubjectPublicKeyInfo of Ed25519 or ECDSA P-256, or raise TopologyError.

        Refused besides other kinds: another encoding of the same key, which would count twice,
        and Ed25519 points of small order, under which anyone can sign.
        """
        try:
            public = load_der_public_key(der)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise _refused(path, der, "a public key as DER SubjectPublicKeyInfo") from error
        if isinstance(public, Ed25519PublicKey):
            if _is_weak(public):
                raise _refused(path, "a point of small order", "an Ed25519 key that has a private half")
        elif not isinstance(public, EllipticCurvePublicKey) or not isinstance(public.curve, SECP256R1):
            raise _refused(path, type(public).__name__, "an Ed25519 or ECDSA P-256 key")
        if spki(public) != der:
            raise _refused(path, "another encoding", "the DER encoding with an uncompressed point")
        return cls(der, public)

    def has_signed(self, message: bytes, signature: bytes) -> bool:
        """Whether `signature` (Ed25519: 64 bytes; ECDSA with SHA-256: DER) is this key's over `message`."""
        try:
            if isinstance(self._public, Ed25519PublicKey):
                self._public.verify(signature, message)
            else:
                self._public.verify(signature, message, ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class Group:
    """Parties of which `threshold` must have signed."""

    keys: tuple[OwnerKey, ...]
    threshold: int


@dataclass(frozen=True)
class OwnerRoot:
    """Checked owner root; `canonical` is its one byte form."""

    groups: tuple[Group, ...]
    canonical: bytes

    @classmethod
    def parse(cls, data: bytes) -> OwnerRoot:
        """Read the file's exact bytes, or raise TopologyError naming the part that is wrong."""
        value = strict_json.parse_canonical(data, "owner", MAX_OWNER_ROOT_SIZE)
        if not isinstance(value, dict) or value.keys() != {"required"}:
            raise _refused("owner", value, 'an object with "required" alone')
        groups = value["required"]
        if not isinstance(groups, list) or not groups:
            raise _refused("owner.required", groups, "a list of at least one [keys, k]")
        root = cls(tuple(_group(g, f"owner.required[{i}]") for i, g in enumerate(groups)), data)
        total = sum(len(group.keys) for group in root.groups)
        if total > MAX_OWNER_KEYS:
            raise _refused("owner.required", f"{total} keys", f"at most {MAX_OWNER_KEYS}")
        return root

    @classmethod
    def of(cls, groups: Iterable[tuple[Iterable[bytes], int]]) -> OwnerRoot:
        """Build from DER keys and thresholds; raises what `parse` raises."""
        required = [[[base64.b64encode(key).decode() for key in keys], k] for keys, k in groups]
        return cls.parse(strict_json.canonical({"required": required}))

    @property
    def digest(self) -> bytes:
        """SHA-384 of `canonical`, 48 bytes: what a pod measures and a payload names."""
        return hashlib.sha384(self.canonical).digest()

    @property
    def keys(self) -> tuple[OwnerKey, ...]:
        """Every distinct key of any group."""
        return tuple(dict.fromkeys(key for group in self.groups for key in group.keys))

    def unmet(self, signers: Collection[OwnerKey]) -> Iterator[Mismatch]:
        """One mismatch for each group that `signers` do not satisfy."""
        for index, group in enumerate(self.groups):
            count = len(set(group.keys).intersection(signers))
            if count < group.threshold:
                yield mismatch(
                    f"signatures of owner.required[{index}]",
                    f"{count} of {len(group.keys)} keys",
                    f"at least {group.threshold}",
                    Reason.TOPOLOGY_THRESHOLD,
                )


def spki(key: PublicKey) -> bytes:
    """DER SubjectPublicKeyInfo: 44 bytes for Ed25519, 91 for P-256."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _group(value: object, path: str) -> Group:
    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[0], list):
        raise _refused(path, value, "[keys, k]")
    keys = tuple(
        OwnerKey.parse(_der(item, f"{path}[0][{i}]"), f"{path}[0][{i}]") for i, item in enumerate(value[0])
    )
    if len(set(keys)) != len(keys):
        raise _refused(path, "one key twice", "distinct keys")
    threshold = value[1]
    if type(threshold) is not int or not 1 <= threshold <= len(keys):
        raise _refused(f"{path}[1]", threshold, f"a threshold from 1 to {len(keys)}, the number of keys")
    return Group(keys, threshold)


def _der(value: object, path: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except (binascii.Error, ValueError) as error:
        raise _refused(path, value, "base64") from error


def _is_weak(public: Ed25519PublicKey) -> bool:
    y = int.from_bytes(public.public_bytes_raw(), "little") & ((1 << 255) - 1)
    return y >= _ED25519_P or y in _ED25519_SMALL


def _refused(path: str, found: object, expected: str) -> TopologyError:
    return TopologyError(mismatch(path, found, expected))
