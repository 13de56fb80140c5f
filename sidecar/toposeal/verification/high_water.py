"""High-water marks: the newest collateral ever seen, so that older is refused although in force. No IO.

A mark is raised by what a vendor signed and by nothing else, and never falls. What a stranger brings is
held against the marks and raises none: Intel signs two generations of TCB info at a time (`early` and
`standard`), and whoever could raise a mark to the earlier one would have our own refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.strict_json import parse_object
from toposeal.limits import MAX_MARKS, MAX_MARKS_SIZE, MAX_TCB_EVALUATION, MAX_TIME
from toposeal.verification.collateral_authentic import AuthenticCollateral, AuthenticList, ListAge

_VERSION = 1
_FMSPC = re.compile(r"[0-9a-f]{12}", re.ASCII)
_ISSUER = re.compile(r"[0-9a-f]{64}(?:/(?:VCEK|VLEK))?", re.ASCII)
_NUMBER = re.compile(r"[0-9a-f]{1,40}", re.ASCII)  # RFC 5280, 5.2.3: at most 20 bytes


@dataclass(frozen=True)
class Marks:
    """Evaluation number by FMSPC (hexadecimal), list age by issuer: SHA-256 of its key, and which of its
    two lists where the issuer is an ARK.

    TCB info and QE identity have one mark together, since they are only used with equal numbers.
    """

    evaluations: Mapping[str, int] = field(default_factory=dict)
    lists: Mapping[str, ListAge] = field(default_factory=dict)

    def check(self, found: AuthenticCollateral) -> None:
        """Raise EvidenceError(COLLATERAL_ROLLBACK) if any part is older than the newest seen (E9)."""
        mark = self.evaluations.get(found.fmspc.hex(), 0)
        if found.evaluation < mark:
            name = "collateral.tcb_info.tcbEvaluationDataNumber"
            raise _rollback(name, found.evaluation, f"at least {mark}, seen before for {found.fmspc.hex()}")
        for issuer, age in found.lists:
            self._check_age(issuer, age)

    def check_list(self, found: AuthenticList, scope: str) -> None:
        """The same for the list of `scope` (VCEK or VLEK) of an ARK."""
        self._check_age(f"{found.issuer}/{scope}", found.age)

    def raised(self, found: AuthenticCollateral) -> Marks:
        """The marks with those that `found` exceeds raised to it. Raises EvidenceError(TOO_LARGE)."""
        name = found.fmspc.hex()
        evaluation = max(found.evaluation, self.evaluations.get(name, 0))
        lists = dict(self.lists)
        for issuer, age in found.lists:
            lists[issuer] = _newer(age, lists.get(issuer))
        return _bounded(Marks({**self.evaluations, name: evaluation}, lists))

    def raised_by_list(self, found: AuthenticList, scope: str) -> Marks:
        name = f"{found.issuer}/{scope}"
        newest = _newer(found.age, self.lists.get(name))
        return _bounded(Marks(self.evaluations, {**self.lists, name: newest}))

    def merged(self, other: Marks) -> Marks:
        """The higher of both everywhere: for what another process has written in the meantime."""
        evaluations = dict(self.evaluations)
        for name, number in other.evaluations.items():
            evaluations[name] = max(number, evaluations.get(name, 0))
        lists = dict(self.lists)
        for issuer, age in other.lists.items():
            lists[issuer] = _newer(age, lists.get(issuer))
        return _bounded(Marks(evaluations, lists))

    def dump(self) -> bytes:
        """The JSON form that `parse_marks` reads: numbers of lists, which may be large, in hexadecimal."""
        lists = {name: [f"{age.number:x}", age.issued] for name, age in sorted(self.lists.items())}
        state = {"version": _VERSION, "evaluations": dict(sorted(self.evaluations.items())), "lists": lists}
        return json.dumps(state, indent=1).encode("ascii") + b"\n"

    def _check_age(self, issuer: str, age: ListAge) -> None:
        mark = self.lists.get(issuer)
        if mark is not None and age.older_than(mark):
            found = f"CRLNumber {age.number} of {age.issued}"
            expected = f"at least {mark.number} of {mark.issued}, seen before of {issuer[:16]}"
            raise _rollback("collateral.crl", found, expected)


def parse_marks(data: bytes) -> Marks:
    """Read `dump`'s form and nothing else. Raises EvidenceError: COLLATERAL_INVALID, or TOO_LARGE."""
    if len(data) > MAX_MARKS_SIZE:
        raise EvidenceError.of(Reason.TOO_LARGE, "marks", f"{len(data)} bytes", f"at most {MAX_MARKS_SIZE}")
    state = parse_object(data.decode("ascii", "replace"), "marks")
    evaluations, lists = state.get("evaluations"), state.get("lists")
    if state.keys() != {"version", "evaluations", "lists"}:
        raise _invalid("members", sorted(state), "version, evaluations and lists")
    version = state["version"]
    if type(version) is not int or version != _VERSION:
        raise _invalid("version", version, _VERSION)
    if not isinstance(evaluations, dict) or not isinstance(lists, dict):
        raise _invalid("members", "another type", "objects")
    return _bounded(
        Marks(
            {name: _evaluation(name, number) for name, number in evaluations.items()},
            {issuer: _age(issuer, value) for issuer, value in lists.items()},
        )
    )


def _evaluation(name: str, number: object) -> int:
    if _FMSPC.fullmatch(name) is None or not _within(number, MAX_TCB_EVALUATION):
        raise _invalid("evaluations", (name, number), "a number for an FMSPC")
    return int(str(number))


def _age(issuer: str, value: object) -> ListAge:
    if _ISSUER.fullmatch(issuer) is None or not isinstance(value, list) or len(value) != 2:
        raise _invalid("lists", (issuer, value), "CRLNumber and thisUpdate for an issuer")
    number, issued = value
    if not isinstance(number, str) or _NUMBER.fullmatch(number) is None or not _within(issued, MAX_TIME):
        raise _invalid("lists", value, "a number in hexadecimal and a time")
    return ListAge(int(number, 16), issued)


def _within(number: object, highest: int) -> bool:
    return type(number) is int and 0 <= number <= highest


def _newer(age: ListAge, other: ListAge | None) -> ListAge:
    return age if other is None or other.older_than(age) else other


def _bounded(marks: Marks) -> Marks:
    count = len(marks.evaluations) + len(marks.lists)
    if count > MAX_MARKS:
        raise EvidenceError.of(Reason.TOO_LARGE, "marks", count, f"at most {MAX_MARKS}")
    return marks


def _rollback(name: str, found: object, expected: str) -> EvidenceError:
    return EvidenceError.of(Reason.COLLATERAL_ROLLBACK, name, found, expected)


def _invalid(name: str, found: object, expected: object) -> EvidenceError:
    return EvidenceError.of(Reason.COLLATERAL_INVALID, f"marks.{name}", found, expected)
