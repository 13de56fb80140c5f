"""The library's `verify_evidence`: one result or a typed refusal, and never without a binding."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import gpu
from support.snp import WEB, amd, chip
from support.tdx import HOST, NOW, PKI
from support.tdx import WEB as TDX_WEB

from toposeal import EvidenceError, PolicyError, Reason, UsageError, VerifiedEvidence, verify_evidence
from toposeal.evidence.bundle import Bundle, read_chain
from toposeal.host import evidence_verifier
from toposeal_lab.simsnp.pki import pem

PAGE = (Path(__file__).parents[2] / "docs" / "evidence.md").read_text()
DATA = bytes(range(64))
QUOTE, REPORT = HOST.quote(DATA, TDX_WEB), chip().report(DATA, WEB)
SNP: dict[str, Any] = {"vcek": chip().certificate, "chain": chip().chain, "now": NOW}
TDX: dict[str, Any] = {"collateral": PKI.collateral(), "now": NOW}
GPU_REPORT = gpu.gpu().report(gpu.NONCE)
GPU: dict[str, Any] = {"chain": gpu.gpu().chain, "now": gpu.NOW}


@pytest.fixture(autouse=True)
def lab_roots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process's library trust the simulated vendors, but where a test is about the genuine."""
    if "E17" not in request.node.name:
        roots = replace(gpu.anchors(), amd_roots=amd().anchors().amd_roots)
        anchors = replace(roots, intel_sgx_root_ca=PKI.anchors().intel_sgx_root_ca)
        monkeypatch.setattr(evidence_verifier, "VENDOR_ANCHORS", anchors)


def test_each_kind_gives_one_typed_result() -> None:
    tdx = verify_evidence(QUOTE, report_data=DATA, **TDX)
    assert (tdx.kind, tdx.tcb_status, tdx.advisories) == ("tdx", "UpToDate", ())
    assert tdx.fields["mrtd"] == TDX_WEB.mrtd.hex()
    snp = verify_evidence(REPORT, report_data=DATA, crl=amd().crl(), **SNP)
    assert (snp.kind, snp.tcb_status) == ("snp", None)
    assert snp.fields["cert"]["product"] == "Genoa"
    found = verify_evidence(GPU_REPORT, nonce=gpu.NONCE, rims=gpu.manifests(), **GPU)
    assert isinstance(found, VerifiedEvidence)
    assert (found.kind, found.fields["nonce"]) == ("gpu", gpu.NONCE.hex())


def test_a_bundle_serves_both_kinds_as_bytes_and_as_a_file(tmp_path: Path) -> None:
    text = {"endorsements": [pem(chip().certificate).decode()], "chains": [chip().chain.decode()], "crls": []}
    bundle = json.dumps({"tdx": [json.loads(PKI.collateral())], "snp": text}).encode()
    file = tmp_path / "bundle.json"
    file.write_bytes(bundle)
    for collateral in (bundle, file, str(file)):
        for evidence in (QUOTE, REPORT):
            assert verify_evidence(evidence, report_data=DATA, collateral=collateral, now=NOW)


def test_the_bundle_of_a_product_serves_a_key_of_the_callers() -> None:
    clean, revoking = amd().crl(), amd().crl([amd().ask])
    chain = read_chain(chip().chain)
    given: dict[str, Any] = {"report_data": DATA, "vcek": chip().certificate, "now": NOW}
    assert verify_evidence(REPORT, collateral=Bundle(chains=(chain,), crls=(clean,)).dump(), **given)
    for chains, own in (((chain,), None), ((), chip().chain)):
        bundle = Bundle(chains=chains, crls=(revoking,)).dump()
        with pytest.raises(EvidenceError) as caught:
            verify_evidence(REPORT, collateral=bundle, chain=own, **given)
        assert caught.value.reason is Reason.REVOKED


@pytest.mark.parametrize("part", ["vcek", "chain", "crl"])
def test_an_empty_part_is_not_one_that_was_not_given(part: str) -> None:
    bundle = Bundle((), (chip().certificate,), (read_chain(chip().chain),), (amd().crl(),)).dump()
    given: dict[str, Any] = {"report_data": DATA, "collateral": bundle, "now": NOW}
    empty: dict[str, Any] = {part: b""}
    assert verify_evidence(REPORT, **given)
    with pytest.raises(UsageError) as caught:
        verify_evidence(REPORT, **given, **empty)
    (found,) = caught.value.mismatches
    assert (found.reason, found.field) == (Reason.USAGE, part)


def test_without_a_time_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    later = {**SNP, "now": None}
    monkeypatch.setattr("time.time", lambda: NOW + 0.5)
    assert verify_evidence(REPORT, report_data=DATA, **later)
    monkeypatch.setattr("time.time", lambda: 0.0)
    with pytest.raises(EvidenceError):
        verify_evidence(REPORT, report_data=DATA, **later)


@pytest.mark.parametrize(
    ("evidence", "binding"),
    [
        (QUOTE, {}),
        (QUOTE, {"report_data": b""}),
        (QUOTE, {"report_data": DATA[:63]}),
        (QUOTE, {"report_data": DATA + b"\0"}),
        (QUOTE, {"nonce": gpu.NONCE}),
        (REPORT, {"report_data": DATA, "nonce": gpu.NONCE}),
        (GPU_REPORT, {}),
        (GPU_REPORT, {"nonce": b""}),
        (GPU_REPORT, {"report_data": DATA}),
        (GPU_REPORT, {"report_data": DATA, "nonce": gpu.NONCE}),
    ],
)
def test_E4_the_binding_of_the_kind_is_required_and_no_other_is_taken(
    evidence: bytes, binding: dict[str, Any]
) -> None:
    with pytest.raises(UsageError) as caught:
        verify_evidence(evidence, **binding)
    assert caught.value.mismatches[0].field in ("report_data", "nonce")


def test_E4_another_binding_is_refused() -> None:
    for evidence, more in ((QUOTE, TDX), (REPORT, SNP)):
        with pytest.raises(EvidenceError) as caught:
            verify_evidence(evidence, report_data=DATA[::-1], **more)
        assert caught.value.reason is Reason.REPORT_DATA
    with pytest.raises(EvidenceError) as nonce:
        verify_evidence(GPU_REPORT, nonce=gpu.NONCE[::-1], **GPU)
    assert nonce.value.reason is Reason.NONCE_MISMATCH


def test_every_cause_has_its_own_exception() -> None:
    with pytest.raises(EvidenceError) as missing:
        verify_evidence(QUOTE, report_data=DATA, now=NOW)
    assert missing.value.reason is Reason.COLLATERAL_MISSING
    with pytest.raises(EvidenceError) as kind:
        verify_evidence(b"no evidence", report_data=DATA)
    assert kind.value.reason is Reason.EVIDENCE_KIND
    old = {**TDX, "collateral": PKI.collateral(status="OutOfDate")}
    with pytest.raises(PolicyError) as status:
        verify_evidence(QUOTE, report_data=DATA, **old)
    assert status.value.reason is Reason.TCB_STATUS
    with pytest.raises(PolicyError) as unnamed:
        verify_evidence(QUOTE, report_data=DATA, policy=b"{}", **TDX)
    assert unnamed.value.reason is Reason.EVIDENCE_KIND


@pytest.mark.parametrize(
    "bad", [{"policy": b""}, {"policy": b"[]"}, {"collateral": b"x"}, {"collateral": "/nowhere"}]
)
def test_a_file_of_the_callers_that_says_nothing_is_the_callers_fault(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        verify_evidence(QUOTE, report_data=DATA, **bad)


def test_E17_the_library_trusts_the_vendors_alone() -> None:
    for evidence, more in ((QUOTE, TDX), (REPORT, SNP)):
        with pytest.raises(EvidenceError) as caught:
            verify_evidence(evidence, report_data=DATA, **more)
        assert caught.value.reason is Reason.QUOTE_SIGNATURE


def test_the_example_of_the_page_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    example = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert example is not None
    monkeypatch.setattr("time.time", lambda: NOW + 0.5)
    for name, data in {"quote.bin": QUOTE, "bundle.json": PKI.collateral()}.items():
        (tmp_path / name).write_bytes(data)
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        for said in (DATA, DATA[::-1]):
            exec(compile(example[1], "docs/evidence.md", "exec"), {"expected_report_data": said})
        old = json.loads(PKI.collateral(status="OutOfDate"))
        (tmp_path / "bundle.json").write_text(json.dumps(old))
        exec(compile(example[1], "docs/evidence.md", "exec"), {"expected_report_data": DATA})
    finally:
        os.chdir(before)
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == f"tdx UpToDate {TDX_WEB.mrtd.hex()}"
    assert second.startswith("not proven: report_data")
    assert third.startswith("genuine, but not acceptable: tcb_status")
