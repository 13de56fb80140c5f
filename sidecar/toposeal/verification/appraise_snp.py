"""The verdict over an SNP attestation report, step by step. No IO."""

from __future__ import annotations

from toposeal._wire.evidence_pb2 import Evidence
from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.amd_lists import list_for
from toposeal.evidence.amd_x509 import AmdCertificate, parse_amd_certificate, parse_amd_crl
from toposeal.evidence.binding import Binding
from toposeal.evidence.snp_certs import SnpEndorsements, parse_endorsement
from toposeal.evidence.snp_report import parse_snp_report
from toposeal.evidence.snp_tcb import Product
from toposeal.topology.model import Topology
from toposeal.topology.snp import SnpPolicy
from toposeal.verification.model import AppraisalContext, TrustAnchors, VerifiedEvidence
from toposeal.verification.report_data import expect_report_data
from toposeal.verification.snp_authentic import authenticate
from toposeal.verification.snp_policy import (
    refuse_unsafe_guest,
    require_chip,
    require_platform,
    require_role,
)


def appraise_snp(
    evidence: Evidence, expected: Binding, topology: Topology, policy: SnpPolicy, context: AppraisalContext
) -> VerifiedEvidence:
    """As `appraise`, for evidence that says it is SEV-SNP. Raises EvidenceError or PolicyError."""
    # (1) The bytes are one report, with what AMD certified about its key.
    report = parse_snp_report(evidence.quote)
    _expect_nothing_else(evidence)
    # (2) It says what it should, in all 64 bytes.
    expect_report_data(report.report_data, expected.report_data(), "report.report_data")
    # (3) The guest is not one into which its host may look.
    refuse_unsafe_guest(report)
    # (4) Authentic: chip, chain, revocation, signature.
    authentic = authenticate(report, _endorsements(evidence, context), context.anchors, context.now)
    # (5) Acceptable: product, firmware, privilege level, guest policy, platform.
    require_platform(authentic, policy)
    # (6) The role is the measured one, never the claimed one.
    role = require_role(report, topology, expected.role)
    # (7) The machine is one that the owner admits for it.
    require_chip(authentic, role.platforms.snp)
    return VerifiedEvidence(
        tee="snp",
        role=role.name,
        binding=expected,
        tcb_status=f"{authentic.product} {authentic.reported_tcb}",
        advisories=(),
        platform=authentic.chip or b"",
        guest=report.report_id,
        expires_at=authentic.expires_at,
    )


def _expect_nothing_else(evidence: Evidence) -> None:
    if evidence.rtmr3_events:
        raise EvidenceError.of(Reason.MALFORMED, "evidence.rtmr3_events", "something", "nothing beside SNP")


def _endorsements(evidence: Evidence, context: AppraisalContext) -> SnpEndorsements:
    """Key and CA as they came, the root from the anchors, and the list of its that counts."""
    for name in ("endorsement", "endorsement_ca"):
        if not getattr(evidence, name):
            raise EvidenceError.of(Reason.COLLATERAL_MISSING, f"evidence.{name}", "nothing", "a certificate")
    key = parse_endorsement(evidence.endorsement)
    root = _root_of(key.product, context.anchors)
    ca = parse_amd_certificate(evidence.endorsement_ca, "evidence.endorsement_ca")
    newest = list_for(context.crls, ca, root)
    return SnpEndorsements(
        key=key,
        ca=ca,
        root=root,
        crl=None if newest is None else parse_amd_crl(newest),
    )


def _root_of(product: Product, anchors: TrustAnchors) -> AmdCertificate:
    name = f"ARK-{product}"
    for anchor in anchors.amd_roots:
        root = parse_amd_certificate(anchor, "anchor")
        if root.common_name == name:
            return root
    raise EvidenceError.of(Reason.QUOTE_SIGNATURE, "anchors", f"none for {product}", f"a pinned {name}")
