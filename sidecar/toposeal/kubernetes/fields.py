"""A value of a manifest and where it is: of the form that its reader needs, or refused by name. No IO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toposeal.errors import UsageError, printable
from toposeal.kubernetes.manifest import Document
from toposeal.kubernetes.object import Path


@dataclass(frozen=True, eq=False)
class Field:
    """What is at `path` of `document`, None where nothing is. Methods raise UsageError for another form."""

    document: Document
    path: Path
    value: Any

    def at(self, *names: str) -> Field:
        """What `names` lead to."""
        here = self
        for name in names:
            here = Field(self.document, (*here.path, name), here.mapping().get(name))
        return here

    def mapping(self) -> Mapping[Any, Any]:
        """Empty where there is none."""
        if self.value is not None and not isinstance(self.value, dict):
            raise self.refused("a mapping")
        return self.value or {}

    def items(self) -> list[Field]:
        """Of a list; none where there is none."""
        if self.value is not None and not isinstance(self.value, list):
            raise self.refused("a list")
        *before, last = self.path
        return [
            Field(self.document, (*before, f"{last}[{index}]"), item)
            for index, item in enumerate(self.value or [])
        ]

    def text(self) -> str | None:
        """None where there is none."""
        if self.value is not None and not isinstance(self.value, str):
            raise self.refused("text")
        return self.value

    def number(self, low: int, high: int) -> int | None:
        """Within inclusive bounds; None where there is none."""
        if self.value is not None and (type(self.value) is not int or not low <= self.value <= high):
            raise self.refused(f"an integer from {low} to {high}")
        return self.value

    def labels(self) -> Mapping[str, str]:
        """Empty where there are none."""
        found = self.mapping()
        if not all(isinstance(text, str) for pair in found.items() for text in pair):
            raise self.refused("text under names that are text")
        return found

    def only(self, *names: str) -> None:
        """Refuse every name but `names`: what is not known may mean the opposite."""
        for name in self.mapping():
            if name not in names:
                raise Field(self.document, (*self.path, str(name)), name).refused(
                    f"one of {', '.join(names)}"
                )

    def refused(self, expected: str) -> UsageError:
        """A refusal of this value."""
        forms = {dict: "a mapping", list: "a list", type(None): "nothing"}
        found = forms.get(type(self.value)) or printable(self.value)
        return self.document.refused(self.path, found, expected)
