"""Chance as a function of a seed and a label, so that one chance does not depend on any other."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from struct import Struct
from typing import TypeVar

T = TypeVar("T")
_WORDS = Struct("<8Q")
_SCALE = 1.0 / (1 << 64)


def draws(*label: object) -> tuple[float, ...]:
    """Eight numbers in [0, 1) of this very label."""
    a, b, c, d, e, f, g, h = _WORDS.unpack(blake2b(repr(label).encode()).digest())
    x = _SCALE
    return (a * x, b * x, c * x, d * x, e * x, f * x, g * x, h * x)


class Dice:
    """An endless stream of its label alone, with the methods of `random.Random` that are needed here."""

    def __init__(self, *label: object) -> None:
        self._key = blake2b(repr(label).encode(), digest_size=32).digest()
        self._count = 0

    def randbytes(self, size: int) -> bytes:
        """Pseudorandom bytes for things of which nothing is secret here."""
        found = b""
        while len(found) < size:
            found += self._block()
        return found[:size]

    def random(self) -> float:
        """In [0, 1)."""
        return int.from_bytes(self._block()[:8], "little") * _SCALE

    def randint(self, low: int, high: int) -> int:
        """From `low` to `high`, both included."""
        return low + int(self.random() * (high - low + 1))

    def randrange(self, stop: int) -> int:
        return self.randint(0, stop - 1)

    def choice(self, values: Sequence[T]) -> T:
        return values[self.randrange(len(values))]

    def _block(self) -> bytes:
        self._count += 1
        return blake2b(self._count.to_bytes(8, "big"), key=self._key).digest()
