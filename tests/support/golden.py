"""Writes envoy/ anew from the renderer: `python tests/support/golden.py`; the diff is for a reviewer."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROLES = ("web", "api", "db")


def golden_files() -> dict[str, bytes]:
    """Path below envoy/ to bytes: the closed files, the shop's as each role opens, egress and probes."""
    from support.shop import outside_view, view
    from toposeal.dataplane.envoy_closed import closed
    from toposeal.dataplane.envoy_open import opened
    from toposeal.dataplane.layout import ENVOY_LAYOUT

    files = {f"closed/{name}": data for name, data in closed(ENVOY_LAYOUT).items()}
    for role in ROLES:
        files |= {f"shop-{role}/{name}": data for name, data in opened(view(role), ENVOY_LAYOUT).items()}
    outside = opened(outside_view(), ENVOY_LAYOUT)
    return files | {f"outside-web/{name}": data for name, data in outside.items()}


def write_golden_files() -> None:
    for name, data in golden_files().items():
        path = ROOT / "envoy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests"))
    write_golden_files()
