"""The whole verdict over one piece of evidence: parse, authentic, acceptable, says what it should. No IO.

This is the only place that makes a VerifiedEvidence.
"""

from __future__ import annotations

import hmac

from toposeal._wire.evidence_pb2 import TDX, Evidence
from toposeal.errors import EvidenceError, PolicyError, Reason
from toposeal.evidence.binding import Binding, Purpose
from toposeal.evidence.tdx_quote import TdxQuote, parse_tdx_quote
from toposeal.topology.model import TdxPolicy, Topology
from toposeal.verification.model import AppraisalContext, VerifiedEvidence
from toposeal.verification.tdx_authentic import authenticate
from toposeal.verification.tdx_policy import (
    refuse_unsafe_attributes,
    require_platform,
    require_role,
    require_tcb,
)

_APPRAISED = frozenset({Purpose.JOIN, Purpose.SEAL, Purpose.LIVE})


def appraise(
    evidence: Evidence, expected: Binding, topology: Topology, context: AppraisalContext
) -> VerifiedEvidence:
    """Verify that `evidence` says exactly `expected`, by genuine hardware that `topology` accepts.

    `expected` is built from what the verifier itself knows, never from the evidence. Cheap steps come
    first, since strangers can make us run them. Raises EvidenceError or PolicyError with the reason.
    """
    # (1) Only what the protocol defines: KEYREL and GPUBIND have no meaning yet, so no quote has it.
    if expected.purpose not in _APPRAISED:
        raise EvidenceError.of(Reason.EVIDENCE_KIND, "purpose", expected.purpose.name, "JOIN, SEAL or LIVE")
    # (2) The kind of evidence is the owner's choice, not the sender's.
    policy = _tdx_policy(evidence, topology)
    # (3) The bytes are one quote and nothing else.
    quote = parse_tdx_quote(evidence.quote)
    # (4) It says what it should, in all 64 bytes.
    _expect_report_data(quote, expected)
    # (5) The guest is not one into which its host may look.
    refuse_unsafe_attributes(quote)
    # (6) Authentic: hardware, chain, collateral, signatures.
    authentic = authenticate(quote, context.collateral, context.anchors, context.now)
    # (7) Acceptable: TCB status, advisories, evaluation number.
    require_tcb(authentic, policy)
    # (8) The role is the measured one, never the claimed one.
    role = require_role(quote, topology, expected.role)
    # (9) The machine is one that the owner admits for it.
    require_platform(authentic.ppid, role)
    return VerifiedEvidence(
        tee="tdx",
        role=role.name,
        binding=expected,
        tcb_status=authentic.tcb_status,
        advisories=authentic.advisories,
        platform=authentic.ppid,
        expires_at=authentic.expires_at,
    )


def _tdx_policy(evidence: Evidence, topology: Topology) -> TdxPolicy:
    if evidence.tee != TDX:
        raise EvidenceError.of(Reason.EVIDENCE_KIND, "evidence.tee", evidence.tee, "TDX")
    if topology.tdx is None:
        raise PolicyError.of(Reason.EVIDENCE_KIND, "evidence.tee", "TDX", "a kind that the topology admits")
    return topology.tdx


def _expect_report_data(quote: TdxQuote, expected: Binding) -> None:
    wanted = expected.report_data()
    if not hmac.compare_digest(quote.report_data, wanted):
        raise EvidenceError.of(Reason.REPORT_DATA, "quote.report_data", quote.report_data, wanted)
