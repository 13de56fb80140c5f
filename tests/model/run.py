"""`make model`: Spin over model/*.pml; fails on any property that should hold and does not, or the reverse.

usage: run.py [--fast | --deep] [--jobs N] [WORD ...]      only cases whose name contains one of the words
A counterexample is written to build/model/<case>.txt, one step a line.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests")]

from model.cases import CASES, Case  # noqa: E402

BUILD = ROOT / "build" / "model"
MEMORY_MIB, DEPTH, SECONDS = 6000, 100_000, 1200
# A shortest counterexample needs breadth-first search; a complete search is faster depth-first. Where a
# counterexample is near, the compiler's optimisation takes longer than the search.
_SEARCH = {True: ("-DBFS",), False: ()}
_COMPILE = ("-w", "-DVECTORSZ=512", f"-DMEMLIM={MEMORY_MIB}")
_CUT_SHORT = re.compile(r"Search not completed|MEMLIM bound|max search depth too small")
_COUNT = re.compile(r"^\s*(\d+) states, stored", re.MULTILINE)
_DEPTH = re.compile(r"depth reached (\d+), errors: (\d+)")
_STEP = re.compile(r"^\s*((?:MANIFEST|FAULT|VIOLATION|END|SEALED|member|a tick)\b(?!s|\[).*)", re.MULTILINE)
_SETS = re.compile(r"^(MANIFEST .* members )(\d+)(.*)$")


@dataclass(frozen=True)
class Outcome:
    """What one search found: `broken` names the property, "" if none; `trail` is its counterexample."""

    case: Case
    broken: str
    states: int
    depth: int
    seconds: float
    trail: tuple[str, ...] = ()
    trouble: str = ""

    @property
    def expected(self) -> bool:
        return not self.trouble and self.broken == self.case.breaks


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if every case ends as its line in cases.py says, 1 if not, 2 without Spin or a compiler."""
    options = _options(arguments)
    missing = [tool for tool in ("spin", "gcc") if shutil.which(tool) is None]
    if missing:
        print(f"missing: {' '.join(missing)}; as root run .ci/prepare model, or install spin and gcc")
        return 2
    cases = [case for case in CASES if _wanted(case, options)]
    with ThreadPoolExecutor(options.jobs) as pool:
        outcomes = list(pool.map(_announced, cases))
    print(table(outcomes))
    wrong = [outcome for outcome in outcomes if not outcome.expected]
    for outcome in wrong:
        print("\n".join((f"\nunexpected: {outcome.case.name} {outcome.trouble}", *outcome.trail)))
    return 1 if wrong or not outcomes else 0


def table(outcomes: Iterable[Outcome]) -> str:
    """One line per case: what must happen, what happened, how much was searched."""
    lines = [f"{'case':<48} {'must':<10} {'found':<10} {'states':>10} {'depth':>6} {'seconds':>8}"]
    for each in outcomes:
        found = each.trouble or _word(each.broken)
        mark = "" if each.expected else "  <-- UNEXPECTED"
        lines.append(
            f"{each.case.name:<48} {_word(each.case.breaks):<10} {found:<10}"
            f" {each.states:>10} {each.depth:>6} {each.seconds:>8.1f}{mark}"
        )
    return "\n".join(lines)


def run(case: Case) -> Outcome:
    """Translate, compile and search one case in a folder of its own."""
    folder = BUILD / re.sub(r"[^a-z0-9]+", "-", case.name.lower()).strip("-")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "model" / case.model, folder)
    defines = [f"-D{word}" for word in case.defines.split()]
    _call(folder, "spin", "-a", *defines, case.model)
    cycles = "CYCLES" in case.defines
    near = bool(case.breaks) and case.size == "small"
    search = ("-DNP", "-DNOFAIR") if cycles else ("-DSAFETY", *_SEARCH[bool(case.breaks)])
    _call(folder, "gcc", "-O0" if near else "-O1", *_COMPILE, *search, "-o", "pan", "pan.c")
    start = time.monotonic()
    printed = _call(folder, "./pan", "-E", f"-m{DEPTH}", *(("-l",) if cycles else ()))
    seconds = time.monotonic() - start
    trail: tuple[str, ...] = ()
    if any(folder.glob("*.trail")):
        trail = tuple(read_trail(_call(folder, "spin", "-t", "-T", *defines, case.model)))
        folder.with_suffix(".txt").write_text("\n".join((case.name, *trail, "")))
    shutil.rmtree(folder)
    return read_search(case, printed, trail, seconds)


def read_search(case: Case, printed: str, trail: tuple[str, ...], seconds: float) -> Outcome:
    """What pan printed. A search that was cut short by a bound is trouble, never a pass."""
    states, depth = _COUNT.search(printed), _DEPTH.search(printed)
    if states is None or depth is None:
        return Outcome(case, "", 0, 0, seconds, trail, "no result")
    trouble = ""
    if int(depth[2]) == 0 and re.search(
        r"Search not completed|MEMLIM bound|max search depth too small", printed
    ):
        trouble = "incomplete"
    broken = ""
    if int(depth[2]):
        violations = [line.split()[1] for line in trail if line.startswith("VIOLATION")]
        broken = violations[0] if violations else "bound"
    return Outcome(case, broken, int(states[1]), int(depth[1]), seconds, trail, trouble)


def read_trail(printed: str) -> Iterable[str]:
    """The model's own lines of a replayed counterexample, sets of members spelled out."""
    for step in _STEP.findall(printed):
        line = _SETS.match(step.rstrip())
        if line is None:
            yield step.rstrip()
        else:
            members = [str(i) for i in range(8) if int(line[2]) >> i & 1]
            yield f"{line[1]}{{{','.join(members)}}}{line[3]}"


def _announced(case: Case) -> Outcome:
    outcome = run(case)
    print(f"{'ok' if outcome.expected else 'NO':<3}{case.name} ({outcome.seconds:.1f} s)", flush=True)
    return outcome


def _word(broken: str) -> str:
    return f"breaks {broken}" if broken else "holds"


def _wanted(case: Case, options: argparse.Namespace) -> bool:
    if options.words:
        return any(word in case.name for word in options.words)
    return case.size == "small" or (case.size == "" and not options.fast) or options.deep


def _call(folder: Path, *command: str) -> str:
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS
    )
    if done.returncode and command[0] != "./pan":
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}")
    return done.stdout


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--deep", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("words", nargs="*")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
