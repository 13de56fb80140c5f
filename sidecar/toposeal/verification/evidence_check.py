"""One piece of evidence by itself: what it says, whether it is authentic, whether a policy accepts it. No IO.

For `toposeal evidence`: a verdict here admits nobody to anything, and proves no freshness but that of
the report_data that the caller expects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from toposeal.errors import EvidenceError, Mismatch, PolicyError, Reason, ToposealError
from toposeal.evidence.bundle import Bundle, SnpParts
from toposeal.evidence.gpu_certs import parse_gpu_chain
from toposeal.evidence.gpu_report import parse_gpu_report
from toposeal.evidence.kind import EvidenceKind
from toposeal.evidence.snp_certs import SnpEndorsements, parse_endorsements, read_endorsement
from toposeal.evidence.snp_report import SnpReport, parse_snp_report
from toposeal.evidence.tdx_quote import TdxQuote, inspect_tdx_quote, parse_tdx_quote
from toposeal.topology.evidence_policy import EvidencePolicy, GpuRules, SnpDemand, TdxDemand
from toposeal.verification import snp_authentic, snp_policy, tdx_authentic, tdx_policy
from toposeal.verification.evidence_fields import Fields, snp_fields, tdx_fields
from toposeal.verification.gpu_check import GpuSupplied, check_gpu, gpu_fields
from toposeal.verification.model import TrustAnchors
from toposeal.verification.report_data import expect_report_data
from toposeal.verification.snp_authentic import AuthenticSnp
from toposeal.verification.tdx_authentic import AuthenticTdx

Check = Callable[[], None]


@dataclass(frozen=True)
class Supplied:
    """What the caller gives besides the evidence; all of it is checked, none of it believed."""

    collateral: Sequence[bytes] = ()  # TDX: dcap-qvl JSON
    key: bytes | None = None  # SNP: VCEK or VLEK, DER or PEM
    chain: bytes | None = None  # PEM. SNP: ASK or ASVK, then ARK; GPU: leaf first, root last
    crl: bytes | None = None  # SNP: DER
    nonce: bytes | None = None  # GPU: 32 bytes
    rims: Sequence[bytes] = ()  # GPU: reference manifests


@dataclass(frozen=True)
class Judgement:
    """`refusals` is empty exactly if the evidence is acceptable; the first one decides the exit code."""

    authentic: bool
    refusals: tuple[ToposealError, ...]
    tcb_status: str | None = None  # Intel's word; AMD has none
    advisories: tuple[str, ...] = ()

    @property
    def acceptable(self) -> bool:
        return not self.refusals

    def reasons(self) -> Iterator[Mismatch]:
        for refusal in self.refusals:
            yield from refusal.mismatches


def completed(supplied: Supplied, bundle: Bundle, kind: EvidenceKind, data: bytes) -> Supplied:
    """What of SNP the caller has not given by itself, out of the bundle. Raises EvidenceError."""
    if kind is not EvidenceKind.SNP:
        return supplied
    given = SnpParts(supplied.key, supplied.chain, supplied.crl)
    found = bundle.for_report(parse_snp_report(data), given)
    return replace(supplied, key=found.key, chain=found.chain, crl=found.crl)


def read_fields(kind: EvidenceKind, data: bytes, key: bytes | None) -> Fields:
    """Every field, believed or not; `key` is the certificate that SNP's are decoded with,
    or a GPU's chain, if there is one.

    Raises EvidenceError for what cannot be read.
    """
    if kind is EvidenceKind.TDX:
        return tdx_fields(inspect_tdx_quote(data))
    if kind is EvidenceKind.GPU:
        return gpu_fields(parse_gpu_report(data), None if key is None else parse_gpu_chain(key))
    return snp_fields(parse_snp_report(data), None if key is None else read_endorsement(key))


def judge(
    kind: EvidenceKind,
    data: bytes,
    supplied: Supplied,
    policy: EvidencePolicy,
    report_data: bytes | None,
    anchors: TrustAnchors,
    now: int,
) -> Judgement:
    """The verdict at `now` (Unix seconds). `report_data` is 64 bytes, or None: then it is not compared."""
    try:
        if kind is EvidenceKind.TDX:
            return _judge_tdx(parse_tdx_quote(data), supplied, policy.tdx, report_data, anchors, now)
        if kind is EvidenceKind.GPU:
            return _judge_gpu(data, supplied, policy.gpu, report_data, anchors, now)
        return _judge_snp(parse_snp_report(data), supplied, policy.snp, report_data, anchors, now)
    except EvidenceError as refusal:
        return Judgement(False, (refusal,))


def _judge_tdx(
    quote: TdxQuote,
    supplied: Supplied,
    demand: TdxDemand | None,
    report_data: bytes | None,
    anchors: TrustAnchors,
    now: int,
) -> Judgement:
    found = tdx_authentic.authenticate(quote, supplied.collateral, anchors, now)
    checks: list[Check] = [
        lambda: _expect_report_data(quote.report_data, report_data),
        lambda: tdx_policy.refuse_unsafe_attributes(quote),
    ]
    if demand is None:
        checks.append(_refuse_kind(EvidenceKind.TDX))
    else:
        checks += _tdx_checks(found, demand)
    return Judgement(True, _refusals(checks), found.tcb_status, found.advisories)


def _tdx_checks(found: AuthenticTdx, demand: TdxDemand) -> Iterator[Check]:
    yield lambda: tdx_policy.require_tcb(found, demand.policy)
    references, platforms = demand.references, demand.platforms
    if references is not None:
        yield lambda: tdx_policy.require_reference(found.quote, references)
    if platforms is not None:
        yield lambda: tdx_policy.require_listed(found.ppid, platforms)


def _judge_snp(
    report: SnpReport,
    supplied: Supplied,
    demand: SnpDemand | None,
    report_data: bytes | None,
    anchors: TrustAnchors,
    now: int,
) -> Judgement:
    found = snp_authentic.authenticate(report, _endorsements(supplied), anchors, now)
    checks: list[Check] = [
        lambda: _expect_report_data(report.report_data, report_data),
        lambda: snp_policy.refuse_unsafe_guest(report),
    ]
    if demand is None:
        checks.append(_refuse_kind(EvidenceKind.SNP))
    else:
        checks += _snp_checks(found, demand)
    return Judgement(True, _refusals(checks))


def _snp_checks(found: AuthenticSnp, demand: SnpDemand) -> Iterator[Check]:
    yield lambda: snp_policy.require_platform(found, demand.policy)
    yield lambda: snp_policy.require_chip(found, demand.platforms)
    references = demand.references
    if references is not None:
        yield lambda: snp_policy.require_reference(found.report, references)


def _judge_gpu(
    data: bytes,
    supplied: Supplied,
    rules: GpuRules | None,
    report_data: bytes | None,
    anchors: TrustAnchors,
    now: int,
) -> Judgement:
    """A GPU's report has a nonce of 32 bytes and no report data: none is expected of it in vain."""
    if report_data is not None:
        raise EvidenceError.of(Reason.REPORT_DATA, "report_data", "none in a GPU's report", report_data)
    beside = GpuSupplied(supplied.chain, supplied.nonce, supplied.rims)
    return Judgement(True, check_gpu(data, beside, rules, anchors, now))


def _endorsements(supplied: Supplied) -> SnpEndorsements:
    """None of it is ever fetched: what is missing is a refusal, never a skip."""
    for name, part in (("endorsement", supplied.key), ("chain", supplied.chain)):
        if part is None:
            raise EvidenceError.of(Reason.COLLATERAL_MISSING, name, "nothing", "certificates from AMD's KDS")
    return parse_endorsements(supplied.key or b"", supplied.chain or b"", supplied.crl)


def _expect_report_data(found: bytes, expected: bytes | None) -> None:
    if expected is not None:
        expect_report_data(found, expected, "report_data")


def _refuse_kind(kind: EvidenceKind) -> Check:
    def refuse() -> None:
        raise PolicyError.of(Reason.EVIDENCE_KIND, "evidence", kind, "a kind that the policy names")

    return refuse


def _refusals(checks: Iterable[Check]) -> tuple[ToposealError, ...]:
    """All of them: an authentic piece of evidence is worth every reason at once."""
    found: list[ToposealError] = []
    for check in checks:
        try:
            check()
        except (EvidenceError, PolicyError) as refusal:
            found.append(refusal)
    return tuple(found)
