"""A certificate of the webhook's, by a CA of its own, as somebody puts it into a cluster."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

NAMES = ("localhost", "toposeal-webhook.toposeal-system.svc")


@dataclass(frozen=True)
class Files:
    """Paths of PEM files."""

    ca: str
    certificate: str
    key: str


def make_files(folder: Path) -> Files:
    """A CA and a certificate by it for NAMES and 127.0.0.1; whatever is there is replaced."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = _signed("ca", ca_key, "ca", ca_key, x509.BasicConstraints(ca=True, path_length=0))
    addresses = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    names = x509.SubjectAlternativeName([*map(x509.DNSName, NAMES), *addresses])
    certificate = _signed("webhook", key, "ca", ca_key, names)
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    files = Files(*(str(folder / name) for name in ("ca.pem", "tls.crt", "tls.key")))
    for path, data in (
        (files.ca, ca.public_bytes(Encoding.PEM)),
        (files.certificate, certificate.public_bytes(Encoding.PEM)),
        (files.key, plain),
    ):
        Path(path).write_bytes(data)
    return files


def _signed(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    by: ec.EllipticCurvePrivateKey,
    extension: x509.ExtensionType,
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        _name(issuer), _name(subject), key.public_key(), x509.random_serial_number()
    )
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
    return builder.add_extension(extension, critical=False).sign(by, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
