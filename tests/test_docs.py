"""Documentation points at things that exist: links, files, documents that the code cites."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("proto/*.md"), *ROOT.glob("model/*.md")]
)
SOURCES = (
    "sidecar",
    "tests",
    "proto",
    "iptables",
    "envoy",
    "images",
    ".ci",
    "Makefile",
    "docker-compose.yml",
)
_LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")
_DOCUMENT = re.compile(r"\b[A-Z][A-Z_-]+\.md\b")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = [link for link in _LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert broken == []


def test_documents_that_the_code_cites_exist() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", *SOURCES], cwd=ROOT, capture_output=True, text=True, check=True
    )
    known = {page.name for page in PAGES}
    missing = set()
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and path.suffix not in {".bin", ".der"}:
            cited = _DOCUMENT.findall(path.read_text(errors="replace"))
            missing |= {f"{name}: {document}" for document in cited if document not in known}
    assert missing == set()


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = [int(path.name[:4]) for path in sorted((ROOT / "docs" / "adr").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))
