"""One piece of evidence verified for a program: the clock and the caller's files around the pure check."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toposeal.errors import EvidenceError, Reason, TopologyError, UsageError
from toposeal.evidence.bundle import EMPTY, Bundle, parse_bundle
from toposeal.evidence.kind import EvidenceKind, detect_kind
from toposeal.host.collateral_file import expect_content, read_bundle
from toposeal.limits import NONCE_SIZE, REPORT_DATA_SIZE
from toposeal.topology.evidence_policy import STRICT, EvidencePolicy, parse_evidence_policy
from toposeal.verification.anchors import VENDOR_ANCHORS
from toposeal.verification.evidence_check import Supplied, completed, judge, read_fields

Path = str | os.PathLike[str]


@dataclass(frozen=True)
class VerifiedEvidence:
    """Evidence that is authentic, acceptable, and made for the caller's report data or nonce."""

    kind: str  # "tdx", "snp" or "gpu"
    tcb_status: str | None  # Intel's word; AMD and NVIDIA have none
    advisories: tuple[str, ...]
    fields: Mapping[str, Any]  # under the vendor's names, byte strings in lower-case hexadecimal


def verify_evidence(
    evidence: bytes,
    *,
    report_data: bytes | None = None,
    nonce: bytes | None = None,
    collateral: bytes | Path | None = None,
    vcek: bytes | None = None,
    chain: bytes | None = None,
    crl: bytes | None = None,
    rims: Sequence[bytes] = (),
    policy: bytes | None = None,
    now: int | None = None,
) -> VerifiedEvidence:
    """Verify a TDX quote, an SNP report or a GPU's report, without a network.

    A quote or report has to carry `report_data` (64 bytes), a GPU's report has to answer `nonce` (32 bytes):
    what belongs to the kind is required, and nothing else is taken. `collateral` is a bundle, or what
    dcap-qvl takes; `vcek` (DER or PEM), `chain` (PEM) and `crl` (DER) go before the parts of a bundle; `rims`
    are NVIDIA's manifests. `policy` is a policy file's content, else the strict default holds. `now` is in
    Unix seconds, else this machine's clock. Only the hardware vendors' roots are trusted.

    Raises UsageError (arguments), EvidenceError (not authentic, or made for something else), PolicyError
    (authentic and not acceptable).
    """
    parts, rules = _bundle(collateral), _policy(policy)
    kind = detect_kind(evidence)
    _expect_binding(kind, report_data, nonce)
    key, cas = expect_content("vcek", vcek), expect_content("chain", chain)
    given = Supplied(parts.tdx, key, cas, expect_content("crl", crl), nonce, rims)
    supplied = completed(given, parts, kind, evidence)
    moment = int(time.time()) if now is None else now
    judgement = judge(kind, evidence, supplied, rules, report_data, VENDOR_ANCHORS, moment)
    for refusal in judgement.refusals:
        raise refusal
    fields = read_fields(kind, evidence, supplied.chain if kind is EvidenceKind.GPU else supplied.key)
    return VerifiedEvidence(kind.value, judgement.tcb_status, judgement.advisories, fields)


def _expect_binding(kind: EvidenceKind, report_data: bytes | None, nonce: bytes | None) -> None:
    """Exactly what the kind has, whole: evidence that is not compared with anything proves nothing now."""
    wanted = (("report_data", report_data, REPORT_DATA_SIZE), ("nonce", nonce, NONCE_SIZE))
    used, unused = reversed(wanted) if kind is EvidenceKind.GPU else wanted
    name, value, size = used
    if value is None or len(value) != size:
        found = "none" if value is None else f"{len(value)} bytes"
        raise UsageError.of(Reason.USAGE, name, found, f"{size} bytes for evidence of kind {kind}")
    if unused[1] is not None:
        raise UsageError.of(Reason.USAGE, unused[0], "one", f"{name} alone for evidence of kind {kind}")


def _bundle(collateral: bytes | Path | None) -> Bundle:
    if collateral is None:
        return EMPTY
    if not isinstance(collateral, bytes):
        return read_bundle(os.fspath(collateral))
    try:
        return parse_bundle(collateral)
    except EvidenceError as error:  # the caller's, so the caller's fault
        raise UsageError(*error.mismatches) from error


def _policy(policy: bytes | None) -> EvidencePolicy:
    try:
        return STRICT if policy is None else parse_evidence_policy(policy)
    except TopologyError as error:  # the caller's, so the caller's fault
        raise UsageError(*error.mismatches) from error
