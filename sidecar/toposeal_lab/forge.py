"""Certificates that no honest member makes, for attacks: any names, signed by any CA of the lab's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from toposeal.verification.ca_profile import key_usage
from toposeal_lab.clients import Credential

_DAY = timedelta(days=1)


def forge_leaf(ca_key: ec.EllipticCurvePrivateKey, issuer: x509.Name, uris: Sequence[str]) -> Credential:
    """A leaf with the profile of honest ones, but exactly these URI SANs, in this order."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    names = [x509.UniformResourceIdentifier(uri) for uri in uris]
    builder = (
        x509.CertificateBuilder(issuer, x509.Name([]), key.public_key(), x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(certificate_sign=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
    )
    leaf = builder.sign(ca_key, hashes.SHA256())
    return Credential(leaf.public_bytes(Encoding.PEM).decode("ascii"), key_pem(key))


def stranger(uris: Sequence[str]) -> Credential:
    """A leaf of a CA that nobody knows."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stranger")])
    return forge_leaf(ec.generate_private_key(ec.SECP256R1()), name, uris)


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """PKCS 8, PEM, not encrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")
