"""`toposeal evidence policy`: draft to stdout, review to stderr, and `verify --policy` takes the draft."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from support.evidence_cli import Run, in_folder
from support.snp import WEB, chip, crl
from support.tdx import HOST, NOW, PKI
from support.tdx import WEB as TDX_WEB

from toposeal.evidence.bundle import Bundle, read_chain

DATA = bytes(range(64))
AT = ("--at", str(NOW))
SNP = ("--vcek", "vcek", "--chain", "chain", *AT)
TDX = ("--collateral", "collateral", *AT)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `toposeal evidence ARGUMENTS` under the lab's roots: exit code, stdout, stderr."""
    files = {
        "quote": HOST.quote(DATA, TDX_WEB),
        "other-quote": HOST.quote(DATA, replace(TDX_WEB, mrtd=b"\1" * 48)),
        "debug-quote": HOST.quote(DATA, replace(TDX_WEB, td_attributes=(1 | 1 << 28).to_bytes(8, "little"))),
        "collateral": PKI.collateral(),
        "report": chip().report(DATA, WEB),
        "other-report": chip().report(DATA, replace(WEB, host_data=b"\1" * 32)),
        "vcek": chip().certificate,
        "chain": chip().chain,
        "crl": crl(1),
        "bundle": Bundle((), (), (read_chain(chip().chain),)).dump(),
        "hcl": b"HCLA" + bytes(2000),
    }
    return in_folder(tmp_path, files, monkeypatch, capsys)


@pytest.mark.parametrize(("kind", "given"), [("quote", TDX), ("report", SNP)])
def test_the_written_policy_accepts_this_evidence_and_refuses_another(
    run: Run, kind: str, given: tuple[str, ...]
) -> None:
    code, out, err = run("policy", kind, *given)
    assert code == 0
    Path("policy.json").write_text(out)
    assert "verified: genuine hardware signed it" in err
    assert run("verify", kind, *given, "--policy", "policy.json")[0] == 0
    assert run("verify", f"other-{kind}", *given, "--policy", "policy.json")[0] == 4


@pytest.mark.parametrize("kind", ["quote", "report"])
def test_the_review_names_every_value_and_says_what_was_not_verified(run: Run, kind: str) -> None:
    code, out, err = run("policy", kind)
    assert code == 0
    assert "NOT VERIFIED: anybody could have made it" in err
    (demand,) = json.loads(out).values()
    for name in [*demand["policy"], *demand["references"][0], "platforms"]:
        assert f"{name} " in err
    assert {line.split()[1] for line in err.splitlines() if line.startswith("  ")} >= {"observed", "demand"}


@pytest.mark.parametrize("kind", ["tdx", "snp"])
def test_the_form_for_a_topology_is_yaml(run: Run, kind: str) -> None:
    code, out, _ = run("policy", {"tdx": "quote", "snp": "report"}[kind], "--topology", "web")
    assert code == 0
    document = yaml.safe_load(out)
    assert list(document) == [kind, "roles"]
    assert list(document["roles"]["web"]) == [kind, "platforms"]


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("debug-quote",), 4, "td_debug"),
        (("hcl",), 2, "paravisor"),
        (("quote", "--collateral", "collateral", "--at", "1"), 2, "collateral_invalid"),
        (("report", "--vcek", "vcek", "--chain", "chain", "--at", "1"), 2, "collateral_invalid"),
        (("report", "--chain", "chain"), 2, "collateral_missing"),
        (("report", "--vcek", "vcek", "--crl", "crl"), 2, "collateral_missing"),
        (("report", "--collateral", "collateral"), 2, "collateral_missing"),
        (("quote", "--collateral", "bundle"), 2, "collateral_missing"),
        (("absent",), 1, "usage"),
        (("quote", "--at", "now"), 1, "usage"),
    ],
)
def test_nothing_is_written_from_what_is_unsafe_or_false(
    run: Run, arguments: tuple[str, ...], code: int, reason: str
) -> None:
    found, out, err = run("policy", *arguments)
    assert (found, out) == (code, "")
    assert f"[{reason}]" in err


@pytest.mark.parametrize(("data", "noted"), [(b"\1" * 32 + bytes(32), True), (bytes(64), False)])
def test_verify_notes_what_a_paravisor_would_write(run: Run, data: bytes, noted: bool) -> None:
    """Not a refusal: others pad a nonce of theirs. With --report-data it is one."""
    Path("padded").write_bytes(chip().report(data, WEB))
    code, out, _ = run("verify", "padded", *SNP)
    assert (code, "paravisor (Azure)" in out) == (0, noted)
    code, out, _ = run("verify", "padded", *SNP, "--report-data", "11" * 64)
    assert (code, "[paravisor]" in out) == (2, noted)


def test_a_hostile_value_is_safe_for_a_terminal(run: Run) -> None:
    assert "\x1b" not in run("policy", "report", "--topology", "\x1b[2J")[1]
