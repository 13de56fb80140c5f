"""The vectors in tests/wycheproof, and who disagrees with them."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "wycheproof"
Verifier = Callable[[bytes, bytes, bytes], bool]  # key, message, signature


@dataclass(frozen=True)
class Signed:
    """One signature; `result` is valid, invalid, or acceptable: either will do."""

    number: int
    result: str
    key: bytes  # SubjectPublicKeyInfo
    message: bytes
    signature: bytes


@dataclass(frozen=True)
class Key:
    """One SubjectPublicKeyInfo."""

    number: int
    result: str
    key: bytes


@cache
def signatures(name: str) -> tuple[Signed, ...]:
    return tuple(
        Signed(number, result, bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature))
        for key, tests in _lines(name)
        for number, result, message, signature in tests
    )


@cache
def keys(name: str) -> tuple[Key, ...]:
    return tuple(Key(number, result, bytes.fromhex(key)) for number, result, key in _lines(name))


def disagreements(name: str, verifier: Verifier) -> list[tuple[int, str]]:
    """Vectors that are valid and not accepted, or invalid and accepted."""
    wanted = {"valid": True, "invalid": False}
    return [
        (each.number, each.result)
        for each in signatures(name)
        if wanted.get(each.result) not in (None, verifier(each.key, each.message, each.signature))
    ]


def _lines(name: str) -> Iterator[Any]:
    for line in lzma.decompress((FOLDER / f"{name}.jsonl.xz").read_bytes()).splitlines():
        yield json.loads(line)
