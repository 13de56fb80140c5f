"""A GPU's report by itself: its fields, and all that speaks against it at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.gpu import NONCE, NOW, anchors, gpu, manifests
from support.tdx import refusal

from toposeal.errors import Reason, ToposealError
from toposeal.evidence.gpu_certs import parse_gpu_chain
from toposeal.evidence.gpu_report import parse_gpu_report
from toposeal.evidence.kind import EvidenceKind
from toposeal.topology.evidence_policy import STRICT, EvidencePolicy, GpuRules
from toposeal.verification.evidence_check import Supplied, judge, read_fields
from toposeal.verification.gpu_check import GpuSupplied, check_gpu, gpu_details, gpu_fields
from toposeal_lab.simgpu import GpuShape

RULES = GpuRules(None, False)
DRIVER, VBIOS = manifests()


def against(rules: GpuRules | None = RULES, report: bytes | None = None, **supplied: Any) -> list[Reason]:
    given = GpuSupplied(chain=gpu().chain, **supplied)
    found = check_gpu(report or gpu().report(NONCE), given, rules, anchors(), NOW)
    return [mismatch.reason for refusal in found for mismatch in refusal.mismatches]


def test_nothing_speaks_against_a_genuine_one() -> None:
    assert against() == []
    assert against(nonce=NONCE, rims=[DRIVER, VBIOS]) == []
    assert against(GpuRules(frozenset({"GH100"}), True), nonce=NONCE, rims=[DRIVER, VBIOS]) == []


def test_E18_each_demand_counts() -> None:
    assert against(nonce=bytes(32)) == [Reason.NONCE_MISMATCH]
    assert against(None) == [Reason.EVIDENCE_KIND]
    assert against(GpuRules(frozenset({"GB100", "LS_10"}), False)) == [Reason.GPU_MODEL]
    assert against(GpuRules(None, True)) == [Reason.RIM, Reason.RIM]
    assert against(rims=[DRIVER]) == [Reason.RIM]
    assert against(rims=[DRIVER, VBIOS.replace(b"GH100", b"GB100")]) == [Reason.RIM]
    open_to_tools = gpu().report(NONCE, GpuShape(measurements={3: bytes(48)}))
    assert against(report=open_to_tools, rims=[DRIVER, VBIOS]) == [Reason.MEASUREMENT]


def test_all_of_them_are_told() -> None:
    assert against(None, nonce=bytes(32), rims=[VBIOS]) == [
        Reason.NONCE_MISMATCH,
        Reason.EVIDENCE_KIND,
        Reason.RIM,
    ]


def test_what_is_not_authentic_is_refused() -> None:
    report = gpu().report(NONCE)
    assert refusal(check_gpu, report, GpuSupplied(), RULES, anchors(), NOW) is Reason.COLLATERAL_MISSING
    other = GpuSupplied(gpu("GH100", 2).chain)
    assert refusal(check_gpu, report, other, RULES, anchors(), NOW) is Reason.QUOTE_SIGNATURE


def test_the_fields_are_those_of_the_request_and_of_the_leaf() -> None:
    report = parse_gpu_report(gpu().report(NONCE))
    found = gpu_fields(report, parse_gpu_chain(gpu().chain))
    assert found == {
        "nonce": NONCE.hex(),
        "spdm_request_header": "11e001ff",
        "length": len(report.transcript.raw),
        "leaf": "GH100 A01 GSP FMC LF",
        "leaf_validity": ["2026-09-20", "9999-12-31"],
    }
    without = gpu_fields(report, None)
    assert (without["leaf"], without["leaf_validity"]) == (None, None)
    assert list(without) == list(found)


def test_the_details_bear_nvidias_names() -> None:
    shown = gpu_details(parse_gpu_report(gpu().report(NONCE, GpuShape(opaque={26: b"\x01", 18: None}))))
    assert (shown["DRIVER_VERSION"], shown["VBIOS_VERSION"]) == ("550.90.07", "96.00.9F.00.01")
    assert (shown["NVDEC0_STATUS"], shown["field 26"], shown["mode"]) == ("55", "01", "unsaid")
    assert shown["measurement 0"] == gpu().measurements()[0].hex()
    assert "PROJECT_SKU" not in shown


def judged(supplied: Supplied, policy: EvidencePolicy = STRICT, report_data: bytes | None = None) -> Any:
    kind, report = EvidenceKind.GPU, gpu().report(NONCE)
    return judge(kind, report, supplied, policy, report_data, anchors(), NOW)


def test_it_is_judged_like_the_others() -> None:
    supplied = Supplied(chain=gpu().chain, nonce=NONCE, rims=(DRIVER, VBIOS))
    assert judged(supplied).acceptable
    refused = judged(replace(supplied, nonce=bytes(32)))
    assert (refused.authentic, refused.acceptable) == (True, False)
    assert not judged(Supplied()).authentic
    assert judged(supplied, EvidencePolicy()).refusals[0].reason is Reason.EVIDENCE_KIND
    assert judged(supplied, report_data=bytes(64)).refusals[0].reason is Reason.REPORT_DATA


@pytest.mark.parametrize("chain", [None, gpu().chain])
def test_its_fields_are_read_with_or_without_a_chain(chain: bytes | None) -> None:
    found = read_fields(EvidenceKind.GPU, gpu().report(NONCE), chain)
    assert (found["leaf"] is None) == (chain is None)
    with pytest.raises(ToposealError):
        read_fields(EvidenceKind.GPU, gpu().report(NONCE), b"x")
