"""What attackers hold: a member's leaf with its key, and the CA key of the compromised member.

Root of the lab reads both from places that nobody in a pod can reach.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from toposeal.dataplane.layout import MESH_SECRET_FILE
from toposeal_lab.clients import Credential
from toposeal_lab.forge import forge_leaf
from toposeal_lab.member import Member


@dataclass(frozen=True)
class Stolen:
    """A genuine mesh leaf of one member."""

    credential: Credential
    certificate: x509.Certificate

    @property
    def uri(self) -> str:
        """Its SPIFFE identity."""
        names = self.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return names.get_values_for_type(x509.UniformResourceIdentifier)[0]

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
    """The leaf that `member`'s Envoy uses now."""
    secret = json.loads(Path(member.layout.xds, MESH_SECRET_FILE).read_bytes())
    certificate = secret["resources"][0]["tls_certificate"]
    chain, key = (certificate[name]["inline_string"] for name in ("certificate_chain", "private_key"))
    return Stolen(Credential(chain, key), x509.load_pem_x509_certificate(chain.encode("ascii")))


def corrupt(member: Member, key_file: Path) -> Insider:
    """`member` with the CA key that it left in `key_file`."""
    key = load_pem_private_key(key_file.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("a member's CA key is an EC key")
    return Insider(steal(member), key)
