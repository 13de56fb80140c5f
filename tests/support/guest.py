"""The guest image's lockdown as its own script installs it, and the commands that its unit would run."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GUEST = ROOT / "images" / "guest"
UNITS, RULES = "usr/lib/systemd/system", "usr/lib/toposeal"
KINDS = ("nft", "legacy")


def settings(path: Path) -> dict[str, list[str]]:
    """What a unit file sets; each name occurs in one section alone."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if not line.startswith(("#", "[")) and line:
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def install(root: Path, kind: str, *services: str) -> Path:
    subprocess.run([str(GUEST / "install"), str(root), kind, *services], check=True)
    return root


def commands(root: Path) -> list[list[str]]:
    """Each ExecStart, with the files of `root`."""
    lines = settings(root / UNITS / "toposeal-lockdown.service")["ExecStart"]
    return [line.replace(f"/{RULES}/", f"{root}/{RULES}/").split() for line in lines]
