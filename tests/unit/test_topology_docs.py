"""docs/topology.md says what the schema does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toposeal.topology.model import Timers
from toposeal.topology.parse import TOPOLOGY
from toposeal.topology.schema import ListOf, MapOf, Object, OrAny, join

PAGE = Path(__file__).parents[2] / "docs" / "topology.md"


def _rows(rule: Any, path: str = "", required: bool = True) -> Iterator[tuple[str, str, str]]:
    if path:
        default = f", default {getattr(Timers(), path[7:])}" if path.startswith("timers.") else ""
        yield f"`{path}`", "yes" if required else "no", rule.expected + default
    if isinstance(rule, OrAny):
        rule = rule.rule
    if isinstance(rule, Object):
        for name, inner in rule.fields.items():
            yield from _rows(inner, join(path, name), name not in rule.optional)
    elif isinstance(rule, MapOf):
        yield from _rows(rule.rule, f"{path}.<name>")
    elif isinstance(rule, ListOf):
        yield from _rows(rule.rule, f"{path}[]")


def test_the_table_of_fields_is_the_schema() -> None:
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert [tuple(row[:3]) for row in rows] == list(_rows(TOPOLOGY))
    assert all(len(row) == 4 and len(row[3]) > 4 for row in rows)
