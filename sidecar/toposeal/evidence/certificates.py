"""PEM chains of vendor certificates: canonical text in, parsed values out. No IO, no trust."""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

from toposeal.errors import EvidenceError, Reason
from toposeal.x509_errors import X509_ERRORS

MAX_CHAIN_SIZE = 16 << 10  # three Intel certificates take under 4 KiB
_REMEMBERED = 64  # root, CAs and TCB signer are the same in every chain
_BEGIN, _END = b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n"
_PEM = re.compile(
    _BEGIN + rb"((?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{1,64}={0,2}\n)" + _END[:-1] + rb"(?:\n|\Z)"
)


@dataclass(frozen=True)
class Certificate:
    """One X.509 certificate with the facts that the checks need; times in Unix seconds."""

    x509: x509.Certificate
    der: bytes
    pem: bytes
    public_key: ec.EllipticCurvePublicKey  # P-256, as every key of Intel's
    common_name: str
    issuer: str  # RFC 4514
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

    The text must be what we would write ourselves, so that no other PEM reader sees other
    certificates in it and no bit of it is free; a missing last newline and NULs after it are admitted,
    since genuine chains differ there.
    """
    if len(pem) > MAX_CHAIN_SIZE:
        raise EvidenceError.of(reason, field, f"{len(pem)} bytes", f"at most {MAX_CHAIN_SIZE}")
    blocks = _blocks(pem.rstrip(b"\0"), length)
    if blocks is None:
        raise EvidenceError.of(reason, field, "another encoding", "canonical PEM")
    if len(blocks) != length:
        raise EvidenceError.of(reason, field, f"{len(blocks)} certificates", length)
    try:
        return tuple(_certificate(each) for each in blocks)
    except X509_ERRORS as error:
        raise EvidenceError.of(reason, field, error, "PEM certificates") from error


def _blocks(pem: bytes, length: int) -> list[bytes] | None:
    """The base64 of each certificate, of `length` and one more at most; None for any other text."""
    found: list[bytes] = []
    position = 0
    while position < len(pem) and len(found) <= length:
        match = _PEM.match(pem, position)
        if match is None or not _canonical(match[1]):
            return None
        found.append(match[1])
        position = match.end()
    return found


def _canonical(text: bytes) -> bool:
    joined = text.replace(b"\n", b"")
    try:
        return binascii.b2a_base64(binascii.a2b_base64(joined), newline=False) == joined
    except binascii.Error:
        return False


@lru_cache(_REMEMBERED)
def _certificate(block: bytes) -> Certificate:
    """The facts of one certificate in canonical base64, or ValueError. They follow from the bytes alone."""
    der = binascii.a2b_base64(block)
    certificate = x509.load_der_x509_certificate(der)
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) != 1:
        raise ValueError(f"{len(names)} common names in one subject")
    if certificate.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
        raise ValueError("a signature that is not ECDSA with SHA-256")
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("a key that is not on P-256")
    return Certificate(
        x509=certificate,
        der=der,
        pem=_BEGIN + block + _END,
        public_key=key,
        common_name=str(names[0].value),
        issuer=certificate.issuer.rfc4514_string(),
        not_before=int(certificate.not_valid_before_utc.timestamp()),
        not_after=int(certificate.not_valid_after_utc.timestamp()),
    )
