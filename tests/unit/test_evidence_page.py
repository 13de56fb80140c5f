"""docs/evidence.md, where it needs a vendor's service or manifests that fit a GPU's report: under the lab's.

The rest of its commands: tests/vectors/test_evidence_page.py.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from support.evidence_cli import in_folder
from support.gpu import NONCE, anchors, gpu, manifests
from support.gpu import NOW as GPU_NOW
from support.pages import Shown, filled, followed, missing
from support.snp import WEB, chip
from support.tdx import HOST, NOW, PKI
from support.tdx import WEB as TDX_WEB

from toposeal_lab.vendor_service import vendor_service

BUNDLE = [each for each in followed("docs/evidence.md") if "bundle.json" in each.command]
(MANIFESTS,) = [each for each in followed("docs/evidence.md") if "--rim" in each.command]


def arguments(each: Shown, values: dict[str, str]) -> list[str]:
    program, kind, *given = shlex.split(filled(each.command, values))
    assert (program, kind) == ("toposeal", "evidence")
    return given


def test_collateral_is_fetched_shown_and_judged_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The services are simulated, so the command is told where they are."""
    monkeypatch.setattr("time.time", lambda: NOW + 0.5)
    files = {"quote.bin": HOST.quote(bytes(64), TDX_WEB), "report.bin": chip().report(bytes(64), WEB)}
    run = in_folder(tmp_path, files, monkeypatch, capsys)
    fetch, verify, show = BUNDLE
    with vendor_service() as services:
        services.serve_tdx(PKI.collateral(), pccs=True)
        services.serve_snp([chip()])
        where = ["--pccs", services.url, "--kds", services.url, "--ca", services.ca_file]
        assert run(*arguments(fetch, {}), *where)[0] == 0
    assert run(*arguments(verify, {}))[0] == 0
    code, printed, _ = run(*arguments(show, {}))
    genuine = {"b0c06f000000": PKI.fmspc.hex(), "DataNumber         20": "DataNumber         ..."}
    assert (code, missing(tuple(filled(line, genuine) for line in show.lines), printed)) == (0, []), printed


def test_a_gpu_is_judged_by_its_manifests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("time.time", lambda: GPU_NOW + 0.5)
    driver, vbios = manifests()
    files = {"report.bin": gpu().report(NONCE), "certchain.pem": gpu().chain}
    files |= {"driver.swidtag": driver, "vbios.swidtag": vbios}
    run = in_folder(tmp_path, files, monkeypatch, capsys, anchors())
    code, printed, _ = run(*arguments(MANIFESTS, {"931d8dd0...4dfcb": NONCE.hex()}))
    assert (code, printed.splitlines()[0]) == (0, "ACCEPTED: gpu")
