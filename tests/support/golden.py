"""Writes envoy/ anew from the renderer, the closed state as Envoy is sent it, and the verifier's page.

`python tests/support/golden.py`; the difference is for a reviewer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ROLES = ("web", "api", "db")
REPORT = ROOT / "docs" / "examples" / "verify.html"
REPORTED: dict[str, dict[str, Any]] = {
    "web": {"calls": [{"role": "api", "port": 8080}]},
    "api": {"calls": [{"role": "api", "port": 8080}, {"role": "db", "port": 8080}]},
    "db": {"egress": [{"host": "backup.example.com", "port": 443}]},
}
CLOSED_MODULE = ROOT / "sidecar" / "toposeal" / "_wire" / "closed.py"


def golden_files() -> dict[str, bytes]:
    """Path below envoy/ to bytes: the closed files, the shop's as each role opens, and the rest of what a
    role can have: egress, probes, HTTP, PROXY headers.
    """
    from support.shop import headers_view, outside_view, requests_view, view
    from toposeal.dataplane.envoy_closed import closed
    from toposeal.dataplane.envoy_readable import opened
    from toposeal.dataplane.layout import ENVOY_LAYOUT

    files = {f"closed/{name}": data for name, data in closed(ENVOY_LAYOUT).items()}
    for role in ROLES:
        files |= {f"shop-{role}/{name}": data for name, data in opened(view(role), ENVOY_LAYOUT).items()}
    others = {
        "outside-web": outside_view(),
        "requests-api": requests_view(),
        "headers-api": headers_view(),
    }
    for place, seen in others.items():
        files |= {f"{place}/{name}": data for name, data in opened(seen, ENVOY_LAYOUT).items()}
    return files


def report_page() -> bytes:
    """What `toposeal verify --html` writes of the shop, one member of which was asked."""
    from support.meshes import NOW, build_mesh
    from toposeal.outside.page import page
    from toposeal.outside.verdict import Verdict
    from toposeal.outside.verify import verify_document

    mesh = build_mesh(role_fields=lambda role: REPORTED[role])
    return page(Verdict(verify_document(mesh.document(answering=3), mesh.request())), NOW)


def closed_module() -> str:
    """The closed state as Envoy is sent it, from how it is said for people: the source of a module."""
    from envoy_data_plane.envoy.config.cluster.v3 import Cluster
    from envoy_data_plane.envoy.config.listener.v3 import Listener

    from toposeal.dataplane import envoy_readable  # noqa: F401 - registers types
    from toposeal.dataplane.envoy_closed import blackhole_cluster, closed_listeners

    clusters, listeners = [blackhole_cluster()], closed_listeners()
    return (
        '"""The closed state, encoded: tests/support/golden.py wrote it from dataplane/envoy_closed.py."""\n'
        + _literal("CLUSTERS", {value["name"]: bytes(Cluster.from_dict(value)) for value in clusters})
        + _literal("LISTENERS", {value["name"]: bytes(Listener.from_dict(value)) for value in listeners})
    )


def _literal(name: str, values: Mapping[str, bytes]) -> str:
    lines = [f"\n{name} = {{\n"]
    for key, data in values.items():
        lines.append(f'    "{key}": (\n')
        lines += [f"        {data[at : at + 64]!r}\n" for at in range(0, len(data), 64)]
        lines.append("    ),\n")
    return "".join((*lines, "}\n"))


def write_golden_files() -> None:
    for name, data in golden_files().items():
        path = ROOT / "envoy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    REPORT.write_bytes(report_page())


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests"))
    if CLOSED_MODULE.read_text() != (text := closed_module()):
        CLOSED_MODULE.write_text(text)
        os.execv(sys.executable, sys.orig_argv)  # what is rendered follows from it
    write_golden_files()
