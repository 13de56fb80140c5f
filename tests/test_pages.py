"""Every call of ours on every page is one that our parsers take, and every command is one that a test runs.

Here they are parsed; who runs them is listed in support/pages.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.pages import FOLLOWED, NOT_RUN, ROOT, calls, matches, missing, shown

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


def test_no_block_is_of_a_kind_that_nobody_looks_into() -> None:
    """Commands stand in `sh` and `console`; what is in the others is no shell's."""
    known = {"sh", "console", "text", "json", "yaml", "toml", "python", "mermaid", "dockerfile"}
    for page in PAGES:
        fences = re.findall(r"^ *```(.*)$", page.read_text(), re.MULTILINE)
        assert set(fences[::2]) <= known and set(fences[1::2]) <= {""}, page


def test_every_page_with_commands_is_followed() -> None:
    pages = {str(page.relative_to(ROOT)) for page in PAGES if any(shown(page))}
    assert pages == set(FOLLOWED)


@pytest.mark.parametrize("page", FOLLOWED)
def test_who_follows_a_page_names_it_and_no_excuse_outlives_its_command(page: str) -> None:
    assert all(Path(page).name in (ROOT / test).read_text() for test in FOLLOWED[page])
    commands = [each.command for each in shown(ROOT / page)]
    for beginning in NOT_RUN.get(page, {}):
        assert [command for command in commands if command.startswith(beginning)], beginning


@pytest.mark.parametrize(
    "line", ["toposeal verify", "true && toposeal statu x", "sh -c 'toposeal run --rol web'"]
)
def test_a_call_that_does_not_exist_would_be_found(line: str) -> None:
    ((program, *arguments),) = calls(line)
    with pytest.raises(SystemExit):
        PARSERS[program](arguments).parse_args(arguments)


def test_the_tutorial_runs_what_has_a_prompt_in_its_order() -> None:
    """What has none stands in the section on clusters, and is another test's to run."""
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
