"""A private CA and one server certificate, as an owner's PCCS has them."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from toposeal_lab.simtdx import Authority

_LIFETIME = timedelta(days=30)


def issue_server(host: str) -> tuple[Authority, Authority]:
    """CA and server certificate for an IP address or a name; valid from an hour ago."""
    ca = _issue("toposeal-lab private CA", None, None)
    try:
        name: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        name = x509.DNSName(host)
    return ca, _issue(host, ca, name)


def _issue(common_name: str, issuer: Authority | None, alternative: x509.GeneralName | None) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    start = datetime.now(UTC) - timedelta(hours=1)
    is_ca = issuer is None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + _LIFETIME)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None), critical=True)
    )
    if alternative is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
    signer = key if issuer is None else issuer.key
    return Authority(key, builder.sign(signer, hashes.SHA256()))
