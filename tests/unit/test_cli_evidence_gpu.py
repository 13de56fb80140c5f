"""`toposeal evidence` takes a GPU's report, its certificates, its nonce and its manifests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.evidence_cli import Run, in_folder
from support.gpu import NONCE, NOW, anchors, gpu, manifests
from support.snp import WEB, chip

GPU = ("report", "--chain", "chain", "--at", str(NOW))
RIMS = ("--rim", "driver", "--rim", "vbios")
NOTES = [
    "no --nonce: the report may be old, or made for somebody else",
    "no --rim: firmware and driver were not compared; developer tools might be on",
    "revocation was not checked: NVIDIA answers by OCSP, and nothing here asks a network",
    "where the device is, and which machine it is attached to, no report says",
]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `toposeal evidence ARGUMENTS` beside the files, under the lab's roots."""
    driver, vbios = manifests()
    files = {
        "report": gpu().report(NONCE),
        "chain": gpu().chain,
        "driver": driver,
        "vbios": vbios,
        "snp": chip().report(bytes(64), WEB),
        "policy": b'{"gpu": {"models": ["GB100"], "measurements": "manifests"}}',
        "bad": b"x",
    }
    return in_folder(tmp_path, files, monkeypatch, capsys, anchors())


def verdict(run: Run, *arguments: str) -> tuple[int, dict[str, Any]]:
    code, out, _ = run("verify", *arguments, "--json")
    found: dict[str, Any] = json.loads(out)
    return code, found


def test_a_genuine_report_exits_0_and_says_what_it_does_not_prove(run: Run) -> None:
    code, out, _ = run("verify", *GPU)
    assert (code, out.splitlines()[0]) == (0, "ACCEPTED: gpu")
    assert out.splitlines()[1:] == [f"  note: {note}" for note in NOTES]
    code, out, _ = run("verify", *GPU, "--nonce", NONCE.hex(), *RIMS)
    assert (code, out.splitlines()[1:]) == (0, [f"  note: {note}" for note in NOTES[2:]])


def test_json_has_the_fields(run: Run) -> None:
    code, found = verdict(run, *GPU, "--nonce", NONCE.hex().upper())
    assert (code, found["kind"], found["authentic"], found["acceptable"]) == (0, "gpu", True, True)
    assert found["fields"]["leaf"] == "GH100 A01 GSP FMC LF"
    code, found = verdict(run, "report", "--chain", "bad", "--at", str(NOW))
    assert (code, found["authentic"], found["fields"]["leaf"]) == (2, False, None)


def test_E18_exit_2_an_old_nonce(run: Run) -> None:
    code, found = verdict(run, *GPU, "--nonce", "00" * 32)
    assert (code, found["authentic"], found["acceptable"]) == (2, True, False)


def test_exit_4_the_policy(run: Run) -> None:
    code, found = verdict(run, *GPU, *RIMS, "--policy", "policy")
    assert (code, [reason.rsplit("[")[-1] for reason in found["reasons"]]) == (4, ["gpu_model]"])
    code, found = verdict(run, *GPU, "--policy", "policy")
    assert [reason.rsplit("[")[-1] for reason in found["reasons"]] == ["gpu_model]", "rim]", "rim]"]


def test_exit_2_a_manifest_that_nobody_signed(run: Run) -> None:
    code, found = verdict(run, *GPU, "--rim", "bad")
    assert (code, found["authentic"]) == (2, True)


@pytest.mark.parametrize(
    "arguments",
    [
        (*GPU, "--nonce", "00" * 31),
        (*GPU, "--nonce", "0g" * 32),
        (*GPU, "--report-data", "00" * 64),
        (*GPU, *(("--rim", "driver") * 5)),
        (*GPU, "--rim", "missing"),
        ("snp", "--nonce", "00" * 32),
        ("snp", "--rim", "driver"),
    ],
)
def test_exit_1_what_would_not_be_compared(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = run("verify", *arguments)
    assert (code, out) == (1, "")
    assert "[usage]" in err


def test_show_prints_every_field(run: Run) -> None:
    code, out, _ = run("show", "report", "--chain", "chain")
    assert code == 0
    for line in ("leaf                   GH100 A01 GSP FMC LF", "DRIVER_VERSION         550.90.07"):
        assert line in out.splitlines()
    code, out, _ = run("show", "report", "--json")
    assert json.loads(out)["fields"]["leaf"] is None
    assert len([name for name in json.loads(out)["fields"] if name.startswith("measurement ")]) == 64
