"""A plan as bytes and back: what the daemon sends to the renderer's child, and what comes back. No IO.

Strict in both directions, so that a difference between the two processes is a refusal and not a guess.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from toposeal.dataplane.envoy_plan import PodPlan
from toposeal.dataplane.layout import CLUSTERS_FILE, LISTENERS_FILE
from toposeal.errors import LocalProtocolError, Reason

T = TypeVar("T")


def encode_plan(plan: PodPlan) -> bytes:
    return json.dumps(asdict(plan)).encode("ascii")


def decode_plan(data: bytes) -> PodPlan:
    """Raises LocalProtocolError unless `data` is exactly one encoded plan."""
    return _typed(PodPlan, _parsed(data), "plan")


def encode_files(files: Mapping[str, bytes]) -> bytes:
    return json.dumps({name: data.decode("ascii") for name, data in files.items()}).encode("ascii")


def decode_files(data: bytes) -> dict[str, bytes]:
    """Raises LocalProtocolError unless `data` is exactly one LDS and one CDS file."""
    files = _parsed(data)
    if not isinstance(files, dict) or files.keys() != {CLUSTERS_FILE, LISTENERS_FILE}:
        raise _refusal("files", type(files).__name__, f"{CLUSTERS_FILE} and {LISTENERS_FILE}")
    return {name: _typed(str, text, name).encode("ascii") for name, text in files.items()}


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _refusal("request", type(error).__name__, "JSON") from error


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
    if type(value) is not kind:
        raise _refusal(name, type(value).__name__, kind.__name__)
    return value


def _refusal(name: str, found: object, expected: str) -> LocalProtocolError:
    return LocalProtocolError.of(Reason.INTERNAL, name, found, expected)
