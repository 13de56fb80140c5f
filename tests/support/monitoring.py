"""What docs/examples/prometheus asks for: every query with the place it stands in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples" / "prometheus"
RULES = EXAMPLES / "alerts.yml"


def panels() -> list[dict[str, Any]]:
    """Of the dashboard, as Grafana reads them."""
    found: list[dict[str, Any]] = dashboard()["panels"]
    return found


def dashboard() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((EXAMPLES / "dashboard.json").read_text())
    return read


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def drawn() -> Iterator[tuple[str, str]]:
    """Title of the panel and query, for each query of the dashboard."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def asked() -> Iterator[tuple[str, str]]:
    """The same for both files."""
    yield from drawn()
    yield from ((rule["alert"], rule["expr"]) for rule in alerts())
