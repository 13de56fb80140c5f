"""Every case that must have a test has one, and the page says what the tests say."""

from __future__ import annotations

from support import catalogue


def test_no_test_names_an_unknown_case() -> None:
    assert set(catalogue.tests_by_case()) - set(catalogue.CASES) == set()


def test_every_required_case_is_reproduced() -> None:
    assert sorted(catalogue.REQUIRED - set(catalogue.tests_by_case())) == []


def test_the_page_is_current() -> None:
    current = catalogue.PAGE.read_text() == catalogue.page()
    assert current, "run `make coverage-table`"
