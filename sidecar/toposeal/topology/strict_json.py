"""JSON with one meaning and, where asked, one spelling: bytes to plain values. No IO."""

from __future__ import annotations

import json
import re
from typing import NoReturn

from toposeal.errors import Reason, TopologyError
from toposeal.limits import MAX_TOPOLOGY_DEPTH, MAX_VERSION

# A whole string, terminated or not, or one bracket: a single pass whatever the input.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.?)*+(?:"|\Z)|[\[\]{}]', re.DOTALL)
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,15})", re.ASCII)


def parse(data: bytes, field: str, limit: int) -> object:
    """Parse at most `limit` bytes of UTF-8 JSON, or raise TopologyError naming `field`.

    Refused besides malformed text: a key twice in one object, any number that is not an integer
    within +-(2^53 - 1), minus zero, a lone surrogate, more than MAX_TOPOLOGY_DEPTH levels.
    """
    if len(data) > limit:
        raise TopologyError.of(Reason.TOO_LARGE, field, f"{len(data)} bytes", f"at most {limit}")
    try:
        text = data.decode("utf-8")
        _check_depth(text, field)
        value: object = json.loads(
            text,
            object_pairs_hook=lambda pairs: _unique(pairs, field),
            parse_int=lambda digits: _integer(digits, field),
            parse_float=lambda digits: _no_float(digits, field),
            parse_constant=lambda name: _no_float(name, field),
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeError as error:
        raise TopologyError.of(Reason.MALFORMED, field, error, "Unicode text in UTF-8") from error
    except json.JSONDecodeError as error:
        found = f"{error.msg} at line {error.lineno} column {error.colno}"
        raise TopologyError.of(Reason.MALFORMED, field, found, "JSON") from error
    return value


def parse_canonical(data: bytes, field: str, limit: int) -> object:
    """Parse as `parse` does, and demand that `data` is exactly `canonical` of what it says."""
    value = parse(data, field, limit)
    if canonical(value) != data:
        expected = "canonical JSON: sorted keys, no spaces, ASCII"
        raise TopologyError.of(Reason.NOT_CANONICAL, field, "another spelling", expected)
    return value


def canonical(value: object) -> bytes:
    """The one spelling of `value`: sorted keys, no spaces, everything beyond ASCII escaped."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _check_depth(text: str, field: str) -> None:
    depth = 0
    for token in _TOKEN.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth > MAX_TOPOLOGY_DEPTH:
            raise TopologyError.of(
                Reason.TOO_LARGE, field, f"nesting deeper than {MAX_TOPOLOGY_DEPTH}", "fewer levels"
            )


def _unique(pairs: list[tuple[str, object]], field: str) -> dict[str, object]:
    value: dict[str, object] = {}
    for key, item in pairs:
        if key in value:
            raise TopologyError.of(Reason.MALFORMED, field, f"the key {key!r} twice", "every key once")
        value[key] = item
    return value


def _integer(digits: str, field: str) -> int:
    if _INTEGER.fullmatch(digits) is None or digits == "-0" or abs(int(digits)) > MAX_VERSION:
        raise TopologyError.of(Reason.MALFORMED, field, digits, f"an integer of at most {MAX_VERSION}")
    return int(digits)


def _no_float(digits: str, field: str) -> NoReturn:
    raise TopologyError.of(Reason.MALFORMED, field, digits, "an integer without fraction or exponent")
