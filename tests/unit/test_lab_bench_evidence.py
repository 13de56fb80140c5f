"""The benchmark measures verdicts, not refusals, and every number that it promises."""

from __future__ import annotations

import argparse
from dataclasses import replace

import pytest

from toposeal.evidence.snp_tcb import Product
from toposeal_lab import bench_evidence as bench
from toposeal_lab.bench import TARGETS
from toposeal_lab.checks import CheckFailed
from toposeal_lab.samples import Sample, genuine, simulated_snp, simulated_tdx


@pytest.mark.parametrize("sample", [simulated_tdx(), simulated_snp(Product.TURIN)], ids=["tdx", "snp"])
def test_simulated_samples_are_acceptable_and_say_what_is_expected(sample: Sample) -> None:
    assert sample.verify().acceptable
    assert not replace(sample, report_data=bytes(64)).verify().acceptable


@pytest.mark.parametrize("genuine_at_hand", [True, False])
def test_every_promised_number_is_measured(monkeypatch: pytest.MonkeyPatch, genuine_at_hand: bool) -> None:
    if not genuine_at_hand:
        monkeypatch.setattr(bench, "genuine", list)
    monkeypatch.setattr(bench, "_ROUNDS", 4)
    monkeypatch.setattr(bench, "_APPRAISALS", 2)
    monkeypatch.setattr(bench, "_starts", lambda *samples: {})
    result = bench.bench_evidence(argparse.Namespace())
    for kind in ("tdx", "snp"):
        assert genuine_at_hand or result[kind]["input"].startswith("simulated")
        assert result[kind]["parsed_beforehand"][f"{kind}_ratio"] > 0
        assert result[kind]["parsed_each_time"][f"{kind}_unprepared_ratio"] > 0
    assert 0 < result["repeat_us"] < 1e6
    assert result["event_loop"]["worst_stall_ms"] >= 0
    assert {"tdx_ratio", "snp_ratio", "repeat_us", "worst_stall_ms"} < TARGETS.keys()


def test_a_refusal_is_no_measure() -> None:
    refused = simulated_tdx(status="OutOfDate")
    with pytest.raises(CheckFailed):
        bench._beside(refused, "tdx", refused.verify, refused.verify, refused.verify)


def test_genuine_samples_come_from_the_folder(shared_vectors: object) -> None:
    found = {sample.name: sample for sample in genuine()}
    assert found["v4-phala-b0c06f collateral-2025-06"].verify().acceptable
    assert found["v3-genoa"].verify().acceptable
