"""The verdicts and times of every verifier on every case. Programs of other languages are built in build/."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import dcap_qvl  # type: ignore[import-untyped]
from differential.cases import Case

from toposeal.evidence.kind import EvidenceKind

HERE = Path(__file__).resolve().parent
OURS = "toposeal"
_BUILD_LIMIT_S = 900  # modules are fetched once


@dataclass(frozen=True)
class Verdict:
    """What one verifier says of one case: accepted exactly if `error` is empty."""

    name: str
    peer: str
    error: str
    microseconds: float  # median; 0 where none was measured

    @property
    def accepts(self) -> bool:
        return not self.error


def ours(case: Case) -> Verdict:
    """Accepted is acceptable: authentic, and admitted by the policy."""
    reasons = " ".join(dict.fromkeys(str(each.reason) for each in case.verify().reasons()))
    return Verdict(case.name, OURS, reasons, _median(case, case.verify))


def bare_library(case: Case) -> Verdict:
    """dcap-qvl without our checks; what it returns instead of refusing counts as it does for the others."""
    collateral = dcap_qvl.QuoteCollateralV3.from_json(case.collateral.decode())

    def verify() -> str:
        try:
            report = dcap_qvl.verify_with_root_ca(case.evidence, collateral, case.root, case.now)
        except ValueError as refusal:
            return str(refusal)
        good = report.status == "UpToDate" and not report.advisory_ids
        return "" if good else f"status {report.status} {','.join(report.advisory_ids)}"

    return Verdict(case.name, "dcap-qvl", verify(), _median(case, verify))


def go_guests(cases: Path, build: Path) -> list[Verdict] | None:
    """go-tdx-guest and go-sev-guest; None where there is no Go."""
    go = shutil.which("go")
    if go is None:
        return None
    program = build / "go-guests"
    _run([go, "build", "-C", str(HERE / "go"), "-mod=readonly", "-o", str(program), "."])
    return _read(_run([str(program), str(cases)]))


def npm_library(cases: Path, build: Path) -> list[Verdict] | None:
    """@phala/dcap-qvl; None where there is no Node."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    folder = build / "npm"
    shutil.copytree(HERE / "npm", folder, dirs_exist_ok=True)
    _run([npm, "ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)])
    return _read(_run([node, str(folder / "verify.js"), str(cases)]))


def bare_verdicts(cases: Sequence[Case]) -> list[Verdict]:
    return [bare_library(case) for case in cases if case.kind is EvidenceKind.TDX]


def _median(case: Case, work: Callable[[], object]) -> float:
    took = [_once(work) for _ in range(case.rounds)]
    return statistics.median(took) if took else 0.0


def _once(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return 1e6 * (time.perf_counter() - started)


def _run(command: list[str]) -> bytes:
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=_BUILD_LIMIT_S)
    return done.stdout


def _read(output: bytes) -> list[Verdict]:
    return [Verdict(**each) for each in json.loads(output)]
