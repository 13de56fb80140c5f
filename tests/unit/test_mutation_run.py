"""`make mutation`: which changes it makes, what it calls them, and how it judges who survives."""

from __future__ import annotations

import ast

import pytest
from mutation import run
from mutation.mutants import Mutant, mutants

SOURCE = '''
LIMIT = 3

def late(peers, now):
    """Words are left alone: 1 < 2."""
    check(peers)
    if not peers or now < LIMIT:
        raise Refused.of("field", 1)
    return [peer for peer in peers if peer.at <= now]
'''


def test_every_small_change_is_made_once_and_named_by_what_it_changes() -> None:
    names = {mutant.name for mutant in mutants(SOURCE)}
    assert names == {
        "module: `3` -> `4`",
        "module: `3` -> `2`",
        "late: without `check(peers)`",
        "late: `not peers or now < LIMIT` -> `not peers and now < LIMIT`",
        "late: `not peers or now < LIMIT` -> `now < LIMIT`",
        "late: `not peers or now < LIMIT` -> `not peers`",
        "late: `not peers` -> `peers`",
        "late: `now < LIMIT` -> `now <= LIMIT`",
        "late: `now < LIMIT` -> `now >= LIMIT`",
        "late: without `raise Refused.of('field', 1)`",
        "late: `[peer for peer in peers if peer.at <= now]` -> `[peer for peer in peers]`",
        "late: `peer.at <= now` -> `peer.at < now`",
        "late: `peer.at <= now` -> `peer.at > now`",
    }


def test_each_mutant_differs_from_the_original_in_its_one_place() -> None:
    texts = [ast.unparse(mutant.tree) for mutant in mutants(SOURCE)]
    original = ast.unparse(ast.parse(SOURCE)).splitlines()
    assert len(set(texts)) == len(texts)
    for text in texts:
        changed = [line for line in text.splitlines() if line not in original]
        assert len(changed) <= 1, changed


def test_a_union_of_classes_is_left_alone_and_one_of_sets_is_not() -> None:
    source = "Event = Quoted | Received | Timer\nALL = READ | WRITE\ndef f(a): return a | WRITE\n"
    names = [mutant.name for mutant in mutants(source)]
    assert names == [
        "module: `READ | WRITE` -> `READ`",
        "module: `READ | WRITE` -> `WRITE`",
        "f: `a | WRITE` -> `a`",
        "f: `a | WRITE` -> `WRITE`",
    ]


def test_a_change_is_run_against_whom_it_can_reach() -> None:
    reach: run.Reach = {"one.py": {"3": ["a"], "5": ["b"]}, "two.py": {"7": ["c"]}, "three.py": {"1": []}}

    def against(file: str, line: int) -> list[str]:
        return run._tests(run.Job(file, Mutant("changed", line, ast.Module([], []))), reach)

    assert against("one.py", 3) == ["a"]
    assert against("one.py", 1) == ["a", "b"], "what runs at import may change any of the module"
    assert against("three.py", 1) == against("four.py", 1) == ["a", "b", "c"], "and a class that others make"


def test_the_same_change_twice_in_a_function_has_two_names() -> None:
    twice = "def both(a):\n    if a:\n        go()\n        go()\n"
    assert [mutant.name for mutant in mutants(twice)] == ["both: without `go()`", "both: without `go()` #2"]


def test_the_list_gives_each_survivor_its_reason() -> None:
    text = "# words\n\none.py\n  f: `a` -> `b`\n    the same\ntwo.py\n  g: without `h()`\n"
    assert run.explained(text) == {"one.py f: `a` -> `b`": "the same", "two.py g: without `h()`": ""}


@pytest.mark.parametrize(
    ("found", "known", "verdict"),
    [
        (set(), {}, 0),
        ({"a"}, {"a": "why"}, 0),
        ({"a"}, {}, 1),
        ({"a"}, {"a": ""}, 1),
        (set(), {"a": "why"}, 1),
    ],
)
def test_only_a_survivor_with_a_reason_passes_and_no_reason_without_one(
    found: set[str], known: dict[str, str], verdict: int
) -> None:
    assert run.judge(found, known) == verdict


def test_every_survivor_that_is_kept_has_a_reason_and_its_file_exists() -> None:
    assert all(run.explained().values())
    assert all((run.FOLDER / file).is_file() for file in run.examined())
