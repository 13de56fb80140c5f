"""docs/topology.md says what the schema does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toposeal.topology.author import compile_yaml
from toposeal.topology.model import InstanceRegister, Timers
from toposeal.topology.parse import TOPOLOGY, parse_topology
from toposeal.topology.schema import Either, ListOf, MapOf, Object, OrAny, join

PAGE = Path(__file__).parents[2] / "docs" / "topology.md"
EXAMPLE = PAGE.parent / "examples" / "shop" / "topology.yaml"


def _rows(rule: Any, path: str = "", required: bool = True) -> Iterator[tuple[str, str, str]]:
    if path:
        default = f", default {getattr(Timers(), path[7:])}" if path.startswith("timers.") else ""
        yield f"`{path}`", "yes" if required else "no", rule.expected + default
    yield from _inside(rule, path)


def _inside(rule: Any, path: str) -> Iterator[tuple[str, str, str]]:
    """Rows of what `rule` contains."""
    if isinstance(rule, OrAny):
        yield from _inside(rule.rule, path)
    elif isinstance(rule, Either):
        for choice in rule.rules:
            yield from _inside(choice, path)
    elif isinstance(rule, Object):
        yield from _fields(rule, path)
    elif isinstance(rule, MapOf):
        yield from _rows(rule.rule, f"{path}.<name>")
    elif isinstance(rule, ListOf):
        yield from _rows(rule.rule, f"{path}[]")


def _fields(rule: Object[Any], path: str) -> Iterator[tuple[str, str, str]]:
    """What has the same fields as a neighbour before it has one row alone."""
    spelled_out: list[Any] = []
    for name, inner in rule.fields.items():
        rows = list(_rows(inner, join(path, name), name not in rule.optional))
        yield from rows[:1] if inner in spelled_out and isinstance(inner, Object) else rows
        spelled_out.append(inner)


def test_the_table_of_fields_is_the_schema() -> None:
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert [tuple(row[:3]) for row in rows] == list(_rows(TOPOLOGY))
    assert all(len(row) == 4 and len(row[3]) > 4 for row in rows)


def test_the_fragment_of_the_page_completes_the_example() -> None:
    fragment = re.search(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert fragment is not None
    policy, roles = fragment[1].split("\nroles:\n")
    text = EXAMPLE.read_text().replace("\nroles:\n", f"\n{policy}\nroles:\n") + "\n" + roles
    topology = parse_topology(compile_yaml(text.encode(), bytes(48)))
    assert sorted(topology.roles) == ["api", "cache", "db", "model", "web"]
    assert topology.snp is not None and sorted(topology.snp.products) == ["Genoa", "Turin"]
    assert (topology.roles["cache"].tdx, len(topology.roles["model"].tdx)) == ((), 1)
    assert isinstance(topology.roles["model"].tdx[0].rtmr3, InstanceRegister)
    assert topology.roles["model"].gpus is not None
