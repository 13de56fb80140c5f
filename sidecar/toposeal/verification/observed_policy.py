"""A policy drafted from one observed piece of evidence: for a reviewer, who alone makes it a demand. No IO.

Every value says where it comes from: OBSERVED is what this evidence carries, DEMAND what we ask for whatever
was observed, OPEN what cannot be compared here. What no policy may admit is never drafted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from toposeal.errors import EvidenceError, PolicyError, Reason
from toposeal.evidence.kind import EvidenceKind
from toposeal.evidence.pck import parse_pck_chain
from toposeal.evidence.snp_certs import KeyKind, parse_endorsements, read_endorsement
from toposeal.evidence.snp_report import SIGNED_BY_VCEK, SnpReport, parse_snp_report
from toposeal.evidence.snp_tcb import Product, decode_tcb
from toposeal.evidence.tdx_quote import TdxQuote, parse_tdx_quote
from toposeal.topology.snp import PLATFORM_STATES, RELAXATIONS, RESTRICTIONS
from toposeal.verification import snp_authentic, snp_policy, tdx_authentic, tdx_policy
from toposeal.verification.evidence_check import Supplied
from toposeal.verification.model import TrustAnchors

_TDX_MEASURED = ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mrconfigid", "mrowner", "mrownerconfig")
_RTMR3 = 'chosen at run time by whatever runs in the guest; "instance" ties it to one member'
_LAST_VMPL = 3  # AMD 56860: a guest has four levels
_HOSTS_WORD = "the host's choice: the measured guest has to enforce it"


class Origin(StrEnum):
    OBSERVED = "observed"
    DEMAND = "demand"
    OPEN = "open"


@dataclass(frozen=True)
class Line:
    """One value of a draft, for the reviewer."""

    path: str
    value: object
    origin: Origin
    remark: str = ""


@dataclass
class Draft:
    """`policy`, `references` and `platforms` are as the policy file of `kind` has them."""

    kind: EvidenceKind
    authentic: bool
    policy: dict[str, Any] = field(default_factory=dict)
    reference: dict[str, Any] = field(default_factory=dict)
    platforms: Any = "any"
    lines: list[Line] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """The policy file that accepts this evidence, and nothing that differs in a field."""
        demand = {"policy": self.policy, "references": [self.reference], "platforms": self.platforms}
        return {self.kind.value: demand}

    def for_topology(self, role: str) -> dict[str, Any]:
        """The same as the parts of a topology: the platform's policy, and what `role` refers to."""
        kind = self.kind.value
        machines = self.platforms if self.platforms == "any" else {kind: self.platforms}
        return {kind: self.policy, "roles": {role: {kind: [self.reference], "platforms": machines}}}

    def put(self, path: str, value: object, origin: Origin, remark: str = "") -> None:
        """Set `policy.NAME`, `references[0].NAME` or `platforms`, and tell the reviewer."""
        part, _, name = path.partition(".")
        if part == "platforms":
            self.platforms = value
        else:
            {"policy": self.policy, "references[0]": self.reference}[part][name] = value
        self.lines.append(Line(f"{self.kind.value}.{path}", value, origin, remark))


def draft(kind: EvidenceKind, data: bytes, supplied: Supplied, anchors: TrustAnchors, now: int) -> Draft:
    """Draft a policy from `data`; verified at `now` (Unix seconds) where what that takes is `supplied`.

    Raises EvidenceError for what cannot be read, or is not authentic though it could be verified;
    PolicyError for what no policy may admit.
    """
    if kind is EvidenceKind.TDX:
        return _draft_tdx(parse_tdx_quote(data), supplied, anchors, now)
    if kind is EvidenceKind.SNP:
        return _draft_snp(parse_snp_report(data), supplied, anchors, now)
    raise EvidenceError.of(Reason.EVIDENCE_KIND, "evidence", kind, "a TDX quote or an SNP report")


def _draft_tdx(quote: TdxQuote, supplied: Supplied, anchors: TrustAnchors, now: int) -> Draft:
    tdx_policy.refuse_unsafe_attributes(quote)
    made = Draft(EvidenceKind.TDX, bool(supplied.collateral))
    statuses, advisories, floor = "not verified", "not verified", (1, Origin.OPEN, "not verified")
    if supplied.collateral:
        found = tdx_authentic.authenticate(quote, supplied.collateral, anchors, now)
        statuses, advisories = ", ".join(sorted(found.statuses)), ", ".join(found.advisories) or "none"
        floor = (found.evaluation, Origin.OBSERVED, "of the collateral; older is refused")
    made.put("policy.tcb_status", ["UpToDate"], Origin.DEMAND, f"observed: {statuses}")
    made.put("policy.advisories", [], Origin.DEMAND, f"observed: {advisories}")
    made.put("policy.min_tcb_evaluation", *floor)
    remarks = {
        "rtmr3": _RTMR3,
        "mrconfigid": _HOSTS_WORD,
        "mrowner": _HOSTS_WORD,
        "mrownerconfig": _HOSTS_WORD,
    }
    for name in _TDX_MEASURED:
        value: bytes = getattr(quote, name)
        made.put(f"references[0].{name}", value.hex(), Origin.OBSERVED, remarks.get(name, ""))
    made.put("references[0].mrseam", [quote.mrseam.hex()], Origin.OBSERVED, "Intel's module; it is updated")
    for name in ("td_attributes", "xfam"):
        made.put(f"references[0].{name}", getattr(quote, name).hex(), Origin.OBSERVED)
    ppid = parse_pck_chain(quote.auth.pck_chain).ppid
    made.put("platforms", [ppid.hex()], Origin.OBSERVED, "this machine alone (PPID)")
    return made


def _draft_snp(report: SnpReport, supplied: Supplied, anchors: TrustAnchors, now: int) -> Draft:
    snp_policy.refuse_unsafe_guest(report)
    verified = supplied.key is not None and supplied.chain is not None
    if verified:
        vouched = parse_endorsements(supplied.key or b"", supplied.chain or b"", supplied.crl)
        snp_authentic.authenticate(report, vouched, anchors, now)
    made = Draft(EvidenceKind.SNP, verified)
    _draft_snp_platform(made, report, _product(report, supplied.key))
    lent = read_endorsement(supplied.key).csp_id if supplied.key is not None else None
    if lent is None:
        made.put("policy.csp_ids", "any", Origin.OPEN, "no provider's key was seen")
    else:
        made.put("policy.csp_ids", [lent], Origin.OBSERVED)
    _draft_snp_guest(made, report)
    if any(report.chip_id) and report.signing_key == SIGNED_BY_VCEK:
        made.put("platforms", [report.chip_id.hex()], Origin.OBSERVED, "this machine alone (CHIP_ID)")
    else:
        made.put("platforms", "any", Origin.OPEN, "it does not say which machine it is")
    return made


def _draft_snp_platform(made: Draft, report: SnpReport, product: Product) -> None:
    kind = KeyKind.VCEK if report.signing_key == SIGNED_BY_VCEK else KeyKind.VLEK
    lent = "" if kind is KeyKind.VCEK else "WEAKER: a provider's key, which names no machine"
    made.put("policy.endorsements", [kind.value], Origin.OBSERVED, lent)
    forged = "WEAKER: the root of Milan's keys was extracted in software" if product is Product.MILAN else ""
    floors = {
        name: decode_tcb(getattr(report, f"{name}_tcb"), product, f"report.{name}_tcb").components()
        for name in ("reported", "committed", "launch")
    }
    made.put(
        "policy.products", {product.value: floors}, Origin.OBSERVED, forged or "floors: lower is refused"
    )
    if report.vmpl > _LAST_VMPL:
        raise PolicyError.of(Reason.VMPL, "report.vmpl", report.vmpl, f"a guest's level, 0 to {_LAST_VMPL}")
    weaker = "WEAKER: less privileged than the guest's first level" if report.vmpl else ""
    made.put("policy.vmpl", report.vmpl, Origin.OBSERVED, weaker)
    bits, states = snp_policy.GUEST_POLICY_BITS, snp_policy.PLATFORM_INFO_BITS
    made.put("policy.admit", _named(report.policy, RELAXATIONS, bits), Origin.OBSERVED)
    made.put("policy.require", _named(report.policy, RESTRICTIONS, bits), Origin.OBSERVED)
    made.put(
        "policy.require_platform", _named(report.platform_info, PLATFORM_STATES, states), Origin.OBSERVED
    )
    made.put("policy.lowered_tcb", "refused", Origin.DEMAND)
    made.put("policy.provisional_firmware", "refused", Origin.DEMAND)
    for name in ("launch", "current"):
        vector: int = getattr(report, f"{name}_mit_vector")
        value = vector.to_bytes(8, "little").hex()
        made.put(f"policy.{name}_mitigations", value, Origin.OBSERVED, "more than these is welcome")
    made.put("policy.crl", "optional", Origin.DEMAND, '"required" where AMD\'s list is at hand')


def _draft_snp_guest(made: Draft, report: SnpReport) -> None:
    made.put("references[0].measurement", report.measurement.hex(), Origin.OBSERVED)
    made.put("references[0].host_data", report.host_data.hex(), Origin.OBSERVED, _HOSTS_WORD)
    made.put("references[0].guest_svn", report.guest_svn, Origin.OBSERVED, "at least")
    for name in ("family_id", "image_id"):
        made.put(f"references[0].{name}", getattr(report, name).hex(), Origin.OBSERVED, "from the ID block")
    author = report.author_key_digest if report.author_key_en else b""
    for name, digest in (("id_key_digests", report.id_key_digest), ("author_key_digests", author)):
        if any(digest):
            made.put(f"references[0].{name}", [digest.hex()], Origin.OBSERVED)
        else:
            made.put(f"references[0].{name}", "any", Origin.OPEN, "no such key signed this launch")


def _product(report: SnpReport, key: bytes | None) -> Product:
    """By the certificate where there is one: a report of version 2 does not say."""
    product = report.product if key is None else read_endorsement(key).product
    if product is None:
        wanted = "a known product, or the VCEK of a report that names none"
        raise PolicyError.of(Reason.PRODUCT, "report.cpuid", "an unknown product", wanted)
    return product


def _named(bits: int, names: tuple[str, ...], numbers: Mapping[str, int]) -> list[str]:
    return [name for name in names if bits >> numbers[name] & 1]
