"""JSON from strangers: `toposeal.strict_json` with refusals of evidence. No IO; callers bound the size."""

from __future__ import annotations

from typing import Any

from toposeal import strict_json
from toposeal.errors import EvidenceError, Reason


def parse_object(text: str, field: str) -> dict[str, Any]:
    """Parse `text` as one JSON object. Raises EvidenceError(COLLATERAL_INVALID) naming `field`."""
    value = parse_value(text, field)
    if not isinstance(value, dict):
        raise EvidenceError.of(Reason.COLLATERAL_INVALID, field, type(value).__name__, "an object")
    return value


def parse_value(text: str, field: str) -> Any:
    """Parse `text` as any one JSON value. Raises EvidenceError(COLLATERAL_INVALID) naming `field`."""
    try:
        return strict_json.read(text.encode("utf-8", "surrogatepass"))
    except strict_json.JsonError as error:
        raise EvidenceError.of(Reason.COLLATERAL_INVALID, field, error.found, error.expected) from error
