"""JSON from strangers: one bounded object, every name once, no number but an integer. No IO.

Stricter than the readers behind it on purpose: what two parsers could read differently is refused.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from toposeal.errors import EvidenceError, Reason


def parse_object(text: str, field: str) -> dict[str, Any]:
    """Parse `text` as one JSON object. Raises EvidenceError(COLLATERAL_INVALID) naming `field`."""
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_float=_refuse, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise EvidenceError.of(Reason.COLLATERAL_INVALID, field, error, "strict JSON") from error
    if not isinstance(value, dict):
        raise EvidenceError.of(Reason.COLLATERAL_INVALID, field, type(value).__name__, "an object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a repeated name")
    return value


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"the number {text}")
