"""Is an SNP report authentic: signed by a key that AMD certified for this chip, product and firmware?

Written on `cryptography`: AMD publishes no verifier in Python. Whether an authentic report is acceptable
is for `verification.snp_policy`. No IO.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.amd_x509 import AmdCertificate, AmdCrl, parse_amd_certificate
from toposeal.evidence.snp_certs import Endorsement, KeyKind, SnpEndorsements
from toposeal.evidence.snp_report import SIGNED_BY_VCEK, SIGNED_BY_VLEK, SnpReport
from toposeal.evidence.snp_tcb import Product, SnpTcb, decode_tcb
from toposeal.verification.model import TrustAnchors

_KIND = {SIGNED_BY_VCEK: KeyKind.VCEK, SIGNED_BY_VLEK: KeyKind.VLEK}


@dataclass(frozen=True)
class AuthenticSnp:
    """An authentic report with what AMD says about the platform that made it."""

    report: SnpReport
    kind: KeyKind
    product: Product
    reported_tcb: SnpTcb  # equal to the certificate's
    current_tcb: SnpTcb
    committed_tcb: SnpTcb
    launch_tcb: SnpTcb
    chip: bytes | None  # 64, CHIP_ID; None under a VLEK, and where the host masks it
    csp_id: str | None  # the provider to whom AMD gave the VLEK
    crl_number: int | None  # of the root's list that revokes none of these CAs; None: no list was at hand
    expires_at: int  # Unix seconds: from here on some part is no longer in force


def authenticate(
    report: SnpReport, endorsements: SnpEndorsements, anchors: TrustAnchors, now: int
) -> AuthenticSnp:
    """Verify `report` at `now` (Unix seconds). Raises EvidenceError; the reason names the cause."""
    key, ca, root = endorsements.key, endorsements.ca, endorsements.root
    # (1) The chain ends in a pinned root: its very key, and its product's.
    _expect_root(root, key.product, anchors)
    # (2) Report, certificate and CA agree on whose key this is and for what product.
    _expect_kind(report, key, ca)
    _expect_product(report, key)
    # (3) Every part is in force.
    _expect_in_force(endorsements, now)
    # (4) Each certificate was issued by the next, and no CA was revoked since.
    _expect_issued(key.certificate, ca, root)
    _expect_not_revoked(ca, root, endorsements.crl)
    # (5) The key signed these bytes.
    _expect_signature(report, key)
    # (6) AMD certified the key for this firmware and for this chip.
    reported, current, committed, launch = _tcbs(report, key.product)
    _expect_tcb(key.tcb, reported, current, committed)
    chip = _chip(report, key)
    return AuthenticSnp(
        report=report,
        kind=key.kind,
        product=key.product,
        reported_tcb=reported,
        current_tcb=current,
        committed_tcb=committed,
        launch_tcb=launch,
        chip=chip,
        csp_id=key.csp_id,
        crl_number=None if endorsements.crl is None else endorsements.crl.number,
        expires_at=min(end for _, _, end in _windows(endorsements)),
    )


def _expect_root(root: AmdCertificate, product: Product, anchors: TrustAnchors) -> None:
    """By key, since AMD may issue the certificate anew, and by name, so that no product vouches for
    another. A test root is thereby refused by a production build (E17)."""
    pinned = {
        (anchor.public_key_info, anchor.subject)
        for anchor in (parse_amd_certificate(each, "anchor") for each in anchors.amd_roots)
    }
    if (root.public_key_info, root.subject) not in pinned:
        raise _refusal(Reason.QUOTE_SIGNATURE, "chain.root", _named(root), "a pinned root")
    if root.common_name != f"ARK-{product}":
        raise _refusal(Reason.PRODUCT, "chain.root", root.common_name, f"ARK-{product}")


def _expect_kind(report: SnpReport, key: Endorsement, ca: AmdCertificate) -> None:
    """SIGNING_KEY, the certificate's name and its CA's: otherwise a provider's key passes for a chip's."""
    kind = _KIND[report.signing_key]
    if key.kind is not kind:
        raise _refusal(Reason.SIGNING_KEY, "endorsement.subject", key.kind, f"{kind}, as key_info says")
    wanted = kind.ca_name(key.product)
    if ca.common_name != wanted:
        raise _refusal(Reason.SIGNING_KEY, "chain.ca", ca.common_name, wanted)


def _expect_product(report: SnpReport, key: Endorsement) -> None:
    """By CPUID where the report has it. Turin's firmware has always written it."""
    found = f"{report.cpuid_fam:#x}/{report.cpuid_mod:#x}" if report.has_cpuid else "no CPUID"
    agrees = report.product is key.product if report.has_cpuid else key.product is not Product.TURIN
    if not agrees:
        raise _refusal(Reason.PRODUCT, "report.cpuid", found, f"that of {key.product}")


def _expect_in_force(endorsements: SnpEndorsements, now: int) -> None:
    for field, start, end in _windows(endorsements):
        if not start <= now <= end:
            raise _refusal(Reason.COLLATERAL_INVALID, field, f"now {now}", f"{start} to {end}")


def _windows(endorsements: SnpEndorsements) -> Iterator[tuple[str, int, int]]:
    """A list's thisUpdate is left alone, as with TDX: a younger list says nothing worse than an older."""
    certificates = (
        ("endorsement", endorsements.key.certificate),
        ("chain.ca", endorsements.ca),
        ("chain.root", endorsements.root),
    )
    for field, certificate in certificates:
        yield field, certificate.not_before, certificate.not_after
    if endorsements.crl is not None:
        yield "crl", 0, endorsements.crl.next_update - 1


def _expect_issued(leaf: AmdCertificate, ca: AmdCertificate, root: AmdCertificate) -> None:
    for field, certificate, issuer in (
        ("endorsement", leaf, ca),
        ("chain.ca", ca, root),
        ("chain.root", root, root),
    ):
        if not issuer.may_sign_certificates() or not certificate.issued_by(issuer):
            raise _refusal(Reason.QUOTE_SIGNATURE, f"{field}.issuer", "another", _named(issuer))


def _expect_not_revoked(ca: AmdCertificate, root: AmdCertificate, crl: AmdCrl | None) -> None:
    """AMD's lists name CAs: a VCEK is not revoked but outgrown, by a floor above its firmware."""
    if crl is None:
        return
    if not crl.issued_by(root):
        raise _refusal(Reason.COLLATERAL_INVALID, "crl", "another issuer", _named(root))
    if crl.lists(ca):
        raise _refusal(Reason.REVOKED, "chain.ca", f"serial number {ca.serial}", "one that is not revoked")


def _expect_signature(report: SnpReport, key: Endorsement) -> None:
    signature = utils.encode_dss_signature(report.signature_r, report.signature_s)
    try:
        key.public_key.verify(signature, report.signed, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature as error:
        raise _refusal(
            Reason.QUOTE_SIGNATURE, "report.signature", "one that does not hold", "one that holds"
        ) from error


def _tcbs(report: SnpReport, product: Product) -> Iterator[SnpTcb]:
    for name in ("reported_tcb", "current_tcb", "committed_tcb", "launch_tcb"):
        yield decode_tcb(getattr(report, name), product, f"report.{name}")


def _expect_tcb(certified: SnpTcb, reported: SnpTcb, current: SnpTcb, committed: SnpTcb) -> None:
    """The firmware never reports or commits to more than it is."""
    if reported != certified:
        raise _refusal(Reason.TCB_MISMATCH, "report.reported_tcb", reported, f"{certified}, as certified")
    for name, tcb in (("reported_tcb", reported), ("committed_tcb", committed)):
        if current.below(tcb.components()):
            raise _refusal(Reason.TCB_MISMATCH, f"report.{name}", tcb, f"at most current_tcb, {current}")


def _chip(report: SnpReport, key: Endorsement) -> bytes | None:
    """CHIP_ID where a certificate of this very chip confirms it."""
    if key.kind is KeyKind.VLEK or not any(report.chip_id):
        return None
    if report.chip_id != key.hwid.ljust(len(report.chip_id), b"\0"):
        raise _refusal(Reason.CHIP_ID, "report.chip_id", report.chip_id, key.hwid.hex())
    return report.chip_id


def _named(certificate: AmdCertificate) -> str:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(certificate.public_key_info)
    return f"{certificate.common_name} with key {digest.finalize().hex()}"


def _refusal(reason: Reason, field: str, found: object, expected: object) -> EvidenceError:
    return EvidenceError.of(reason, field, found, expected)
