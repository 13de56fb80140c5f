"""Is collateral authentic by itself: made by the vendor, in force, and not older than what was seen? No IO.

`verification.tdx_authentic` checks collateral together with a quote. This is for collateral that comes
before any quote: out of a service, a cache or a peer's hands, and before it may raise a mark.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.amd_x509 import (
    AmdCertificate,
    AmdCrl,
    parse_amd_certificate,
    parse_amd_crl,
)
from toposeal.evidence.certificates import Certificate
from toposeal.evidence.collateral import Collateral, Crl, SignedDocument, parse_collateral
from toposeal.evidence.snp_certs import Endorsement, KeyKind, parse_endorsement
from toposeal.evidence.snp_tcb import Product
from toposeal.verification.model import TrustAnchors
from toposeal.verification.tdx_authentic import expect_signers
from toposeal.x509_errors import X509_ERRORS

_MAX_NUMBER_BITS = 160  # RFC 5280, 5.2.3
_SHA256 = ec.ECDSA(hashes.SHA256())


@dataclass(frozen=True)
class ListAge:
    """What orders two revocation lists of one issuer: CRLNumber, and thisUpdate where that is equal.

    Intel has written the number 1 on every list since 2023 at the latest, so that the number alone would
    order nothing. Both dates are the issuer's own: no clock of ours is in the comparison.
    """

    number: int
    issued: int  # Unix seconds

    def older_than(self, other: ListAge) -> bool:
        return (self.number, self.issued) < (other.number, other.issued)


@dataclass(frozen=True)
class AuthenticCollateral:
    """Proof that the vendor made a whole entry. Constructed by `authenticate_collateral` alone."""

    entry: bytes
    fmspc: bytes  # 6
    evaluation: int  # of TCB info and QE identity, which are of one
    lists: tuple[tuple[str, ListAge], ...]  # by issuer
    valid_until: int  # Unix seconds


@dataclass(frozen=True)
class AuthenticList:
    """Proof that an ARK signed a revocation list. Constructed by `authenticate_amd_list` alone."""

    der: bytes
    issuer: str
    age: ListAge
    valid_until: int  # Unix seconds


@dataclass(frozen=True)
class AmdCa:
    """Proof that a pinned ARK issued a CA. Constructed by `authenticate_amd_ca` alone."""

    ca: AmdCertificate
    root: AmdCertificate  # the pinned one
    product: Product
    kind: KeyKind
    valid_until: int  # Unix seconds


def authenticate_collateral(entry: bytes, anchors: TrustAnchors, now: int) -> AuthenticCollateral:
    """Verify one TDX entry at `now` (Unix seconds), everything but its use for a quote.

    Raises EvidenceError: COLLATERAL_INVALID, COLLATERAL_SIGNER, REVOKED or TOO_LARGE.
    """
    # (1) It is of the expected form, of one TCB recovery, and in force.
    parsed = parse_collateral(entry)
    _expect_one_evaluation(parsed)
    _expect_in_force(parsed, now)
    # (2) The signers are whom the pinned root has issued for this and nobody else.
    expect_signers(parsed, anchors)
    # (3) The lists are their issuers', and name none of the issuers.
    platform_ca, root = parsed.pck_crl_chain
    _expect_list(parsed.pck_crl, platform_ca, "collateral.pck_crl")
    _expect_list(parsed.root_ca_crl, root, "collateral.root_ca_crl")
    _expect_not_revoked(parsed)
    # (4) Each text was signed as it stands.
    _expect_signature(parsed.tcb_info, "collateral.tcb_info")
    _expect_signature(parsed.qe_identity, "collateral.qe_identity")
    return AuthenticCollateral(
        entry=entry,
        fmspc=parsed.fmspc,
        evaluation=parsed.tcb_info.evaluation,
        lists=(
            (_key_name(platform_ca.x509), list_age(parsed.pck_crl.x509, "collateral.pck_crl")),
            (_key_name(root.x509), list_age(parsed.root_ca_crl.x509, "collateral.root_ca_crl")),
        ),
        valid_until=parsed.valid_until,
    )


def authenticate_amd_ca(
    der: bytes, product: Product, kind: KeyKind, anchors: TrustAnchors, now: int
) -> AmdCa:
    """Verify the ASK (for VCEK) or ASVK (for VLEK) of `product`, in DER, under the pinned ARK of its name.

    Raises EvidenceError: CERTIFICATE_INVALID, COLLATERAL_SIGNER, COLLATERAL_INVALID for what is not in
    force, or TOO_LARGE.
    """
    ca = parse_amd_certificate(der, "chain.ca")
    wanted = kind.ca_name(product)
    if ca.common_name != wanted:
        raise EvidenceError.of(Reason.COLLATERAL_SIGNER, "chain.ca", ca.common_name, wanted)
    for anchor in anchors.amd_roots:
        root = parse_amd_certificate(anchor, "anchor")
        if root.common_name == f"ARK-{product}" and ca.issued_by(root):
            _expect_now("chain.ca", ca.not_before, ca.not_after, now)
            return AmdCa(ca, root, product, kind, min(ca.not_after, root.not_after))
    raise EvidenceError.of(
        Reason.COLLATERAL_SIGNER, "chain.ca.issuer", "another", f"the pinned ARK-{product}"
    )


def authenticate_endorsement(data: bytes, chain: AmdCa, now: int) -> Endorsement:
    """Verify one VCEK or VLEK, in DER, that `chain` vouches for. Raises EvidenceError as above."""
    key = parse_endorsement(data)
    if (key.product, key.kind) != (chain.product, chain.kind):
        found, expected = f"{key.product} {key.kind}", f"{chain.product} {chain.kind}"
        raise EvidenceError.of(Reason.PRODUCT, "endorsement", found, expected)
    if not chain.ca.may_sign_certificates() or not key.certificate.issued_by(chain.ca):
        expected = chain.ca.common_name
        raise EvidenceError.of(Reason.COLLATERAL_SIGNER, "endorsement.issuer", "another", expected)
    _expect_now("endorsement", key.certificate.not_before, key.certificate.not_after, now)
    return key


def authenticate_amd_list(der: bytes, anchors: TrustAnchors, now: int) -> AuthenticList:
    """Verify a revocation list of any pinned ARK. Raises EvidenceError: COLLATERAL_INVALID or _SIGNER."""
    parsed = parse_amd_crl(der)
    root = root_of_list(parsed, anchors)
    _expect_now("crl", 0, parsed.next_update - 1, now)
    issuer = hashlib.sha256(root.public_key_info).hexdigest()
    age = list_age(x509.load_der_x509_crl(der), "crl")
    return AuthenticList(der, issuer, age, parsed.next_update)


def root_of_list(crl: AmdCrl, anchors: TrustAnchors) -> AmdCertificate:
    """The pinned ARK that signed `crl`. Raises EvidenceError(COLLATERAL_SIGNER)."""
    for anchor in anchors.amd_roots:
        root = parse_amd_certificate(anchor, "anchor")
        if crl.issued_by(root):
            return root
    raise EvidenceError.of(Reason.COLLATERAL_SIGNER, "crl.issuer", "another", "a pinned root")


def list_age(crl: x509.CertificateRevocationList, field: str) -> ListAge:
    """What orders a list among those of its issuer; a missing CRLNumber counts as 0.

    Raises EvidenceError(COLLATERAL_INVALID) where the extensions cannot be read.
    """
    try:
        numbers = [each.value for each in crl.extensions if isinstance(each.value, x509.CRLNumber)]
        number = numbers[0].crl_number if numbers else 0
        issued = int(crl.last_update_utc.timestamp())
    except X509_ERRORS as error:
        raise EvidenceError.of(Reason.COLLATERAL_INVALID, field, error, "a DER revocation list") from error
    if number.bit_length() > _MAX_NUMBER_BITS or issued < 0:
        raise EvidenceError.of(
            Reason.COLLATERAL_INVALID,
            field,
            f"{number.bit_length()} bits, {issued}",
            "a number of 20 bytes and a date",
        )
    return ListAge(number, issued)


def _expect_one_evaluation(collateral: Collateral) -> None:
    found, wanted = collateral.qe_identity.evaluation, collateral.tcb_info.evaluation
    if found != wanted:
        field = "collateral.qe_identity.tcbEvaluationDataNumber"
        raise EvidenceError.of(Reason.COLLATERAL_INVALID, field, found, f"{wanted}, that of TCB info")


def _expect_in_force(collateral: Collateral, now: int) -> None:
    for field, start, end in collateral.windows:
        _expect_now(field, start, end, now)


def _expect_now(field: str, start: int, end: int, now: int) -> None:
    if not start <= now <= end:
        raise EvidenceError.of(Reason.COLLATERAL_INVALID, field, f"now {now}", f"{start} to {end}")


def _expect_list(crl: Crl, issuer: Certificate, field: str) -> None:
    try:
        holds = crl.x509.issuer == issuer.x509.subject and crl.x509.is_signature_valid(issuer.public_key)
    except X509_ERRORS as error:
        raise EvidenceError.of(Reason.COLLATERAL_INVALID, field, error, "a DER revocation list") from error
    if not holds:
        raise EvidenceError.of(Reason.COLLATERAL_SIGNER, f"{field}.issuer", "another", issuer.common_name)


def _expect_not_revoked(collateral: Collateral) -> None:
    """The root's list names CAs and signers; a PCK certificate is judged with its quote."""
    chains = (collateral.tcb_info.chain, collateral.qe_identity.chain, collateral.pck_crl_chain)
    try:
        revoked = frozenset(each.serial_number for each in collateral.root_ca_crl.x509)
    except X509_ERRORS as error:
        field = "collateral.root_ca_crl"
        raise EvidenceError.of(Reason.COLLATERAL_INVALID, field, error, "a DER revocation list") from error
    for chain in chains:
        for certificate in chain:
            if certificate.x509.serial_number in revoked:
                found = certificate.common_name
                raise EvidenceError.of(Reason.REVOKED, "collateral.root_ca_crl", found, "no signer of this")


def _expect_signature(document: SignedDocument, field: str) -> None:
    signature = document.signature
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        key = document.chain[0].public_key
        key.verify(utils.encode_dss_signature(r, s), document.text.encode("ascii"), _SHA256)
    except InvalidSignature as error:
        expected = "one that holds over the text as it stands"
        raise EvidenceError.of(
            Reason.COLLATERAL_SIGNER, f"{field}_signature", "another signature", expected
        ) from error


def _key_name(certificate: x509.Certificate) -> str:
    """SHA-256 of the key that issues lists, in hexadecimal."""
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(key).hexdigest()
