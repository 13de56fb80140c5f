"""docs/evidence.md on genuine evidence: what it shows is what comes of its commands.

What a vendor's service answers, and manifests that fit a GPU's report, are simulated, in
tests/unit/test_evidence_page.py.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from support.pages import followed, missing

from toposeal.cli.main import entry

# By the beginning of a command, what the files of its name are here.
GENOA = {"report.bin": "snp/v3-genoa/report.bin", "vcek.der": "snp/v3-genoa/vcek.der"}
FILES = {
    "toposeal evidence show report.bin": GENOA,
    "toposeal evidence verify report.bin --vcek": GENOA,
    "toposeal evidence policy report.bin": GENOA,
    "toposeal evidence show ccel_data.bin": {"ccel_data.bin": "tdx/v4-gcp-cos113-ccel/ccel_data.bin"},
}
SIMULATED = ("bundle.json", "--rim")
COMMANDS = [
    each for each in followed("docs/evidence.md") if not any(word in each.command for word in SIMULATED)
]


def test_none_is_left_out() -> None:
    assert len(COMMANDS) == len(FILES)


@pytest.mark.parametrize("beginning", FILES)
def test_what_is_shown_is_what_comes(
    shared_vectors: Path,
    beginning: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, place in FILES[beginning].items():
        (tmp_path / name).write_bytes((shared_vectors / place).read_bytes())
    authorities = [(shared_vectors / f"snp/amd/genoa/{name}.pem").read_bytes() for name in ("ask", "ark")]
    (tmp_path / "chain.pem").write_bytes(b"".join(authorities))
    monkeypatch.chdir(tmp_path)
    (each,) = (found for found in COMMANDS if found.command.startswith(beginning))
    program, *arguments = shlex.split(each.command.partition(">")[0])
    code = entry(arguments)
    said = capsys.readouterr()
    printed = said.err if ">" in each.command else said.out
    assert (program, code, missing(each.lines, printed)) == ("toposeal", 0, []), printed
    if ">" in each.command:
        json.loads(said.out)
