"""The demo's checks: no check passes by not running, no attack counts without its control."""

from __future__ import annotations

import pytest

from toposeal_lab.checks import Check, CheckFailed, Checks, expect


def fail(text: str) -> str:
    raise CheckFailed(text)


def obstacle() -> str:
    raise ConnectionRefusedError("nobody there")


def run_attack(control: object, attack: object) -> tuple[Check, bool]:
    seen: list[Check] = []
    checks = Checks(seen.append)
    checks.attack("an attack", control, attack)  # type: ignore[arg-type]
    return seen[0], checks.ok


def test_a_check_reports_what_was_observed() -> None:
    seen: list[Check] = []
    checks = Checks(seen.append)
    checks.check("one", lambda: "as it must be")
    assert seen == [Check("one", True, "as it must be")]
    assert checks.ok
    assert checks.results() == [{"name": "one", "ok": True, "detail": "as it must be"}]


def test_no_check_at_all_is_not_ok() -> None:
    assert not Checks(lambda _: None).ok


def test_one_failure_is_enough_and_the_checks_after_it_run() -> None:
    seen: list[Check] = []
    checks = Checks(seen.append)
    checks.check("one", lambda: fail("not so"))
    checks.check("two", lambda: "fine")
    assert [check.ok for check in seen] == [False, True]
    assert not checks.ok


def test_a_check_that_could_not_run_has_failed() -> None:
    seen: list[Check] = []
    Checks(seen.append).check("one", obstacle)
    assert seen == [Check("one", False, "could not run: ConnectionRefusedError: nobody there")]


def test_an_attack_tells_of_its_control_too() -> None:
    assert run_attack(lambda: "let in", lambda: "refused") == (
        Check("an attack", True, "positive control: let in; attack: refused"),
        True,
    )


def test_without_its_control_an_attack_is_not_run_and_has_failed() -> None:
    def never() -> str:
        pytest.fail("ran without its control")

    check, ok = run_attack(lambda: fail("no answer"), never)
    assert check == Check("an attack", False, "positive control: no answer")
    assert not ok


def test_an_attack_that_gets_through_has_failed() -> None:
    check, _ = run_attack(lambda: "let in", lambda: fail("let in too"))
    assert not check.ok
    assert check.detail == "positive control: let in; attack: let in too"


def test_a_defect_of_the_lab_is_not_a_failed_check() -> None:
    def defect() -> str:
        raise TypeError("ours")

    with pytest.raises(TypeError):
        Checks(lambda _: None).check("one", defect)


def test_expect_says_both_sides() -> None:
    expect(True, "anything", "anything")
    with pytest.raises(CheckFailed, match="found 3, expected 4"):
        expect(False, 3, "4")
