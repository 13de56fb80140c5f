"""The owner's JSON: `toposeal.strict_json` with the owner's refusals, and a bound on its size. No IO."""

from __future__ import annotations

from toposeal import strict_json
from toposeal.errors import Reason, TopologyError
from toposeal.strict_json import canonical

__all__ = ["canonical", "parse", "parse_canonical"]


def parse(data: bytes, field: str, limit: int) -> object:
    """Parse at most `limit` bytes of UTF-8 JSON, or raise TopologyError naming `field`."""
    if len(data) > limit:
        raise TopologyError.of(Reason.TOO_LARGE, field, f"{len(data)} bytes", f"at most {limit}")
    try:
        return strict_json.read(data)
    except strict_json.JsonError as error:
        raise TopologyError.of(error.reason, field, error.found, error.expected) from error


def parse_canonical(data: bytes, field: str, limit: int) -> object:
    """Parse as `parse` does, and demand that `data` is exactly `canonical` of what it says."""
    value = parse(data, field, limit)
    if canonical(value) != data:
        expected = "canonical JSON: sorted keys, no spaces, ASCII"
        raise TopologyError.of(Reason.NOT_CANONICAL, field, "another spelling", expected)
    return value
