"""Closed-schema rules: a plain value becomes a typed one, or every mismatch in it is named. No IO.

Each rule says in `expected` what it accepts; refusals and the reference page both quote it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

from toposeal.errors import Mismatch, Reason, TopologyError, printable
from toposeal.limits import MAX_MISMATCHES

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
H = TypeVar("H", bound=Hashable)


class Rule(Protocol[T_co]):
    """One field's requirement."""

    @property
    def expected(self) -> str: ...

    def read(self, value: object, path: str) -> T_co:
        """The typed value, or TopologyError with every mismatch found under `path`."""


@dataclass(frozen=True)
class Integer:
    """An integer within inclusive bounds; true and false are not integers."""

    low: int
    high: int

    @property
    def expected(self) -> str:
        return f"an integer from {self.low} to {self.high}"

    def read(self, value: object, path: str) -> int:
        if type(value) is not int or not self.low <= value <= self.high:
            raise TopologyError(mismatch(path, value, self.expected))
        return value


@dataclass(frozen=True)
class Text:
    """A string that matches `pattern` from its first to its last character."""

    pattern: re.Pattern[str]
    expected: str

    def read(self, value: object, path: str) -> str:
        if not isinstance(value, str) or self.pattern.fullmatch(value) is None:
            raise TopologyError(mismatch(path, value, self.expected))
        return value


@dataclass(frozen=True)
class Hex:
    """Exactly `size` bytes, spelled one way only."""

    size: int

    @property
    def expected(self) -> str:
        return f"{self.size} bytes as {2 * self.size} lower-case hex digits"

    def read(self, value: object, path: str) -> bytes:
        if not isinstance(value, str) or re.fullmatch(rf"[0-9a-f]{{{2 * self.size}}}", value) is None:
            raise TopologyError(mismatch(path, value, self.expected))
        return bytes.fromhex(value)


@dataclass(frozen=True)
class OneOf:
    """One of a closed set of strings."""

    choices: tuple[str, ...]

    @property
    def expected(self) -> str:
        return "one of " + ", ".join(self.choices)

    def read(self, value: object, path: str) -> str:
        if not isinstance(value, str) or value not in self.choices:
            raise TopologyError(mismatch(path, value, self.expected))
        return value


@dataclass(frozen=True)
class OrAny(Generic[T]):
    """The rule, or the word `any`, which becomes None: a policy is left out only in writing."""

    rule: Rule[T]

    @property
    def expected(self) -> str:
        return f'"any", or {self.rule.expected}'

    def read(self, value: object, path: str) -> T | None:
        if value == "any":
            return None
        try:
            return self.rule.read(value, path)
        except TopologyError as error:
            raise TopologyError(*(_widened(m, path, self.expected) for m in error.mismatches)) from None


@dataclass(frozen=True)
class Word(Generic[T]):
    """One word, and what it stands for."""

    word: str
    value: T

    @property
    def expected(self) -> str:
        return f'"{self.word}"'

    def read(self, value: object, path: str) -> T:
        if value != self.word:
            raise TopologyError(mismatch(path, value, self.expected))
        return self.value


class Either(Generic[T]):
    """The first of several rules that takes the value; an object is held to the rule for objects."""

    def __init__(self, *rules: Rule[Any]) -> None:
        self.rules = rules

    @property
    def expected(self) -> str:
        return ", or ".join(rule.expected for rule in self.rules)

    def read(self, value: object, path: str) -> T:
        if isinstance(value, dict):
            for rule in self.rules:
                if isinstance(rule, Object):
                    return cast("T", rule.read(value, path))
        for rule in self.rules:
            try:
                return cast("T", rule.read(value, path))
            except TopologyError:
                continue
        raise TopologyError(mismatch(path, value, self.expected))


@dataclass(frozen=True)
class ListOf(Generic[H]):
    """`low` to `high` values of one kind, none of them twice."""

    rule: Rule[H]
    low: int
    high: int
    items: str

    @property
    def expected(self) -> str:
        return f"a list of {self.low} to {self.high} {self.items}"

    def read(self, value: object, path: str) -> tuple[H, ...]:
        if not isinstance(value, list) or not self.low <= len(value) <= self.high:
            raise TopologyError(mismatch(path, value, self.expected))
        findings = Findings()
        seen: dict[H, int] = {}
        for index, item in enumerate(value):
            with findings:
                parsed = self.rule.read(item, f"{path}[{index}]")
                if seen.setdefault(parsed, index) != index:
                    found = f"the same as {path}[{seen[parsed]}]"
                    raise TopologyError(Mismatch(_INVALID, f"{path}[{index}]", found, "every value once"))
        findings.check()
        return tuple(seen)


@dataclass(frozen=True)
class MapOf(Generic[T]):
    """`low` to `high` values of one kind under names that match `key`."""

    key: Text
    rule: Rule[T]
    low: int
    high: int
    items: str

    @property
    def expected(self) -> str:
        return f"an object of {self.low} to {self.high} {self.items}"

    def read(self, value: object, path: str) -> dict[str, T]:
        if not isinstance(value, dict) or not self.low <= len(value) <= self.high:
            raise TopologyError(mismatch(path, value, self.expected))
        findings = Findings()
        parsed: dict[str, T] = {}
        for name in sorted(value):
            with findings:
                self.key.read(name, path)
                parsed[name] = self.rule.read(value[name], f"{path}.{name}")
        findings.check()
        return parsed


@dataclass(frozen=True)
class Object(Generic[T]):
    """A closed object: every field of `fields` unless `optional`, and no other (T9)."""

    fields: Mapping[str, Rule[Any]]
    build: Callable[..., T]
    optional: frozenset[str] = frozenset()

    @property
    def expected(self) -> str:
        return "an object with " + ", ".join(self.fields)

    def read(self, value: object, path: str) -> T:
        if not isinstance(value, dict):
            raise TopologyError(mismatch(path, value, self.expected))
        findings = Findings()
        for name in sorted(value.keys() - self.fields.keys()):
            findings.add(Mismatch(_INVALID, join(path, name), "an unknown field", self.expected))
        for name in sorted(self.fields.keys() - value.keys() - self.optional):
            findings.add(Mismatch(_INVALID, join(path, name), "nothing", self.fields[name].expected))
        parsed: dict[str, Any] = {}
        for name, rule in self.fields.items():
            if name in value:
                with findings:
                    parsed[name] = rule.read(value[name], join(path, name))
        findings.check()
        return self.build(**parsed)


class Findings:
    """Collects mismatches so that one refusal names them all: `with` absorbs a TopologyError."""

    def __init__(self) -> None:
        self._mismatches: list[Mismatch] = []

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, TopologyError):
            return False
        self.add(*error.mismatches)
        return True

    def add(self, *mismatches: Mismatch) -> None:
        self._mismatches.extend(mismatches)

    def check(self) -> None:
        """Raise TopologyError with what was collected (at most MAX_MISMATCHES), if anything was."""
        if self._mismatches:
            raise TopologyError(*self._mismatches[:MAX_MISMATCHES])


_INVALID = Reason.TOPOLOGY_INVALID


def mismatch(path: str, found: object, expected: str, reason: Reason = _INVALID) -> Mismatch:
    """One mismatch of this topology; `found` is rendered safe for a terminal."""
    return Mismatch(reason, path, _shown(found), expected)


def join(path: str, name: str) -> str:
    """The path of field `name` under `path`, safe for a terminal."""
    return f"{path}.{printable(name)}" if path else printable(name)


def _widened(found: Mismatch, path: str, expected: str) -> Mismatch:
    if found.field != path:
        return found
    return Mismatch(found.reason, path, found.found, expected)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return f"an object of {len(value)}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"a list of {len(value)}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return printable(value) if value != "" else "an empty string"
