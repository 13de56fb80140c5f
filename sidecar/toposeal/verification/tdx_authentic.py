"""Is a TDX quote authentic: made by genuine hardware, certified by the pinned root, under valid collateral?

dcap-qvl checks chains, revocation, signatures and TCB levels; what it leaves to its caller is done here,
before it. Whether an authentic quote is acceptable is for `verification.tdx_policy`. No IO.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence import dcap
from toposeal.evidence.certificates import Certificate
from toposeal.evidence.collateral import Collateral, parse_collateral
from toposeal.evidence.pck import PckChain, parse_pck_chain
from toposeal.evidence.tdx_quote import TdxQuote
from toposeal.verification.model import TrustAnchors
from toposeal.verification.tdx_diagnosis import diagnose
from toposeal.verification.tdx_module import running_module

PCK_NAME = "Intel SGX PCK Certificate"
PLATFORM_CA_NAME = "Intel SGX PCK Platform CA"
TCB_SIGNER_NAME = "Intel SGX TCB Signing"


@dataclass(frozen=True)
class AuthenticTdx:
    """An authentic quote with what Intel says about the platform that made it."""

    quote: TdxQuote
    ppid: bytes  # 16
    tcb_status: str  # the worse of quoting enclave and platform, as the TD was started; Intel's spelling
    statuses: frozenset[str]  # these, their worse, and that of a later module; a policy has to admit each
    advisories: tuple[str, ...]
    evaluation: int
    expires_at: int  # Unix seconds: from here on some part is, or may be, no longer in force


def authenticate(
    quote: TdxQuote, collateral: Sequence[bytes], anchors: TrustAnchors, now: int
) -> AuthenticTdx:
    """Verify `quote` at `now` (Unix seconds) with the first entry of `collateral` for its platform.

    Entries stand in the caller's order of preference. Raises EvidenceError; the reason names the cause.
    """
    # (1) The PCK chain is leaf, platform CA and the pinned root, by name and by bytes, and the CA is one.
    pck = parse_pck_chain(quote.auth.pck_chain)
    _expect_pck_chain(pck, anchors)
    # (2) Collateral for this platform is at hand. None is a refusal, never a skip.
    chosen = _collateral_for(pck, collateral)
    # (3) It speaks of the same PCE, of one TCB recovery, and it is in force.
    _expect_same_platform(pck, chosen)
    _expect_in_force(pck, chosen, now)
    # (4) Whoever signed it may sign collateral.
    expect_signers(chosen, anchors)
    # (5) The QE report binds the attestation key and nothing else.
    _expect_zero_tail(quote)
    # (6) What runs now is not older than what the TD was started under, by which (7) judges.
    _expect_no_rollback(quote)
    # (7) Chains, revocation, signatures, QE identity and TCB levels are dcap-qvl's.
    try:
        verdict = dcap.verify(quote.raw, chosen, anchors.intel_sgx_root_ca, now)
    except EvidenceError as refusal:
        raise diagnose(quote, pck, chosen, refusal) from refusal
    # (8) A module that took the place of one of an earlier generation has a status of its own.
    later = running_module(quote, chosen)
    return AuthenticTdx(
        quote=quote,
        ppid=pck.ppid,
        tcb_status=verdict.status,
        statuses=frozenset(
            (verdict.status, verdict.platform_status, verdict.qe_status, *((later.status,) if later else ()))
        ),
        advisories=tuple(sorted({*verdict.advisories, *(later.advisories if later else ())})),
        evaluation=chosen.tcb_info.evaluation,
        expires_at=min(pck.valid_until, chosen.valid_until),
    )


def expect_signers(collateral: Collateral, anchors: TrustAnchors) -> None:
    """The TCB signer signs TCB info and QE identity, the platform CA the list of PCKs; each of them the
    pinned root issued itself.

    Any key under the root would satisfy dcap-qvl: one leaked PCK key of an old machine could then
    declare that machine up to date; and the list's issuer it leaves unread. A processor CA stands in
    no PCK chain that is accepted here. Raises EvidenceError(COLLATERAL_SIGNER).
    """
    wanted = (
        (collateral.tcb_info.chain, collateral.tcb_info.direct, TCB_SIGNER_NAME, "tcb_info"),
        (collateral.qe_identity.chain, collateral.qe_identity.direct, TCB_SIGNER_NAME, "qe_identity"),
        (collateral.pck_crl_chain, collateral.pck_crl_direct, PLATFORM_CA_NAME, "pck_crl"),
    )
    for chain, direct, name, part in wanted:
        _expect_signer(chain, direct, name, anchors, f"collateral.{part}_issuer_chain")


def _expect_pck_chain(pck: PckChain, anchors: TrustAnchors) -> None:
    _expect_root(pck.root, anchors, "quote.pck_chain.root", Reason.QUOTE_SIGNATURE)
    wanted = ((pck.leaf, PCK_NAME), (pck.platform_ca, PLATFORM_CA_NAME))
    for certificate, name in wanted:
        if certificate.common_name != name:
            raise EvidenceError.of(
                Reason.QUOTE_SIGNATURE, "quote.pck_chain.subject", certificate.common_name, name
            )
    # dcap-qvl reads no key usage.
    if not pck.platform_ca.is_ca:
        field = "quote.pck_chain.platform_ca"
        raise EvidenceError.of(Reason.QUOTE_SIGNATURE, field, "no CA", "one that may sign certificates")


def _collateral_for(pck: PckChain, collateral: Sequence[bytes]) -> Collateral:
    for entry in collateral:
        parsed = parse_collateral(entry)
        if parsed.fmspc == pck.fmspc:
            return parsed
    raise EvidenceError.of(
        Reason.COLLATERAL_MISSING,
        "collateral",
        f"{len(collateral)} entries",
        f"one for FMSPC {pck.fmspc.hex()}",
    )


def _expect_same_platform(pck: PckChain, collateral: Collateral) -> None:
    if collateral.pce_id != pck.pce_id:
        raise EvidenceError.of(Reason.PCE_ID, "collateral.tcb_info.pceId", collateral.pce_id, pck.pce_id)
    if collateral.tcb_info.evaluation != collateral.qe_identity.evaluation:
        raise EvidenceError.of(
            Reason.COLLATERAL_INVALID,
            "collateral.qe_identity.tcbEvaluationDataNumber",
            collateral.qe_identity.evaluation,
            f"{collateral.tcb_info.evaluation}, that of TCB info",
        )


def _expect_in_force(pck: PckChain, collateral: Collateral, now: int) -> None:
    for field, start, end in (*collateral.windows, *pck.windows):
        if not start <= now <= end:
            raise EvidenceError.of(Reason.COLLATERAL_INVALID, field, f"now {now}", f"{start} to {end}")


def _expect_signer(
    chain: tuple[Certificate, ...], direct: bool, name: str, anchors: TrustAnchors, field: str
) -> None:
    signer, root = chain
    _expect_root(root, anchors, f"{field}.root", Reason.COLLATERAL_SIGNER)
    if signer.common_name != name:
        raise EvidenceError.of(Reason.COLLATERAL_SIGNER, f"{field}.subject", signer.common_name, name)
    if not direct:
        raise EvidenceError.of(Reason.COLLATERAL_SIGNER, f"{field}.issuer", "another", "the pinned root")


def _expect_root(root: Certificate, anchors: TrustAnchors, field: str, reason: Reason) -> None:
    """The very bytes of the anchor. A test root is thereby refused by a production build (E17)."""
    if root.der != anchors.intel_sgx_root_ca:
        raise EvidenceError.of(reason, field, root.x509.subject.rfc4514_string(), "the pinned root")


def _expect_no_rollback(quote: TdxQuote) -> None:
    """TEE_TCB_SVN2, where the body has it, against TEE_TCB_SVN, component by component.

    dcap-qvl calls a platform up to date whose module was replaced by one that is out of date. The second
    component is the module's generation: the first counts only within one.
    """
    started, running = quote.tee_tcb_svn, quote.tee_tcb_svn2
    if not running:
        return
    compared = zip((started[1], *started[2:]), (running[1], *running[2:]), strict=True)
    older = any(now < then for then, now in compared)
    if older or (started[1] == running[1] and running[0] < started[0]):
        expected = f"at least tee_tcb_svn, {started.hex()}"
        raise EvidenceError.of(Reason.TCB_STATUS, "quote.tee_tcb_svn2", running, expected)


def _expect_zero_tail(quote: TdxQuote) -> None:
    tail = quote.auth.qe_report.report_data[32:]
    if any(tail):
        raise EvidenceError.of(Reason.QE_IDENTITY, "quote.qe_report.report_data", tail, "32 zero bytes")
