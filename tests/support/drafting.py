"""Manifests as tests draft topologies from them, and drafts completed as their owner would.

`python tests/support/drafting.py` writes the golden draft anew; the diff is for a reviewer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from toposeal.kubernetes.draft import Draft, draft
from toposeal.kubernetes.draft_text import FILL_IN, render
from toposeal.kubernetes.manifest import read

ROOT = Path(__file__).resolve().parents[2]
SHOP = ROOT / "docs" / "examples" / "shop"
CLUSTER = (ROOT / "tests" / "kubernetes" / "cluster.yaml").read_text()
GOLDEN = ROOT / "tests" / "kubernetes" / "drafted.yaml"
_ROLE = re.compile(r"  ([a-z0-9-]+|\"[^\"]*\"):")
_BLANK = re.compile(rf"([a-z0-9_]+): {FILL_IN}")


def drafted(*texts: str, kind: str = "tdx") -> Draft:
    return draft([document for text in texts for document in read(text)], "shop", kind)


def written(*texts: str, kind: str = "tdx") -> str:
    return render(drafted(*texts, kind=kind))


def completed(text: str, value: Callable[[str, str], Any], but: int | None = None) -> str:
    """`text` with `value` of role (empty outside of one) and field in place of each blank but one."""
    role, lines, place = "", list[str](), count()

    def put(found: re.Match[str]) -> str:
        return found[0] if next(place) == but else f"{found[1]}: {json.dumps(value(role, found[1]))}"

    for line in text.splitlines():
        told, mark, comment = line.partition("#")
        begun = _ROLE.fullmatch(told)
        role = json.loads(begun[1]) if begun and '"' in begun[1] else begun[1] if begun else role
        lines.append(_BLANK.sub(put, told) + mark + comment)
    return "\n".join(lines) + "\n"


def by_example(role: str, name: str) -> Any:
    """What the owner of the example has decided."""
    example = _example()
    told = {"issued_at": "2026-01-01T00:00:00Z", "port": 8443, **example["tdx"]}
    if role in example["roles"]:
        told |= {"platforms": "any", **example["roles"][role]["tdx"][0]}
    return told[name]


@cache
def _example() -> Any:
    return yaml.safe_load((SHOP / "topology.yaml").read_text())


def by_anybody(role: str, name: str) -> Any:
    """Something that is accepted, another reference for each role."""
    told = by_example("web", name) if name not in ("min", "max", "cidr", "mrtd") else None
    return {"min": 1, "max": 3, "cidr": "198.51.100.0/24", "mrtd": role.encode().hex().ljust(96, "0")}.get(
        name, told
    )


if __name__ == "__main__":
    GOLDEN.write_text(written(CLUSTER))
