"""PEM chains of vendor certificates: canonical text in, parsed values out. No IO, no trust."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.pem import decode_canonical, encode
from toposeal.x509_errors import X509_ERRORS

MAX_CHAIN_SIZE = 16 << 10  # three Intel certificates take under 4 KiB
_REMEMBERED = 64  # root, CAs and TCB signer are the same in every chain


@dataclass(frozen=True)
class Certificate:
    """One X.509 certificate with the facts that the checks need; times in Unix seconds."""

    x509: x509.Certificate
    der: bytes
    pem: bytes
    public_key: ec.EllipticCurvePublicKey  # P-256, as every key of Intel's
    common_name: str
    issuer: str  # RFC 4514
    is_ca: bool  # by basic constraints and key usage
    not_before: int
    not_after: int

    def issued_by(self, issuer: Certificate) -> bool:
        """Whether `issuer`'s subject and key are those that this certificate names and verifies with."""
        try:
            self.x509.verify_directly_issued_by(issuer.x509)
        except (*X509_ERRORS, InvalidSignature):
            return False
        return True


def parse_chain(pem: bytes, length: int, field: str, reason: Reason) -> tuple[Certificate, ...]:
    """Parse exactly `length` certificates, leaf first. Raises EvidenceError(`reason`) naming `field`.

    The text is canonical PEM (`pem.decode_canonical`); NULs after it are admitted, since genuine chains
    differ there.
    """
    if len(pem) > MAX_CHAIN_SIZE:
        raise EvidenceError.of(reason, field, f"{len(pem)} bytes", f"at most {MAX_CHAIN_SIZE}")
    found = decode_canonical(pem.rstrip(b"\0"), field, reason)
    if len(found) != length:
        raise EvidenceError.of(reason, field, f"{len(found)} certificates", length)
    try:
        return tuple(_certificate(each) for each in found)
    except X509_ERRORS as error:
        raise EvidenceError.of(reason, field, error, "PEM certificates") from error


def is_ca(extensions: x509.Extensions) -> bool:
    """Whether basic constraints and key usage both say that the key may issue certificates."""
    try:
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return constraints.ca and usage.key_cert_sign


def is_whole(certificate: x509.Certificate) -> bool:
    """Whether its signature, a BIT STRING at its end, is of whole bytes: DER lets a zero bit at the end be
    called unused, and no verification looks at that.
    """
    return certificate.public_bytes(Encoding.DER).endswith(b"\0" + certificate.signature)


@lru_cache(_REMEMBERED)
def _certificate(der: bytes) -> Certificate:
    """The facts of one certificate, or ValueError. They follow from the bytes alone."""
    certificate = x509.load_der_x509_certificate(der)
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) != 1:
        raise ValueError(f"{len(names)} common names in one subject")
    if certificate.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
        raise ValueError("a signature that is not ECDSA with SHA-256")
    if not is_whole(certificate):
        raise ValueError("a signature with unused bits")
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("a key that is not on P-256")
    return Certificate(
        x509=certificate,
        der=der,
        pem=encode(der),
        public_key=key,
        common_name=str(names[0].value),
        issuer=certificate.issuer.rfc4514_string(),
        is_ca=is_ca(certificate.extensions),
        not_before=int(certificate.not_valid_before_utc.timestamp()),
        not_after=int(certificate.not_valid_after_utc.timestamp()),
    )
