"""One GPU's report by itself, for `toposeal evidence`: what it says, and what speaks against it. No IO."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from toposeal.errors import EvidenceError, PolicyError, Reason, ToposealError
from toposeal.evidence.gpu_certs import GpuChain, parse_gpu_chain
from toposeal.evidence.gpu_report import OPAQUE_FIELDS, GpuReport, parse_gpu_report
from toposeal.evidence.rim import parse_rim
from toposeal.evidence.spdm import GET_ALL_SIGNED
from toposeal.topology.evidence_policy import GpuRules
from toposeal.verification.evidence_fields import Fields
from toposeal.verification.gpu_authentic import AuthenticGpu, authenticate_report, expect_nonce
from toposeal.verification.gpu_rim import authenticate_rim, require_rims
from toposeal.verification.model import TrustAnchors

_TEXTS = ("DRIVER_VERSION", "VBIOS_VERSION", "PROJECT", "PROJECT_SKU", "PROJECT_SKU_MOD", "CHIP_SKU")


@dataclass(frozen=True)
class GpuSupplied:
    """What the caller gives besides the report; all of it is checked, none of it believed."""

    chain: bytes | None = None  # PEM, leaf first, root last
    nonce: bytes | None = None  # 32; None: it is not compared
    rims: Sequence[bytes] = ()  # reference manifests; none: measurements are not compared


def check_gpu(
    data: bytes, supplied: GpuSupplied, rules: GpuRules | None, anchors: TrustAnchors, now: int
) -> tuple[ToposealError, ...]:
    """All that speaks against an authentic report at `now` (Unix seconds), nothing if it is acceptable.

    Raises EvidenceError for one that is not authentic. Without `rules` the kind is refused.
    """
    report = parse_gpu_report(data)
    if supplied.chain is None:
        raise EvidenceError.of(Reason.COLLATERAL_MISSING, "chain", "nothing", "the device's certificates")
    found = authenticate_report(report, parse_gpu_chain(supplied.chain), anchors, now)
    against: list[ToposealError] = []
    for check in _checks(found, supplied, rules, anchors, now):
        try:
            check()
        except (EvidenceError, PolicyError) as refusal:
            against.append(refusal)
    return tuple(against)


def gpu_fields(report: GpuReport, chain: GpuChain | None) -> Fields:
    """The request that was answered, and the leaf, or null for that where there is no chain."""
    leaf = None if chain is None else chain.leaf
    return {
        "nonce": report.transcript.nonce.hex(),
        "spdm_request_header": GET_ALL_SIGNED.hex(),
        "length": len(report.transcript.raw),
        "leaf": None if leaf is None else leaf.common_name,
        "leaf_validity": None if leaf is None else [_date(leaf.not_before), _date(leaf.not_after)],
    }


def gpu_details(report: GpuReport) -> Fields:
    """The rest of a report: NVIDIA's fields under its names, and the measurements as it counts them."""
    texts = {name: getattr(report, name.lower()) for name in _TEXTS}
    opaque = {OPAQUE_FIELDS.get(number, f"field {number}"): v.hex() for number, v in report.opaque.items()}
    measurements = {f"measurement {index}": value.hex() for index, value in enumerate(report.measurements)}
    given = {name: text for name, text in texts.items() if name in opaque}
    return {"mode": report.mode.value, **opaque, **given, **measurements}


def _checks(
    found: AuthenticGpu,
    supplied: GpuSupplied,
    rules: GpuRules | None,
    anchors: TrustAnchors,
    now: int,
) -> Iterator[Callable[[], object]]:
    nonce = supplied.nonce
    if nonce is not None:
        yield lambda: expect_nonce(found.report, nonce)
    yield lambda: _require_rules(found, rules)
    if supplied.rims or (rules is not None and rules.manifests):
        yield lambda: _require_manifests(found, supplied.rims, anchors, now)


def _require_rules(found: AuthenticGpu, rules: GpuRules | None) -> None:
    if rules is None:
        raise PolicyError.of(Reason.EVIDENCE_KIND, "evidence", "gpu", "a kind that the policy names")
    if rules.models is not None and found.model not in rules.models:
        expected = " or ".join(sorted(rules.models))
        raise PolicyError.of(Reason.GPU_MODEL, "device.model", found.model, expected)


def _require_manifests(found: AuthenticGpu, rims: Sequence[bytes], anchors: TrustAnchors, now: int) -> None:
    require_rims(found, [authenticate_rim(parse_rim(each), anchors, now) for each in rims])


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
