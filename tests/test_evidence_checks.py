"""docs/evidence-checks.md names functions and tests that exist, and no line of it stands there twice."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "evidence-checks.md").read_text()
_TEST = re.compile(r"`([a-z_/0-9]+\.py)::([A-Za-z0-9_]+)`")
_FUNCTION = re.compile(r"`([a-z0-9_.]+):([a-z0-9_]+)`")
SECTIONS = {  # rows at least: what was once shown stays shown
    "TDX": 24,
    "SNP": 24,
    "GPU": 21,
    "What dcap-qvl leaves to its caller": 16,
    "The negative tests of other verifiers": 66,
    "Known flaws and attacks, and what holds against each": 31,
}


def rows() -> Iterator[tuple[str, str]]:
    """Section and line of every row."""
    section = ""
    for line in PAGE.splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif line.startswith("| ") and not line.startswith(
            ("| check |", "| whose |", "| left to", "| what |")
        ):
            yield section, line


@cache
def functions(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize(("file", "name"), sorted(set(_TEST.findall(PAGE))))
def test_every_test_exists(file: str, name: str) -> None:
    assert name in functions(ROOT / "tests" / file)


@pytest.mark.parametrize(("module", "name"), sorted(set(_FUNCTION.findall(PAGE))))
def test_every_function_exists(module: str, name: str) -> None:
    path = ROOT / "sidecar" / "toposeal" / Path(*module.split(".")).with_suffix(".py")
    assert name in functions(path)


def test_every_row_names_what_shows_it() -> None:
    assert [line for _, line in rows() if not _TEST.search(line)] == []
    assert [
        line for section, line in rows() if section in ("TDX", "SNP") and not _FUNCTION.search(line)
    ] == []


def test_no_section_shrinks_and_no_row_stands_twice() -> None:
    found = list(rows())
    assert len(found) == len(set(found))
    for section, least in SECTIONS.items():
        assert sum(each == section for each, _ in found) >= least, section


def test_the_new_negative_tests_are_all_on_the_page() -> None:
    """A test that was written for the page and that the page does not name was written for nothing."""
    controls = {"test_the_positive_control_of_the_leaves_below"}
    for file in ("unit/test_negative_tdx.py", "unit/test_negative_snp.py"):
        tests = {each for each in functions(ROOT / "tests" / file) if each.startswith("test_")}
        named = {name for where, name in _TEST.findall(PAGE) if where == file}
        assert tests - named - controls <= {
            "test_a_certificate_that_names_two_subjects_is_none",
            "test_a_report_without_mitigations_meets_no_demand_for_them",
        }
