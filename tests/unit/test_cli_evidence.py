"""`toposeal evidence`, from its arguments to its exit code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.evidence_cli import Run, in_folder
from support.snp import WEB, amd, chip
from support.tdx import HOST, NOW, PKI
from support.tdx import WEB as TDX_WEB

from toposeal.cli.main import entry
from toposeal.evidence import ghcb_table
from toposeal.evidence.bundle import Bundle, read_chain
from toposeal.limits import MAX_QUOTE_SIZE
from toposeal_lab.simsnp import ReportShape, certificate_table

DATA = bytes(range(64))
RFC3339 = "2026-09-21T15:33:20Z"  # NOW


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "quote": HOST.quote(DATA, TDX_WEB),
        "collateral": PKI.collateral(),
        "collaterals": b"[" + PKI.collateral() + b"]",
        "report": chip().report(DATA, WEB),
        "debug": chip().report(DATA, replace(WEB, policy=0xB0000)),
        "reserved": chip().report(DATA, WEB, ReportShape(patches={0x3A: b"\1"})),
        "vcek": chip().certificate,
        "chain": chip().chain,
        "crl": amd().crl(),
        "gpu": bytes.fromhex("11e001ff") + bytes(100),
        "text": b"no evidence",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `toposeal evidence ARGUMENTS` in `folder` under the lab's roots: exit code, stdout, stderr."""
    return in_folder(folder, {}, monkeypatch, capsys)


AT = ("--at", str(NOW))
SNP = ("--vcek", "vcek", "--chain", "chain", *AT)
TDX = ("--collateral", "collateral", *AT)


def verdict(run: Run, *arguments: str) -> tuple[int, dict[str, Any]]:
    code, out, _ = run("verify", *arguments, "--json")
    found: dict[str, Any] = json.loads(out)
    assert list(found) == ["kind", "authentic", "acceptable", "reasons", "tcb_status", "advisories", "fields"]
    return code, found


def test_genuine_evidence_exits_0(run: Run) -> None:
    for arguments in (("quote", *TDX), ("report", *SNP), ("report", *SNP, "--crl", "crl")):
        code, out, err = run("verify", *arguments)
        assert (code, err) == (0, "")
        assert out.startswith("ACCEPTED: ")
        assert out.count("note: no --") == 2


def test_the_notes_are_about_what_was_not_given(run: Run, folder: Path) -> None:
    (folder / "policy").write_text('{"snp": {}}')
    assert run("verify", "report", *SNP, "--policy", "policy")[0] == 1
    out = run("verify", "report", *SNP, "--report-data", DATA.hex())[1]
    assert "--report-data" not in out


def test_json_says_the_same(run: Run) -> None:
    code, found = verdict(run, "quote", *TDX, "--report-data", DATA.hex().upper())
    assert code == 0
    assert (found["kind"], found["authentic"], found["acceptable"], found["reasons"]) == (
        "tdx",
        True,
        True,
        [],
    )
    assert (found["tcb_status"], found["advisories"]) == ("UpToDate", [])
    assert found["fields"]["report_data"] == DATA.hex()
    code, found = verdict(run, "report", *SNP)
    assert (code, found["kind"], found["tcb_status"]) == (0, "snp", None)
    assert found["fields"]["cert"]["cn"] == "SEV-VCEK"


def test_exit_2_not_authentic(run: Run) -> None:
    for arguments in (("quote", *AT), ("report", *AT), ("quote", "--collateral", "collateral", "--at", "0")):
        code, out, _ = run("verify", *arguments)
        assert code == 2
        assert out.startswith("REFUSED: ")
        assert "note" not in out
    code, found = verdict(run, "report", *AT)
    assert (code, found["authentic"], found["acceptable"]) == (2, False, False)
    assert found["reasons"][0].endswith("[collateral_missing]")
    assert found["fields"]["cert"] is None


def test_E4_exit_2_other_report_data(run: Run) -> None:
    code, found = verdict(run, "report", *SNP, "--report-data", bytes(64).hex())
    assert (code, found["authentic"], found["acceptable"]) == (2, True, False)
    assert found["reasons"][0].endswith("[report_data]")


def test_exit_4_authentic_and_not_acceptable(run: Run) -> None:
    code, out, _ = run("verify", "debug", *SNP)
    assert code == 4
    assert out.startswith("AUTHENTIC, NOT ACCEPTED: snp\n")
    assert "[guest_debug]" in out


def test_a_status_and_its_advisories_are_printed(run: Run, folder: Path) -> None:
    old = PKI.collateral(status="OutOfDate", advisories=("INTEL-SA-00002",))
    (folder / "collateral").write_bytes(old)
    code, out, _ = run("verify", "quote", *TDX)
    assert code == 4
    assert "TCB status OutOfDate\n  advisory INTEL-SA-00002\n" in out


def test_exit_2_what_is_no_evidence(run: Run) -> None:
    code, found = verdict(run, "text")
    assert (code, found["kind"], found["fields"]) == (2, None, {})
    assert "a TDX quote, or a report of SNP or a GPU" in found["reasons"][0]
    assert run("verify", "text")[1].startswith("REFUSED: unknown evidence")
    code, out, err = run("show", "text")
    assert (code, out) == (2, "")
    assert "[evidence_kind]" in err


def test_exit_2_show_says_what_is_wrong_with_a_bundle(run: Run, folder: Path) -> None:
    (folder / "damaged").write_bytes(b'{"tdx": [], "snp": {"crl": []}}')
    code, out, err = run("show", "damaged")
    assert (code, out) == (2, "")
    assert err.startswith("toposeal: bundle.snp: ") and "[collateral_invalid]" in err


def test_fields_that_cannot_be_read_are_left_out(run: Run, folder: Path) -> None:
    code, found = verdict(run, "reserved", *SNP)
    assert (code, found["kind"], found["fields"]) == (2, "snp", {})
    (folder / "vcek").write_bytes(b"x")
    code, found = verdict(run, "report", *SNP)
    assert (code, found["fields"]["cert"], found["fields"]["version"]) == (2, None, 5)


def test_an_array_of_collateral_is_taken_too(run: Run) -> None:
    assert run("verify", "quote", "--collateral", "collaterals", *AT)[0] == 0


@pytest.mark.parametrize("text", ["[]", "[1]", "1", "{}", "{", "[" + "{}," * 16 + "{}]"])
def test_other_collateral_is_refused(run: Run, folder: Path, text: str) -> None:
    (folder / "collateral").write_text(text)
    assert run("verify", "quote", *TDX)[0] in (1, 2)


@pytest.mark.parametrize(
    "moment",
    [
        RFC3339,
        RFC3339.lower(),
        "2026-09-21T17:33:20+02:00",
        "2026-09-21T15:33:20.5Z",
        "2026-09-21T15:33:20.123456789Z",
        str(NOW),
    ],
)
def test_time_is_unix_or_rfc_3339(run: Run, moment: str) -> None:
    assert run("verify", "report", "--vcek", "vcek", "--chain", "chain", "--at", moment)[0] == 0


def test_without_a_time_it_is_now(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: NOW + 0.5)
    assert run("verify", "report", "--vcek", "vcek", "--chain", "chain")[0] == 0
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert run("verify", "report", "--vcek", "vcek", "--chain", "chain")[0] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("--at", "now"),
        ("--at", ""),
        ("--at=-1",),
        ("--at", "1e9"),
        ("--at", "9" * 12),
        ("--at", "9" * 13),
        ("--at", "2026-02-30T00:00:00Z"),
        ("--at", "2026-01-01"),
        ("--at", "2026-01-01T00:00:00"),
        ("--at", "2026-01-01 00:00:00Z"),
        ("--at", "2026-01-01T00:00:00.Z"),
        ("--report-data", ""),
        ("--report-data", "00" * 63),
        ("--report-data", "00" * 65),
        ("--report-data", "0x" + "00" * 63),
        ("--report-data", "0" * 127 + "g"),
        ("--vcek", "nowhere"),
        ("--policy", "text"),
        ("--collateral", "text"),
    ],
)
def test_exit_1_arguments_that_say_nothing(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = run("verify", "report", *arguments)
    assert (code, out) == (1, "")
    assert err.startswith("toposeal: ")


@pytest.mark.parametrize(
    "line", [[], ["verify"], ["show"], ["verify", "x", "--insecure"], ["verify", "x", "--coll", "y"]]
)
def test_exit_1_missing_unknown_or_abbreviated_arguments(line: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        entry(["evidence", *line])
    assert caught.value.code == 1


def test_show_prints_every_field_and_judges_nothing(run: Run, folder: Path) -> None:
    (folder / "quote").write_bytes((folder / "quote").read_bytes() + b"anything")
    code, out, _ = run("show", "quote")
    assert code == 0
    shown = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert (shown["mrtd"], shown["body_type"]) == (TDX_WEB.mrtd.hex(), "-")
    assert "sept_ve_disable=1" in shown["td_attributes_decoded"]
    assert {"qe_vendor_id", "signature", "qe_report_mrsigner", "qe_auth_data"} <= set(shown)
    code, out, _ = run("show", "report", "--vcek", "vcek")
    assert code == 0
    assert "reported_tcb_decoded   bl=10 tee=2 snp=25 ucode=210\n" in out
    assert "cert                   cn=SEV-VCEK issuer=SEV-Genoa serial=0 " in out
    code, out, _ = run("show", "report", "--json")
    assert json.loads(out)["fields"]["cert"] is None


def test_show_prints_a_certificate_table_and_collateral_too(run: Run, folder: Path) -> None:
    (folder / "table").write_bytes(certificate_table([(ghcb_table.VCEK, chip().certificate)]))
    code, out, _ = run("show", "table")
    assert code == 0
    assert "VCEK  size=" in out
    code, out, _ = run("show", "table", "--json")
    found = json.loads(out)
    assert (code, found["kind"], found["fields"]["VCEK"]["cn"]) == (0, "certificate_table", "SEV-VCEK")
    for name in ("collateral", "collaterals"):
        assert run("show", name) == run("collateral", "show", name)
        assert run("show", name, "--json") == run("collateral", "show", name, "--json")


@pytest.mark.parametrize("option", ["--vcek", "--chain", "--crl"])
@pytest.mark.parametrize("command", ["verify", "policy"])
def test_exit_1_an_empty_file_is_not_one_that_was_not_given(
    run: Run, folder: Path, command: str, option: str
) -> None:
    """The bundle has all three: nothing of it may stand in for what the caller has given."""
    bundle = Bundle((), (chip().certificate,), (read_chain(chip().chain),), (amd().crl(),))
    (folder / "bundle").write_bytes(bundle.dump())
    (folder / "empty").write_bytes(b"")
    given = ("report", "--collateral", "bundle", *AT)
    assert run(command, *given)[0] == 0
    code, out, err = run(command, *given, option, "empty")
    assert (code, out) == (1, "")
    assert err.startswith(f"toposeal: {option}: found no bytes, ")


@pytest.mark.parametrize("arguments", [("report", "--vcek", "empty"), ("gpu", "--chain", "empty")])
def test_exit_1_show_refuses_an_empty_file_too(run: Run, folder: Path, arguments: tuple[str, ...]) -> None:
    (folder / "empty").write_bytes(b"")
    code, out, err = run("show", *arguments)
    assert (code, out) == (1, "")
    assert err.startswith(f"toposeal: {arguments[1]}: found no bytes, ")


def test_exit_2_a_file_that_no_evidence_can_fill(run: Run, folder: Path) -> None:
    (folder / "huge").write_bytes(bytes(MAX_QUOTE_SIZE + 1))
    code, found = verdict(run, "huge")
    assert (code, found["kind"], found["authentic"], found["fields"]) == (2, None, False, {})
    assert "[too_large]" in found["reasons"][0]


@pytest.mark.parametrize(
    "arguments", [("quote", "--vcek", "vcek"), ("quote", "--chain", "chain"), ("quote", "--crl", "crl")]
)
def test_exit_1_a_file_that_the_kind_has_no_use_for(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = run("verify", *arguments, *TDX)
    assert (code, out) == (1, "")
    assert "evidence of kind tdx" in err


def test_C2_what_is_shown_is_safe_for_a_terminal(run: Run, folder: Path) -> None:
    (folder / "report").write_bytes(b"\x1b[2J\n" * 10)
    code, out, err = run("verify", "report")
    assert code == 2
    assert "\x1b" not in out + err
