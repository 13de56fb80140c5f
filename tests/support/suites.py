"""The table of known deviations in docs/x509-suites.md, which is what the tests of K5 compare with."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "x509-suites.md"
_ROW = re.compile(r"\| (?P<who>[^|]+) \| (?P<cases>`[^|]+) \| (?P<why>[^|]+) \|")


def deviations(who: str) -> frozenset[str]:
    """The cases of the suite that `who` accepts and the suite does not."""
    return _table().get(who, frozenset())


def everybody() -> frozenset[str]:
    """Whoever is in the table."""
    return frozenset(_table())


@cache
def _table() -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for row in _ROW.finditer(PAGE.read_text()):
        if not row["why"].strip():
            raise ValueError(f"nobody has reviewed {row['cases']}")
        for who in row["who"].split(", "):
            found[who] = found.get(who, frozenset()).union(re.findall("`([^`]+)`", row["cases"]))
    return found
