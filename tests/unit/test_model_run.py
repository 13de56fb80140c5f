"""How `make model` reads what Spin prints: a search cut short is never a pass."""

from __future__ import annotations

import pytest
from model.cases import CASES, Case
from model.run import Outcome, read_search, read_trail, table

HOLDS = Case("a", "chain.pml", "")
BREAKS = Case("b", "chain.pml", "LATE_SEAL", "S1")
COMPLETE = "State-vector 84 byte, depth reached 121, errors: 0\n    31847 states, stored\n"
FOUND = "State-vector 84 byte, depth reached 75, errors: 1\n       36 states, stored\n"
TRAIL = ("member 0 seals #1", "VIOLATION S1 #1 and #2 are active side by side")


def test_a_complete_search_without_an_error_holds() -> None:
    outcome = read_search(HOLDS, COMPLETE, (), 0.1)
    assert (outcome.expected, outcome.states, outcome.depth) == (True, 31847, 121)
    assert not read_search(BREAKS, COMPLETE, (), 0.1).expected


@pytest.mark.parametrize(
    "cut",
    [
        "Warning: Search not completed\n",
        "pan: reached -DMEMLIM bound\n",
        "error: max search depth too small\n",
    ],
)
def test_a_search_cut_short_is_no_pass(cut: str) -> None:
    assert read_search(HOLDS, cut + COMPLETE, (), 0.1).trouble == "incomplete"


def test_nothing_printed_is_no_pass() -> None:
    assert not read_search(HOLDS, "", (), 0.1).expected


def test_only_the_named_property_counts_as_the_expected_counterexample() -> None:
    assert read_search(BREAKS, FOUND, TRAIL, 0.1).expected
    assert not read_search(HOLDS, FOUND, TRAIL, 0.1).expected
    assert not read_search(BREAKS, FOUND, ("VIOLATION S3 epochs",), 0.1).expected
    assert read_search(BREAKS, FOUND, (), 0.1).broken == "bound"


def test_a_trail_is_the_models_own_lines_with_sets_spelled_out() -> None:
    printed = """
            MANIFEST #1 epoch 2 members 11 previous #0
        member 3 seals #1
    spin: trail ends after 9 steps
                members[0] = 7
    """
    assert list(read_trail(printed)) == [
        "MANIFEST #1 epoch 2 members {0,1,3} previous #0",
        "member 3 seals #1",
    ]


def test_the_table_marks_what_was_not_expected() -> None:
    lines = table([Outcome(HOLDS, "", 1, 2, 0.1), Outcome(BREAKS, "", 1, 2, 0.1)]).splitlines()
    assert "UNEXPECTED" not in lines[1]
    assert "UNEXPECTED" in lines[2]


def test_names_of_cases_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
