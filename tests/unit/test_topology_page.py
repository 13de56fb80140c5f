"""Every command of docs/topology.md, run in its order."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from support.pages import ROOT, followed, missing

EXAMPLE = ROOT / "docs" / "examples" / "shop" / "topology.yaml"


def test_every_command_of_the_page_does_what_it_says(tmp_path: Path) -> None:
    """One owner in a folder, and two owners in another."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        shutil.copy(EXAMPLE, folder / "topology.yaml")
    commands = followed("docs/topology.md")
    assert len(commands) == 8
    for each in commands:
        folder = two if "alice" in each.command or "bob" in each.command else one
        done = subprocess.run(
            each.command, shell=True, cwd=folder, env=environment, capture_output=True, text=True
        )
        absent = missing(each.lines, done.stdout)
        assert (done.returncode, absent) == (0, []), f"{each.command}\n{done.stdout}{done.stderr}"
    assert {path.name for path in one.iterdir()} == {
        "topology.yaml", "owner.key", "owner.key.pub", "owner.json", "topology.dsse",
    }  # fmt: skip
