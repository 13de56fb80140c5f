"""A breach of an invariant, by its number in the catalogue."""

from __future__ import annotations


class Violation(AssertionError):
    """An invariant does not hold; `name` is its identifier."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
