"""A drafted topology as the YAML that its owner completes: each blank a word that no check takes. No IO."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from toposeal.kubernetes.draft import Draft
from toposeal.kubernetes.draft_pods import Blank

FILL_IN = "FILL_IN"  # neither a name, a number, a digest nor any other word of a topology
_HEAD = (
    "Drafted from manifests by `toposeal topology from`, and not complete: the owner puts what its comment"
    f" says in place of each {FILL_IN}, and reads the rest as the owner's own word, since signing makes it"
    " that. `toposeal topology check` refuses the file until then. Fields: docs/topology.md. The owner root"
    " is not written here: signing fills it in."
)
_WIDTH = 110
_PLAIN = re.compile(r"[a-z][a-z0-9_-]*", re.ASCII)
_OTHER_THAN_TEXT = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}  # to YAML 1.1 or 1.2


def render(made: Draft) -> str:
    """The same draft always as the same text."""
    head = {name: value for name, value in made.document.items() if name != "roles"}
    lines = [*_comment([_HEAD], ""), *_comment([f"- {note}" for note in made.notes], "")]
    for name, value in head.items():
        lines += [""] * isinstance(value, dict) + list(_entry(name, value, ""))
    lines += ["", "roles:"]
    for name, role in made.document["roles"].items():
        lines += [
            *_comment([f"- {note}" for note in made.role_notes[name]], "  "),
            *_entry(name, role, "  "),
            "",
        ]
    return "\n".join(lines[:-1]) + "\n"


def _entry(name: str, value: Any, indent: str) -> Iterator[str]:
    """A field in block style; what is small in one line."""
    if isinstance(value, dict) and not _small(value):
        yield f"{indent}{_scalar(name)}:"
        for inner, each in value.items():
            yield from _entry(inner, each, f"{indent}  ")
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        yield f"{indent}{name}:"
        for item in value:
            yield from _item(item, f"{indent}  ")
    else:
        yield from _line(f"{indent}{_scalar(name)}: {_inline(value)}", value, indent)


def _line(line: str, value: Any, indent: str) -> Iterator[str]:
    """With what is expected in place of its blanks: behind it, or before it where that is long."""
    expected = _expected(value)
    if expected and len(line) + len(expected) + 4 > _WIDTH:
        yield from _comment([expected], indent)
        expected = ""
    yield f"{line}  # {expected}" if expected else line


def _item(item: Mapping[str, Any], indent: str) -> Iterator[str]:
    if _small(item):
        yield from _line(f"{indent}- {_inline(item)}", item, indent)
        return
    lines = [line for name, value in item.items() for line in _entry(name, value, f"{indent}  ")]
    yield f"{indent}- {lines[0].lstrip()}"
    yield from lines[1:]


def _small(value: Mapping[str, Any]) -> bool:
    """A pair or three of ports, names and the like."""
    return len(value) <= 3 and all(name in _INLINE for name in value)


_INLINE = {"min", "max", "role", "port", "target", "path", "cidr"}


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_inline(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return FILL_IN if isinstance(value, Blank) else _scalar(value)


def _scalar(value: str | int) -> str:
    """Text that one reader of YAML would take for something else is quoted."""
    if isinstance(value, int) or (_PLAIN.fullmatch(value) and value not in _OTHER_THAN_TEXT):
        return str(value)
    return json.dumps(value)


def _expected(value: Any) -> str:
    if isinstance(value, Blank):
        return value.expected
    if not isinstance(value, Mapping):
        return ""
    return "; ".join(f"{name}: {each.expected}" for name, each in value.items() if isinstance(each, Blank))


def _comment(paragraphs: Iterable[str], indent: str) -> Iterator[str]:
    """Words that are too long for a line have one of their own."""
    for paragraph in paragraphs:
        later = f"{indent}#   " if paragraph.startswith("- ") else f"{indent}# "
        first, *words = paragraph.split()
        line = f"{indent}# {first}"
        for word in words:
            if len(line) + 1 + len(word) > _WIDTH:
                yield line
                line = later + word
            else:
                line += f" {word}"
        yield line
