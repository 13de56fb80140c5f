"""Authored YAML to the payload bytes that an owner signs. No IO; PyYAML is used here alone.

YAML is read as events, never constructed: no tag, anchor, alias or merge key survives, and a plain
scalar that YAML 1.1 or 1.2 would turn into anything but text or a decimal integer is refused, not
guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import yaml

from toposeal.errors import Mismatch, Reason, TopologyError, printable
from toposeal.limits import MAX_TOPOLOGY_DEPTH, MAX_TOPOLOGY_SIZE, MAX_VERSION
from toposeal.topology import strict_json
from toposeal.topology.owner import OwnerRoot
from toposeal.topology.parse import parse_topology
from toposeal.topology.schema import Findings, join, mismatch

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,15}", re.ASCII)
_NUMBER_1_2 = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|0o[0-7]+", re.ASCII)
_UTC_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", re.ASCII)
_RESOLVER = yaml.resolver.Resolver()


def payload_from_yaml(text: bytes, root: OwnerRoot) -> bytes:
    """Canonical payload of the topology that `text` declares, naming `root` as its owner.

    The author writes `issued_at` as RFC 3339 UTC and leaves `owner_root` out. Raises TopologyError
    with every mismatch and, where it is known, the line.
    """
    return compile_yaml(text, root.digest)


def compile_yaml(text: bytes, owner_root_digest: bytes) -> bytes:
    """`payload_from_yaml` for a root of which only the digest (48 bytes) is given."""
    document, lines = _read(text)
    findings = Findings()
    if "owner_root" in document:
        findings.add(mismatch("owner_root", document["owner_root"], "nothing: signing fills it in"))
    issued_at = 1
    with findings:
        issued_at = _issued_at(document)
    filled_in = {"issued_at": issued_at, "owner_root": owner_root_digest.hex()}
    payload = strict_json.canonical({**document, **filled_in})
    with findings:
        parse_topology(payload)
    try:
        findings.check()
    except TopologyError as error:
        raise TopologyError(*(lines.locate(m) for m in error.mismatches)) from None
    return payload


def mapping_from_yaml(text: bytes) -> dict[str, object]:
    """Another file of the owner's, by the same rules of what YAML may be. Raises TopologyError."""
    return _read(text)[0]


@dataclass(frozen=True)
class _Lines:
    """The line of a value and, by name or index, of what it contains."""

    line: int
    children: dict[str, _Lines] = field(default_factory=dict)

    def locate(self, found: Mismatch) -> Mismatch:
        """`found` with the line of the innermost value on its path."""
        here = self
        for step in re.findall(r"[^.\[\]]+", found.field):
            if step not in here.children:
                break
            here = here.children[step]
        return replace(found, found=f"{found.found} (line {here.line})")


def _read(text: bytes) -> tuple[dict[str, object], _Lines]:
    if len(text) > MAX_TOPOLOGY_SIZE:
        expected = f"at most {MAX_TOPOLOGY_SIZE}"
        raise TopologyError.of(Reason.TOO_LARGE, "topology", f"{len(text)} bytes", expected)
    try:
        return _Reader(text.decode("utf-8")).document()
    except yaml.MarkedYAMLError as error:
        mark: Any = error.problem_mark
        found = f"a mistake: {error.problem} (line {mark.line + 1})"
        raise _refused("topology", found, "YAML", Reason.MALFORMED) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the latter two: escapes beyond Unicode
        raise _refused("topology", error, "YAML in UTF-8", Reason.MALFORMED) from error


class _Reader:
    """One document of plain mappings, sequences, text and integers; the rest is refused (T8)."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[Any] = yaml.parse(text, Loader=yaml.SafeLoader)

    def document(self) -> tuple[dict[str, object], _Lines]:
        next(self._events)  # the start of the stream
        start = next(self._events)
        if not isinstance(start, yaml.DocumentStartEvent):
            raise _refused("topology", "an empty file", "a topology")
        if start.version or start.tags:
            raise _refused("topology", "a YAML directive", "none")
        value, lines = self._node(next(self._events), "", 1)
        next(self._events)  # the end of the document
        if not isinstance(next(self._events), yaml.StreamEndEvent):
            raise _refused("topology", "a second document", "one document")
        if not isinstance(value, dict):
            raise _refused("topology", "no mapping", "a mapping")
        return value, lines

    def _node(self, event: Any, path: str, depth: int) -> tuple[object, _Lines]:
        line = _check_plain(event, path)
        if depth > MAX_TOPOLOGY_DEPTH:
            expected = f"at most {MAX_TOPOLOGY_DEPTH} levels"
            raise _refused(path, f"deeper nesting (line {line})", expected, Reason.TOO_LARGE)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path, depth, line)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path, depth, line)
        return _scalar(event, path), _Lines(line)

    def _sequence(self, path: str, depth: int, line: int) -> tuple[list[object], _Lines]:
        values: list[object] = []
        lines = _Lines(line)
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            index = len(values)
            value, lines.children[str(index)] = self._node(event, f"{path}[{index}]", depth + 1)
            values.append(value)
        return values, lines

    def _mapping(self, path: str, depth: int, line: int) -> tuple[dict[str, object], _Lines]:
        values: dict[str, object] = {}
        lines = _Lines(line)
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = _key(event, path)
            if key in values:
                found = f"this key twice (line {event.start_mark.line + 1})"
                raise _refused(join(path, key), found, "every key once", Reason.MALFORMED)
            value, inner = self._node(next(self._events), join(path, key), depth + 1)
            values[key], lines.children[printable(key)] = value, inner
        return values, lines


def _key(event: Any, path: str) -> str:
    line = _check_plain(event, path)
    key = _scalar(event, path) if isinstance(event, yaml.ScalarEvent) else None
    if not isinstance(key, str):
        raise _refused(path, f"a key that is no text (line {line})", "keys of text")
    return key


def _scalar(event: Any, path: str) -> str | int:
    text: str = event.value
    if not event.implicit[0]:  # quoted
        return text
    tag: str = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    kind = tag.removeprefix("tag:yaml.org,2002:")
    if kind == "str" and _NUMBER_1_2.fullmatch(text):
        kind = "a number (1.2)"
    if kind == "str" or (kind == "timestamp" and _UTC_TIME.fullmatch(text)):
        return text
    if kind == "int" and _INTEGER.fullmatch(text) and abs(int(text)) <= MAX_VERSION:
        return int(text)
    found = f"{text or 'nothing'} (line {event.start_mark.line + 1})"
    raise _refused(path, found, f"a decimal integer, or text; YAML reads {kind} here, so quote text")


def _check_plain(event: Any, path: str) -> int:
    line: int = event.start_mark.line + 1
    if isinstance(event, yaml.AliasEvent):
        raise _refused(path, f"an alias (line {line})", "values written out")
    if getattr(event, "anchor", None) is not None:
        raise _refused(path, f"an anchor (line {line})", "values written out")
    if getattr(event, "tag", None) is not None:
        raise _refused(path, f"a tag (line {line})", "values without tags")
    return line


def _issued_at(document: dict[str, object]) -> int:
    value = document.get("issued_at", "nothing")
    try:
        if isinstance(value, str) and _UTC_TIME.fullmatch(value):
            return int(datetime.fromisoformat(value[:-1]).replace(tzinfo=UTC).timestamp())
    except (ValueError, OverflowError):
        pass  # a day or hour that does not exist is refused like any other text
    raise TopologyError(mismatch("issued_at", value, "RFC 3339 in UTC, like 2026-01-31T12:00:00Z"))


def _refused(
    path: str, found: object, expected: str, reason: Reason = Reason.TOPOLOGY_INVALID
) -> TopologyError:
    return TopologyError.of(reason, path or "topology", found, expected)
