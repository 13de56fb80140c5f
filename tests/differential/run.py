"""`make differential`: our verdicts beside those of independent verifiers, every disagreement explained.

explained.json says why a verifier may differ on which cases. A disagreement without an entry fails, and so
does an entry that no case needs any more.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "sidecar"), str(ROOT / "tests")]

from differential import peers  # noqa: E402
from differential.cases import Case, all_cases  # noqa: E402
from differential.peers import Verdict  # noqa: E402

from toposeal_lab.measure import machine  # noqa: E402

BUILD = ROOT / "build" / "differential"
EXPLAINED = Path(__file__).with_name("explained.json")


@dataclass(frozen=True)
class Explanation:
    """Why `peer` accepts, or refuses, what we do not."""

    peer: str
    cases: tuple[str, ...]  # shell patterns over names
    theirs: str  # "accepts" or "refuses"
    why: str
    sometimes: bool = False  # it depends on fresh keys whether a case needs it

    def covers(self, verdict: Verdict) -> bool:
        same = (verdict.peer, "accepts" if verdict.accepts else "refuses") == (self.peer, self.theirs)
        return same and any(fnmatchcase(verdict.name, pattern) for pattern in self.cases)


def main() -> int:
    """0 if every disagreement is explained and every explanation is needed, else 1."""
    BUILD.mkdir(parents=True, exist_ok=True)
    cases = all_cases()
    file = BUILD / "cases.json"
    file.write_text(json.dumps([case.dump() for case in cases]))
    ours = {case.name: peers.ours(case) for case in cases}
    theirs = peers.bare_verdicts(cases)
    for name, found in (("Go", peers.go_guests(file, BUILD)), ("Node", peers.npm_library(file, BUILD))):
        if found is None:
            print(f"skipped: no {name} on this machine")
        theirs += found or []
    print(" ".join(f"{name} {value}" for name, value in machine().items()))
    _show_times(cases, ours, theirs)
    return _judge(ours, theirs, read_explanations())


def read_explanations() -> list[Explanation]:
    entries = json.loads(EXPLAINED.read_text())
    return [Explanation(**entry | {"cases": tuple(entry["cases"])}) for entry in entries]


def unneeded(
    explanations: Sequence[Explanation], different: Sequence[Verdict], asked: set[str]
) -> Iterator[Explanation]:
    """Those of verifiers that were asked, and that no disagreement needs."""
    for each in explanations:
        if (
            each.peer in asked
            and not each.sometimes
            and not any(each.covers(verdict) for verdict in different)
        ):
            yield each


def _judge(
    ours: Mapping[str, Verdict], theirs: Sequence[Verdict], explanations: Sequence[Explanation]
) -> int:
    different = [verdict for verdict in theirs if verdict.accepts != ours[verdict.name].accepts]
    unexplained = [v for v in different if not any(each.covers(v) for each in explanations)]
    asked = Counter(verdict.peer for verdict in theirs)
    stale = list(unneeded(explanations, different, set(asked)))
    print(f"\n{'verifier':<18}{'cases':>6}{'agree':>7}{'explained':>11}{'unexplained':>13}")
    for peer, count in asked.items():
        differing = sum(verdict.peer == peer for verdict in different)
        open_ = sum(verdict.peer == peer for verdict in unexplained)
        print(f"{peer:<18}{count:>6}{count - differing:>7}{differing - open_:>11}{open_:>13}")
    for each in explanations:
        count = sum(each.covers(verdict) for verdict in different)
        if count:
            print(f"\n{each.peer} {each.theirs} ({count}): {', '.join(each.cases)}\n  {each.why}")
    for verdict in unexplained:
        told, own = verdict.error or "accepted", ours[verdict.name].error or "accepted"
        print(f"\nUNEXPLAINED {verdict.name}\n  {verdict.peer}: {told}\n  {peers.OURS}: {own}")
    for each in stale:
        print(f"\nNOT NEEDED ANY MORE: {each.peer} {each.theirs} {', '.join(each.cases)}")
    return 1 if unexplained or stale else 0


def _show_times(cases: Sequence[Case], ours: Mapping[str, Verdict], theirs: Sequence[Verdict]) -> None:
    """Microseconds on genuine evidence, each verifier in its own program, with its verdict."""
    for case in cases:
        if not case.rounds:
            continue
        print(f"\n{case.name}")
        for verdict in (ours[case.name], *(each for each in theirs if each.name == case.name)):
            told = verdict.error[:70] or "accepted"
            print(f"  {verdict.peer:<18}{verdict.microseconds:>8.0f} us  {told}")


if __name__ == "__main__":
    sys.exit(main())
