"""Every call of ours on every page is one that our parsers take. What a call does is other tests' to say.

Calls are parsed and not run here; tests/compose/test_tutorial.py runs those of the tutorial.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.pages import ROOT, calls, matches, missing, shown

from toposeal.cli import main
from toposeal_lab import cli

PARSERS = {"toposeal": main._parser, "toposeal-lab": cli._parser}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TUTORIAL = ROOT / "docs" / "tutorial.md"
CALLS = [
    (str(page.relative_to(ROOT)), call)
    for page in PAGES
    for each in shown(page)
    for call in calls(each.command)
]


def test_there_are_calls() -> None:
    assert {page for page, _ in CALLS} >= {
        "README.md",
        "docs/kubernetes.md",
        "docs/tutorial.md",
        "docs/verify.md",
    }


@pytest.mark.parametrize(("page", "call"), CALLS, ids=[f"{page}: {' '.join(call)}" for page, call in CALLS])
def test_a_call_is_one_that_our_parsers_take(page: str, call: list[str]) -> None:
    program, *arguments = call
    PARSERS[program](arguments).parse_args(arguments)


@pytest.mark.parametrize(
    "line", ["toposeal verify", "true && toposeal statu x", "sh -c 'toposeal run --rol web'"]
)
def test_a_call_that_does_not_exist_would_be_found(line: str) -> None:
    ((program, *arguments),) = calls(line)
    with pytest.raises(SystemExit):
        PARSERS[program](arguments).parse_args(arguments)


def test_the_tutorial_runs_what_has_a_prompt_and_parses_the_rest() -> None:
    """What is only parsed stands in the section on clusters, which says so."""
    text = TUTORIAL.read_text()
    before, cluster = text.split("## What changes on a cluster\n")
    assert "```sh" not in before and "```console" not in cluster
    for kind, program in (("console", "docker compose"), ("sh", ("toposeal ", "kubectl "))):
        commands = [each.command for each in shown(TUTORIAL) if each.kind == kind]
        assert commands and all(command.removeprefix("until ").startswith(program) for command in commands)


def test_output_is_compared_in_order() -> None:
    assert matches("api  m-...  UpToDate", "api  m-104f  UpToDate ") and not matches("api", "api 2")
    assert not matches("a.c", "abc")
    assert missing(("one", "...", "three"), "one\ntwo\nthree\n") == []
    assert missing(("three", "one"), "one\ntwo\nthree\n") == ["one"]


def test_where_a_command_ends() -> None:
    page = Path(__file__).parent / "support" / "pages.py"
    assert list(shown(page)) == []
    assert list(calls("x=1 toposeal verify u; echo $? && toposeal status v >f")) == [
        ["toposeal", "verify", "u"],
        ["toposeal", "status", "v"],
    ]
