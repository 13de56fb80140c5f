"""What attackers hold: a member's leaf with its key, and the CA key of the compromised member.

Root of the lab reads both from places that nobody in a pod can reach.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from toposeal_lab.checks import CheckFailed
from toposeal_lab.clients import Credential
from toposeal_lab.forge import forge_leaf, key_pem
from toposeal_lab.member import Member
from toposeal_lab.memory import memory

_PEM = re.compile(rb"-----BEGIN [A-Z ]{1,24}-----\n[A-Za-z0-9+/=\n]{64,4096}-----END [A-Z ]{1,24}-----\n")


@dataclass(frozen=True)
class Stolen:
    """A genuine mesh leaf of one member."""

    credential: Credential
    certificate: x509.Certificate

    @property
    def uris(self) -> list[str]:
        """None in an ingress leaf."""
        names = self.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return names.get_values_for_type(x509.UniformResourceIdentifier)

    @property
    def uri(self) -> str:
        """Its SPIFFE identity."""
        return self.uris[0]

    @property
    def domain(self) -> str:
        """Its trust domain, which is its SNI too."""
        return self.uri.removeprefix("spiffe://").partition("/")[0]


@dataclass(frozen=True)
class Insider:
    """A member whose CA key is in the attackers' hands."""

    own: Stolen
    ca_key: ec.EllipticCurvePrivateKey

    def mint(self, *uris: str) -> Credential:
        """A leaf with any names that this CA's key signs."""
        return forge_leaf(self.ca_key, self.own.certificate.issuer, uris)


def steal(member: Member) -> Stolen:
    """The leaf that `member`'s Envoy uses now, out of Envoy's memory: a key is in no file."""
    found = [leaf for pid in member.processes() if _name(pid) == "envoy" for leaf in leaves(pid)]
    if not found:
        raise CheckFailed(f"no leaf in the memory of {member.name}'s Envoy")
    return found[-1]


def leaves(pid: int) -> list[Stolen]:
    """Every mesh leaf with its key that a process holds, the oldest first."""
    said = [piece for data in memory(pid) for piece in _PEM.findall(data)]
    keys = {_spki(key.public_key()): key for key in filter(None, map(_key, said))}
    found = {}
    for piece in said:
        with suppress(ValueError, x509.ExtensionNotFound):
            certificate = x509.load_pem_x509_certificate(piece)
            key = keys.get(_spki(certificate.public_key()))
            leaf = Stolen(Credential(piece.decode("ascii"), key_pem(key) if key else ""), certificate)
            if key is not None and leaf.uris:
                found[piece] = leaf
    return sorted(found.values(), key=lambda leaf: leaf.certificate.not_valid_before_utc)


def corrupt(member: Member, key_file: Path) -> Insider:
    """`member` with the CA key that it left in `key_file`."""
    key = load_pem_private_key(key_file.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("a member's CA key is an EC key")
    return Insider(steal(member), key)


def _key(piece: bytes) -> ec.EllipticCurvePrivateKey | None:
    """Memory that was given back may hold half a key, or what looks like one."""
    with suppress(ValueError):
        key = load_pem_private_key(piece, None)
        return key if isinstance(key, ec.EllipticCurvePrivateKey) else None
    return None


def _spki(key: object) -> bytes:
    known = key if isinstance(key, ec.EllipticCurvePublicKey) else None
    return known.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) if known else b""


def _name(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""
