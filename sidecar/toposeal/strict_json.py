"""JSON with one meaning and, where asked, one spelling: text to plain values. No IO.

What two readers could read differently is refused: a key twice in one object, any number that is not an
integer within +-(2^53 - 1), minus zero, a lone surrogate. `topology.strict_json` and `evidence.strict_json`
name the field and say whose fault it is.
"""

from __future__ import annotations

import json
import re
from typing import NoReturn

from toposeal.errors import Reason
from toposeal.limits import MAX_TOPOLOGY_DEPTH, MAX_VERSION

# A whole string, terminated or not: a single pass whatever the input.
_STRING = re.compile(r'"(?:[^"\\]++|\\.?)*+(?:"|\Z)', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")
_STEP = {"[": 1, "{": 1, "]": -1, "}": -1}
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,15})", re.ASCII)


class JsonError(ValueError):
    """Why a text is refused: MALFORMED or TOO_LARGE, what was found, what was expected."""

    def __init__(self, reason: Reason, found: str, expected: str) -> None:
        super().__init__(f"{found}, expected {expected}")
        self.reason = reason
        self.found = found
        self.expected = expected


def read(data: bytes, depth: int = MAX_TOPOLOGY_DEPTH) -> object:
    """The value that `data`, UTF-8, spells in at most `depth` levels. Raises JsonError.

    The size is the caller's to bound: the work grows with it and nothing else.
    """
    try:
        text = data.decode("utf-8")
        _check_depth(text, depth)
        value: object = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_int=_integer,
            parse_float=_no_float,
            parse_constant=_no_float,
        )
        if "\\u" in text:  # nothing else can spell a lone surrogate
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeError as error:
        raise JsonError(Reason.MALFORMED, str(error), "Unicode text in UTF-8") from error
    except json.JSONDecodeError as error:
        found = f"{error.msg} at line {error.lineno} column {error.colno}"
        raise JsonError(Reason.MALFORMED, found, "JSON") from error
    return value


def canonical(value: object) -> bytes:
    """The one spelling of `value`: sorted keys, no spaces, everything beyond ASCII escaped."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _check_depth(text: str, limit: int) -> None:
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += _STEP[bracket]
        if depth > limit:
            found = f"nesting deeper than {limit}"
            raise JsonError(Reason.TOO_LARGE, found, "fewer levels")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value: dict[str, object] = {}
    for key, item in pairs:
        if key in value:
            raise JsonError(Reason.MALFORMED, f"the key {key!r} twice", "every key once")
        value[key] = item
    return value


def _integer(digits: str) -> int:
    if _INTEGER.fullmatch(digits) is None or digits == "-0" or abs(int(digits)) > MAX_VERSION:
        raise JsonError(Reason.MALFORMED, digits, f"an integer of at most {MAX_VERSION}")
    return int(digits)


def _no_float(digits: str) -> NoReturn:
    raise JsonError(Reason.MALFORMED, digits, "an integer without fraction or exponent")
