"""The verdict over a TDX quote, step by step. No IO."""

from __future__ import annotations

from toposeal._wire.evidence_pb2 import Evidence
from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.binding import Binding
from toposeal.evidence.tdx_quote import parse_tdx_quote
from toposeal.limits import DIGEST_SIZE, MAX_RTMR3_EVENTS
from toposeal.topology.model import TdxPolicy, Topology
from toposeal.verification.model import AppraisalContext, VerifiedEvidence
from toposeal.verification.report_data import expect_report_data
from toposeal.verification.tdx_authentic import authenticate
from toposeal.verification.tdx_policy import (
    RuntimeLog,
    refuse_unsafe_attributes,
    require_platform,
    require_role,
    require_tcb,
)


def appraise_tdx(
    evidence: Evidence, expected: Binding, topology: Topology, policy: TdxPolicy, context: AppraisalContext
) -> VerifiedEvidence:
    """As `appraise`, for evidence that says it is TDX. Raises EvidenceError or PolicyError."""
    # (1) The bytes are one quote and nothing else.
    quote = parse_tdx_quote(evidence.quote)
    log = _runtime_log(evidence, expected)
    # (2) It says what it should, in all 64 bytes.
    expect_report_data(quote.report_data, expected.report_data(), "quote.report_data")
    # (3) The guest is not one into which its host may look.
    refuse_unsafe_attributes(quote)
    # (4) Authentic: hardware, chain, collateral, signatures.
    authentic = authenticate(quote, context.collateral, context.anchors, context.now)
    # (5) Acceptable: TCB status, advisories, evaluation number.
    require_tcb(authentic, policy)
    # (6) The role is the measured one, never the claimed one.
    role = require_role(quote, topology, expected.role, log)
    # (7) The machine is one that the owner admits for it.
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


def _runtime_log(evidence: Evidence, expected: Binding) -> RuntimeLog:
    """Nothing that belongs to another kind, and events that can be replayed."""
    for name in ("endorsement", "endorsement_ca"):
        if getattr(evidence, name):
            raise EvidenceError.of(Reason.MALFORMED, f"evidence.{name}", "something", "nothing beside TDX")
    events = tuple(evidence.rtmr3_events)
    if len(events) > MAX_RTMR3_EVENTS:
        limit = f"at most {MAX_RTMR3_EVENTS}"
        raise EvidenceError.of(Reason.TOO_LARGE, "evidence.rtmr3_events", len(events), limit)
    if any(len(event) != DIGEST_SIZE for event in events):
        raise EvidenceError.of(
            Reason.MALFORMED, "evidence.rtmr3_events", "another size", f"{DIGEST_SIZE} bytes each"
        )
    return RuntimeLog(expected.iid, events)
