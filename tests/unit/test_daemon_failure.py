"""What is told of a failure: a refusal in its own words, of anything else its type and place alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from toposeal.daemon.failure import cause
from toposeal.errors import PodError, Reason

REFUSAL = PodError.of(Reason.FIREWALL, "rules", "gone", "there")


def raised(error: BaseException) -> BaseException:
    with pytest.raises(BaseException) as caught:
        raise error
    return caught.value


def test_a_refusal_is_told_as_it_is() -> None:
    assert cause(REFUSAL) == REFUSAL.mismatches[0]


def test_a_refusal_inside_groups_comes_before_its_consequences() -> None:
    group = ExceptionGroup("tasks", [ValueError("x"), ExceptionGroup("inner", [OSError(5, "y"), REFUSAL])])
    assert cause(group) == REFUSAL.mismatches[0]


def test_F4_the_text_of_any_other_exception_is_not_told() -> None:
    told = cause(raised(ValueError("canary -----BEGIN PRIVATE KEY-----")))
    assert (told.reason, told.field) == (Reason.INTERNAL, "task")
    assert told.found.startswith("ValueError at test_daemon_failure.py:")
    assert "canary" not in str(told)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RuntimeError("never raised"),
        lambda: BaseExceptionGroup("g", [KeyboardInterrupt("secret")]),
        lambda: type("\x1b[31m", (Exception,), {})("secret"),
    ],
)
def test_C2_whatever_it_is_there_is_one_safe_line(make: Callable[[], BaseException]) -> None:
    told = str(cause(make()))
    assert "secret" not in told
    assert told.isascii()
    assert told.isprintable()
