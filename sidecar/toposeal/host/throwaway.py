"""Throw-away TLS for the peer link: it hides content from passive listeners and proves nothing.

Nobody trusts these certificates. A client takes whatever certificate the address shows and uses it as
the root of that one channel; what is said on it is signed or quoted (PROTOCOL.md 4).
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from toposeal.errors import NetworkError, Reason, printable

SERVER_NAME = "toposeal-peer"


@dataclass(frozen=True)
class ThrowawayIdentity:
    """One self-signed certificate and its key, both PEM, for this process only."""

    certificate_pem: bytes
    key_pem: bytes = field(repr=False)


def make_throwaway() -> ThrowawayIdentity:
    """A fresh P-256 key and a certificate for SERVER_NAME that is valid for ever, as nobody looks."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SERVER_NAME)])
    start = datetime(2020, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=36_500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), False)
        .add_extension(x509.BasicConstraints(True, 0), True)
        .sign(key, hashes.SHA256())
    )
    return ThrowawayIdentity(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


async def shown_certificate(host: str, port: int, timeout_s: float) -> bytes:
    """The certificate that `host:port` shows now, PEM. Raises NetworkError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, TimeoutError) as error:
        raise NetworkError.of(Reason.NETWORK, f"{host}:{port}", printable(error), "a TLS server") from error
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    if not der:
        raise NetworkError.of(Reason.NETWORK, f"{host}:{port}", "no certificate", "a certificate")
    return ssl.DER_cert_to_PEM_cert(der).encode("ascii")
