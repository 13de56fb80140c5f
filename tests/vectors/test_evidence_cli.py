"""`toposeal evidence verify --json` says of every genuine vector what its manifest says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from toposeal.cli.main import entry

TDX = (
    ("v4-phala-b0c06f", "collateral-2025-06.json"),
    ("v4-phala-b0c06f", "collateral-2026-10.json"),
    ("v4-gcp-00806f", "collateral-2026-01.json"),
    ("v4-spr-e4-unsupported-tcb", "collateral-2023-06.json"),
    ("v4-gcp-cos113-ccel", "collateral-2025-07.json"),
    ("v4-gcp-cos113-ccel", "collateral-2026-01.json"),
)
WITHOUT_COLLATERAL = "v4-dstack-rtmr3-log"
SNP = ("v2-milan", "v2-milan-debug-policy", "v3-genoa")
# Its publisher marked this one with a line of text after the end.
MARKED = "v4-spr-e4-unsupported-tcb"


@dataclass(frozen=True)
class Command:
    """The command under the production roots, with the manifest's entries by name."""

    folder: Path
    entries: dict[str, dict[str, Any]]
    scratch: Path
    capture: pytest.CaptureFixture[str]

    def file(self, name: str, part: str) -> str:
        entry = self.entries[name]
        return str(self.folder / entry["dir"] / entry.get(part, part))

    def chain(self, name: str) -> str:
        files = [part.removeprefix("shared:") for part in self.entries[name]["chain"]]
        path = self.scratch / f"{name}.pem"
        path.write_bytes(b"".join((self.folder / file).read_bytes() for file in files))
        return str(path)

    def verify(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        code = entry(["evidence", "verify", *arguments, "--json"])
        found: dict[str, Any] = json.loads(self.capture.readouterr().out)
        assert found["acceptable"] == (not found["reasons"]) == (code == 0)
        return code, found


@pytest.fixture
def command(shared_vectors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    entries = json.loads((shared_vectors / "manifest.json").read_text())
    return Command(shared_vectors, {each["name"]: each for each in entries}, tmp_path, capsys)


def codes(found: dict[str, Any]) -> set[str]:
    """The reasons' own words, `[...]` at their ends."""
    return {reason.rsplit("[", 1)[1].rstrip("]") for reason in found["reasons"]}


def test_every_vector_is_tested(command: Command) -> None:
    tested = {name for name, _ in TDX} | {WITHOUT_COLLATERAL, *SNP, "hopper-h100"}
    assert tested == set(command.entries)


@pytest.mark.parametrize(("name", "collateral"), TDX)
@pytest.mark.parametrize("as_text", [False, True])
def test_tdx(command: Command, name: str, collateral: str, as_text: bool) -> None:
    wanted = next(each for each in command.entries[name]["verdicts"] if each["collateral"] == collateral)
    moment = wanted["reference_time_iso"] if as_text else str(wanted["reference_time"])
    files = (command.file(name, "quote"), "--collateral", command.file(name, collateral))
    code, found = command.verify(*files, "--at", moment)
    assert found["kind"] == "tdx"
    assert found["fields"] == command.entries[name]["expected_fields"]
    assert found["authentic"] == (wanted["verdict"] == "accept")
    if name == MARKED:
        assert (code, codes(found)) == (2, {"quote_trailing"})
        return
    assert found["tcb_status"] == wanted["tcb_status"]
    assert found["advisories"] == wanted["advisory_ids"]
    up_to_date = wanted["tcb_status"] == "UpToDate"
    assert (code, codes(found)) == ((0, set()) if up_to_date else (4, {"tcb_status", "tcb_advisory"}))


def test_tdx_without_a_matching_tcb_level_is_not_authentic(command: Command) -> None:
    quote = command.scratch / "quote.bin"
    quote.write_bytes(Path(command.file(MARKED, "quote")).read_bytes()[:-39])
    collateral = command.file(MARKED, "collateral-2023-06.json")
    code, found = command.verify(str(quote), "--collateral", collateral, "--at", "1687939438")
    assert (code, found["authentic"]) == (2, False)
    assert "tcb_status" in codes(found)


def test_tdx_without_collateral_is_not_authentic(command: Command) -> None:
    code, found = command.verify(command.file(WITHOUT_COLLATERAL, "quote"))
    assert (code, found["authentic"], codes(found)) == (2, False, {"collateral_missing"})
    assert found["fields"] == command.entries[WITHOUT_COLLATERAL]["expected_fields"]


@pytest.mark.parametrize("name", SNP)
def test_snp(command: Command, name: str) -> None:
    """All are authentic. The strict default knows no Milan, and two hosts are older than BadRAM."""
    wanted = command.entries[name]
    files = (
        command.file(name, "report"),
        "--vcek",
        command.file(name, "leaf"),
        "--chain",
        command.chain(name),
    )
    code, found = command.verify(*files, "--at", wanted["reference_time_iso"])
    assert (found["kind"], found["authentic"], found["tcb_status"]) == ("snp", True, None)
    assert found["fields"] == wanted["expected_fields"]
    reasons = {"product_refused", "platform_info"} if wanted["product"] == "milan" else set()
    if wanted["verdict"].startswith("reject"):
        reasons.add("guest_debug")
    assert (code, codes(found)) == (4 if reasons else 0, reasons)


def test_gpu(command: Command) -> None:
    wanted = command.entries["hopper-h100"]
    report = command.file("hopper-h100", "report.bin")
    files = (report, "--chain", command.file("hopper-h100", "certchain.pem"))
    moment = wanted["reference_time_iso"].split()[0]
    for nonce in ((), ("--nonce", wanted["expected_fields"]["nonce"])):
        code, found = command.verify(*files, "--at", moment, *nonce)
        assert (code, found["kind"], found["authentic"]) == (0, "gpu", True)
        assert found["fields"] == wanted["expected_fields"]
    code, found = command.verify(*files, "--at", moment, "--nonce", "00" * 32)
    assert (code, found["authentic"], codes(found)) == (2, True, {"nonce_mismatch"})
    code, found = command.verify(report)
    assert (code, found["authentic"], codes(found)) == (2, False, {"collateral_missing"})


def test_the_example_of_the_page_is_what_is_printed(command: Command) -> None:
    """docs/evidence.md shows v3-genoa."""
    page = (Path(__file__).parents[2] / "docs" / "evidence.md").read_text()
    name = "v3-genoa"
    vcek = ("--vcek", command.file(name, "leaf"))
    assert entry(["evidence", "show", command.file(name, "report"), *vcek]) == 0
    shown = command.capture.readouterr().out.splitlines()
    console = page.split("```console\n")[1].split("```")[0].split("$ ")
    assert [line for line in console[1].splitlines()[1:] if line != "..." and line not in shown] == []
    verify = ["evidence", "verify", command.file(name, "report"), *vcek, "--chain", command.chain(name)]
    assert entry([*verify, "--at", console[2].split("--at ")[1].split()[0]]) == 0
    assert command.capture.readouterr().out.splitlines() == console[2].splitlines()[1:]
