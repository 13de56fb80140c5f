"""The documentation shows the help that the commands print, and help is instant."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```text\n(usage: (toposeal(?:-lab)?(?: [a-z]+)*) .*?)^```$", re.MULTILINE | re.DOTALL)


def shown() -> Iterator[tuple[str, str, str]]:
    """Page, command and text of every help block."""
    for page in PAGES:
        for match in _BLOCK.finditer(page.read_text()):
            yield str(page.relative_to(ROOT)), match.group(2), match.group(1)


def printed(*command: str) -> str:
    package, *words = command
    module = {"toposeal": "toposeal", "toposeal-lab": "toposeal_lab"}[package]
    done = subprocess.run(
        [sys.executable, "-Im", module, *words, "--help"], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_readme_shows_help() -> None:
    assert {command for page, command, _ in shown() if page == "README.md"} >= {"toposeal"}


@pytest.mark.parametrize(("page", "command", "text"), list(shown()))
def test_documented_help_is_what_is_printed(page: str, command: str, text: str) -> None:
    # Line breaks are the terminal's.
    assert text.split() == printed(*command.split()).split(), f"{page}: {command} --help"


def test_every_command_in_the_readme_exists() -> None:
    commands = re.findall(
        r"^(?:\$ )?(toposeal(?:-lab)?) ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    assert commands
    for program, command in commands:
        assert command in printed(program), f"{program} {command}"


def test_help_is_instant() -> None:
    printed("toposeal")  # whatever is compiled once
    fastest = 1.0
    for _ in range(8):
        before = _cpu_of_children()
        printed("toposeal", "verify")
        fastest = min(fastest, _cpu_of_children() - before)
    assert fastest < 0.15  # 0.09 s is usual; what checks evidence takes 0.3 s to load


def _cpu_of_children() -> float:
    """Seconds: unlike the clock's, what else the machine does is not in them."""
    spent = os.times()
    return spent.children_user + spent.children_system
