"""A frame and forms as bytes and back: what the daemon sends to the renderer's child, and its answer. No IO.

Strict in both directions, so that a difference between the two processes is a refusal and not a guess.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from toposeal.errors import LocalProtocolError, Reason

T = TypeVar("T")


def encode(message: object) -> bytes:
    """A dataclass of this package: of others, tuples, strings, bytes and numbers."""
    return json.dumps(_plain(message)).encode("ascii")


def decode(kind: type[T], data: bytes) -> T:
    """Raises LocalProtocolError unless `data` is exactly one encoded `kind`."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _refusal(kind.__name__, type(error).__name__, "JSON") from error
    return _typed(kind, value, kind.__name__)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return b64encode(value).decode("ascii") if isinstance(value, bytes) else value


def _typed(kind: type[T], value: Any, name: str) -> T:
    """`value` as `kind`: a dataclass of this package, a tuple of one element type, or a plain value."""
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        names = [field.name for field in fields(kind)]
        if not isinstance(value, dict) or sorted(value) != sorted(names):
            raise _refusal(name, type(value).__name__, f"{kind.__name__}: {names}")
        return kind(**{n: _typed(hints[n], value[n], f"{name}.{n}") for n in names})
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise _refusal(name, type(value).__name__, "a list")
        element = get_args(kind)[0]
        return kind(_typed(element, item, name) for item in value)  # type: ignore[call-arg]
    if kind is bytes:
        return _decoded(value, name)  # type: ignore[return-value]
    if type(value) is not kind:
        raise _refusal(name, type(value).__name__, kind.__name__)
    return value


def _decoded(value: Any, name: str) -> bytes:
    try:
        return b64decode(value, validate=True)
    except (TypeError, ValueError):
        raise _refusal(name, type(value).__name__, "base64") from None


def _refusal(name: str, found: object, expected: str) -> LocalProtocolError:
    return LocalProtocolError.of(Reason.INTERNAL, name, found, expected)
