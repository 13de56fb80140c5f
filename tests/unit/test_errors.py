"""Refusals: at least one mismatch each, printable whatever they carry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toposeal.errors import Mismatch, PolicyError, Reason, ToposealError, printable


def test_a_refusal_says_at_least_one_thing() -> None:
    with pytest.raises(ValueError, match="says nothing"):
        ToposealError()


def test_the_first_mismatch_names_the_reason_and_all_are_told() -> None:
    first = Mismatch(Reason.MEASUREMENT, "mrtd", "00", "01")
    error = PolicyError(first, Mismatch(Reason.XFAM, "xfam", "00", "e7"))
    assert error.reason is Reason.MEASUREMENT
    assert str(error) == "mrtd: found 00, expected 01 [measurement]; xfam: found 00, expected e7 [xfam]"


def test_of_builds_its_own_class_from_any_value() -> None:
    error = PolicyError.of(Reason.MEASUREMENT, "mrtd", b"\x00\xff", 7)
    assert type(error) is PolicyError
    assert error.mismatches == (Mismatch(Reason.MEASUREMENT, "mrtd", "00ff", "7"),)


@given(st.text())
def test_C2_printable_is_ascii_without_controls(text: str) -> None:
    shown = printable(text)
    assert shown.isascii() and (shown == "" or shown.isprintable())


@given(st.text(max_size=4000), st.integers(1, 500))
def test_printable_is_bounded(text: str, limit: int) -> None:
    assert len(printable(text, limit)) <= limit + len("...")


@pytest.mark.parametrize("value", [10**5000, [10**5000], {"n": 10**5000}], ids=["alone", "list", "map"])
def test_C2_a_number_that_python_does_not_write_is_told_by_its_type(value: object) -> None:
    """A refusal that quotes a stranger's number must not become another error."""
    assert printable(value) == f"{type(value).__name__} too long to write"


def test_C2_escapes_stay_readable() -> None:
    assert printable("a\x1b[31m\u202eb\n") == "a\\u{1b}[31m\\u{202e}b\\u{a}"


def test_reasons_are_stable_lower_case_codes() -> None:
    assert all(reason.value == reason.name.lower() for reason in Reason)
