"""Certificates that no honest member makes: every field of the CA profile and of leaves, wrong."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from toposeal.names import ca_digest, member_domain, spiffe_id
from toposeal.pki.mint import mint_ca, mint_mesh_leaf, serial_number
from toposeal.verification.ca_profile import ca_profile, encode_spki, key_usage

NOW = int(datetime.datetime.now(datetime.UTC).timestamp())
DAY = 86_400
OIDS = x509.oid.ExtensionOID
SERIAL = serial_number(bytes(range(20)))


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: Any) -> str:
    encoded: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return encoded.decode()


def pem(der: bytes) -> str:
    certificate = x509.load_der_x509_certificate(der)
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def at(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def domain_of(key: ec.EllipticCurvePrivateKey, mesh: str = "shop") -> str:
    return member_domain(ca_digest(encode_spki(key.public_key())), mesh)


@dataclass
class TestMember:
    """One member with its own CA, as a peer sees it and with its secrets."""

    __test__ = False
    role: str
    mesh: str = "shop"
    ca_key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    leaf_key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)

    def __post_init__(self) -> None:
        self.profile_der = mint_ca(self.ca_key, self.mesh, SERIAL, NOW)
        self.ca_der = self.profile_der  # a test may replace it by another certificate of the same key
        self.ca_pem = pem(self.ca_der)
        self.domain = domain_of(self.ca_key, self.mesh)
        self.uri = spiffe_id(self.domain, self.role)
        leaf = mint_mesh_leaf(self.ca_key, self.ca_der, self.role, self.leaf_key, SERIAL, NOW, DAY)
        self.chain_pem, self.key_pem = pem(leaf), key_pem(self.leaf_key)

    def forge(self, *names: x509.GeneralName, **options: Any) -> tuple[str, str]:
        """A leaf that this member's CA signs with any SAN list: (chain PEM, key PEM)."""
        leaf = forge_leaf(self.ca_key, x509.load_der_x509_certificate(self.ca_der).subject, names, **options)
        return pem(der(leaf[0])), key_pem(leaf[1])


def forge_leaf(
    ca_key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    names: Sequence[x509.GeneralName],
    *,
    subject: str | None = None,
    ca: bool = False,
    start: int = NOW - DAY,
    end: int = NOW + DAY,
    usages: Sequence[x509.ObjectIdentifier] | None = None,
    key: ec.EllipticCurvePrivateKey | None = None,
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = key or new_key()
    attributes = [x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)] if subject else []
    both = [x509.oid.ExtendedKeyUsageOID.SERVER_AUTH, x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        x509.CertificateBuilder(issuer, x509.Name(attributes), key.public_key(), SERIAL, at(start), at(end))
        .add_extension(x509.BasicConstraints(ca, None), True)
        .add_extension(key_usage(certificate_sign=ca), True)
        .add_extension(x509.ExtendedKeyUsage(both if usages is None else usages), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), True)
    return builder.sign(ca_key, hashes.SHA256()), key


def below(member: TestMember, uri: str) -> tuple[str, str]:
    """The member's own CA certifies another CA, which signs a leaf named `uri`: (chain PEM, key PEM)."""
    key = new_key()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "below")])
    issuer = x509.load_der_x509_certificate(member.ca_der).subject
    middle = (
        x509.CertificateBuilder(issuer, name, key.public_key(), SERIAL, at(NOW - DAY), at(NOW + DAY))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(key_usage(certificate_sign=True), critical=True)
        .sign(member.ca_key, hashes.SHA256())
    )
    leaf, leaf_key = forge_leaf(key, name, [x509.UniformResourceIdentifier(uri)])
    return pem(der(leaf)) + pem(der(middle)), key_pem(leaf_key)


def forge_ca(key: ec.EllipticCurvePrivateKey, **changes: Any) -> bytes:
    """The profile with `changes`: name, serial, start, end, digest, signer, version, and extensions
    as `basic`, `usage`, `skid`, `names` (None drops it, a pair is value and critical), `extra`."""
    domain = domain_of(key)
    public = changes.get("public", key.public_key())
    profile = ca_profile(key.public_key(), domain, SERIAL, at(NOW), at(NOW + DAY))
    label = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, domain.partition(".")[0])])
    honest = {
        "basic": (x509.BasicConstraints(True, 0), True),
        "usage": (key_usage(certificate_sign=True), True),
        "skid": (x509.SubjectKeyIdentifier.from_public_key(public), False),
        "names": (profile._extensions[3].value, True),
        "extra": None,
    }
    builder = x509.CertificateBuilder(
        changes.get("issuer", changes.get("name", label)),
        changes.get("subject", changes.get("name", label)),
        public,
        changes.get("serial", SERIAL),
        at(changes.get("start", NOW)),
        at(changes.get("end", NOW + DAY)),
    )
    for name, value in honest.items():
        chosen = changes.get(name, value)
        if chosen is not None:
            builder = builder.add_extension(*chosen)
    return der(builder.sign(changes.get("signer", key), changes.get("digest", hashes.SHA256())))


def constraints(
    permitted: Sequence[x509.GeneralName], excluded: Sequence[x509.GeneralName] | None = None
) -> Any:
    everything = [x509.IPAddress(ipaddress.ip_network(n)) for n in ("0.0.0.0/0", "::/0")]
    return x509.NameConstraints(permitted, (everything if excluded is None else excluded) or None)


def resigned(certificate: bytes, key: ec.EllipticCurvePrivateKey, old: bytes, new: bytes) -> bytes:
    """Replace `old` by `new`, as long, in the signed part, and sign again: what no builder would make."""
    if len(old) != len(new):
        raise ValueError("a replacement of another length needs new lengths around it")
    signed = x509.load_der_x509_certificate(certificate).tbs_certificate_bytes
    if signed.count(old) < 1:
        raise ValueError("nothing to replace")
    return assemble(signed.replace(old, new), key)


def assemble(signed: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate over any to-be-signed bytes."""
    signature = key.sign(signed, ec.ECDSA(hashes.SHA256()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    return tlv(0x30, signed + algorithm + tlv(0x03, b"\x00" + signature))


def tlv(tag: int, content: bytes) -> bytes:
    """One DER element."""
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    size = (len(content).bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + len(content).to_bytes(size, "big") + content


def loosened(der: bytes) -> bytes:
    """A certificate whose signature ends with a zero bit, which is called unused."""
    signature = x509.load_der_x509_certificate(der).signature
    place = len(der) - len(signature) - 1
    assert der[place:] == b"\0" + signature and not der[-1] & 1
    return der[:place] + b"\1" + signature
