"""Checks of the demo: each is seen to succeed or to fail, and says what was observed.

A check that could not run has failed. An attack counts only after its positive control: the same
attempt, with the defence off or with the right credential, has to succeed first.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass

from toposeal.errors import ToposealError

Body = Callable[[], str]  # returns what was observed; raises CheckFailed when it is not what must be

# What a check may run into. Anything else is a defect of the lab itself and ends the run.
OBSTACLES = (ToposealError, OSError, subprocess.SubprocessError, ValueError, LookupError)


class CheckFailed(Exception):
    """What was observed is not what must be."""


@dataclass(frozen=True)
class Check:
    """The result of one check; `detail` is for people and says what was observed."""

    name: str
    ok: bool
    detail: str


class Checks:
    """Runs checks one after the other and hands each result to `report` at once."""

    def __init__(self, report: Callable[[Check], None]) -> None:
        self._report = report
        self._done: list[Check] = []

    def check(self, name: str, body: Body) -> None:
        """Run `body`; a failure is recorded, never raised, so that the checks after it still run."""
        self._record(_attempt(name, body))

    def attack(self, name: str, control: Body, attack: Body) -> None:
        """Run `control`, which has to succeed, then `attack`, which returns how it was refused.

        Without its control an attack is not run: its failure would show nothing.
        """
        first = _attempt(name, control)
        if not first.ok:
            self._record(Check(name, False, f"positive control: {first.detail}"))
            return
        second = _attempt(name, attack)
        self._record(Check(name, second.ok, f"positive control: {first.detail}; attack: {second.detail}"))

    @property
    def ok(self) -> bool:
        """Whether there was a check and none failed."""
        return bool(self._done) and all(check.ok for check in self._done)

    def results(self) -> list[dict[str, object]]:
        """Every check so far, as the JSON form has it."""
        return [asdict(check) for check in self._done]

    def _record(self, check: Check) -> None:
        self._done.append(check)
        self._report(check)


def expect(condition: bool, found: object, expected: str) -> None:
    """Raise CheckFailed unless `condition` holds."""
    if not condition:
        raise CheckFailed(f"found {found}, expected {expected}")


def _attempt(name: str, body: Body) -> Check:
    try:
        return Check(name, True, body())
    except CheckFailed as failure:
        return Check(name, False, str(failure))
    except OBSTACLES as obstacle:
        return Check(name, False, f"could not run: {type(obstacle).__name__}: {obstacle}")
