"""A Kubernetes object that entries are put into, and refusals that name it. No IO."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from toposeal.errors import Reason, UsageError, printable

# libyaml where PyYAML was built with it: ten times as fast.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Path = tuple[str, ...]
Place = tuple[str | int, ...]  # numbers lead into lists


@dataclass
class Object:
    """One object, as a value alone; `manifest.Document` is one that is also text."""

    value: Any
    merged: int | None = None  # line of a mapping with a merge key: building the value removes it

    def name(self) -> str:
        """How a refusal names it: `Deployment/web`; what a controller makes has the beginning of a name."""
        if isinstance(self.value, dict):
            metadata = self.value.get("metadata")
            known = metadata if isinstance(metadata, dict) else {}
            name = known.get("name", known.get("generateName"))
            if isinstance(self.value.get("kind"), str) and isinstance(name, str):
                return printable(f"{self.value['kind']}/{name}")
        return self.unnamed()

    def unnamed(self) -> str:
        """How a refusal calls what has no name."""
        return "object"

    def put(self, path: Place, entries: str) -> None:
        """Put `entries` (YAML without indentation) first into the mapping or list at `path`, which is made
        where there is none yet. Raises UsageError where something else is, or one of them is there already.
        """
        here, depth = self.value, 0
        for name in path:
            if isinstance(here, dict) and name not in here:
                break
            here, depth = here[name], depth + 1
            if not isinstance(here, (dict, list)):
                raise self.refused(path[:depth], "no mapping or list", "one, or none at all")
        self.merge(path, depth, entries)

    def merge(self, path: Place, depth: int, entries: str) -> None:
        """The change of `put` in `value`, where `depth` steps of `path` lead to what is there."""
        target = self.value
        for name in path[:depth]:
            target = target[name]
        added = LOADER(nested(path[depth:], entries)).get_single_data()
        if isinstance(target, list):
            target[:0] = added
            return
        for name in added:
            if name in target:
                raise self.refused((*path[:depth], name), "a value", "none: toposeal's goes here")
        target.update(added)

    def refused(self, path: Sequence[str | int], found: object, expected: str) -> UsageError:
        """A refusal of the field at `path`."""
        field_name = " ".join(filter(None, (self.name(), printable(".".join(map(str, path))))))
        return UsageError.of(Reason.MANIFEST_REFUSED, field_name, found, expected)


def nested(path: Place, entries: str) -> str:
    """`entries` below the names of `path`."""
    for name in reversed(path):
        entries = f"{name}:\n{indented(entries, 2)}"
    return entries


def indented(text: str, columns: int) -> str:
    """Every line of `text`, moved to the right."""
    return "".join(f"{' ' * columns}{line}\n" for line in text.splitlines())
