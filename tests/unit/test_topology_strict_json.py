"""JSON has one meaning: whatever two readers could read differently is refused."""

from __future__ import annotations

import json
import time

import pytest
from support.topologies import refusals

from toposeal.errors import Reason, TopologyError
from toposeal.limits import MAX_TOPOLOGY_DEPTH, MAX_VERSION
from toposeal.topology.strict_json import canonical, parse, parse_canonical


def _reason(text: bytes, limit: int = 1 << 20) -> Reason:
    ((reason, field),) = refusals(lambda: parse(text, "x", limit))
    assert field == "x"
    return reason


@pytest.mark.parametrize(
    "text", [b'{"a":[1,{"b":"c"}],"d":true}', b"[]", b'"text"', b"-5", b" [ 1 , 2 ] ", b"null"]
)
def test_ordinary_json_is_read_as_json_reads_it(text: bytes) -> None:
    assert parse(text, "x", 100) == json.loads(text)


@pytest.mark.parametrize("text", [b'{"a":1,"a":1}', b'{"a":{"b":1,"c":2,"b":3}}', b'[[{"a":1,"\\u0061":2}]]'])
def test_T1_a_key_twice_is_refused_at_every_level(text: bytes) -> None:
    assert _reason(text) is Reason.MALFORMED


@pytest.mark.parametrize(
    "number",
    [
        "1.0",
        "1e3",
        "1E3",
        "-0",
        "-0.0",
        "NaN",
        "Infinity",
        "-Infinity",
        str(MAX_VERSION + 1),
        "9" * 5000,
        str(-MAX_VERSION - 1),
        str(2**64 - 1),
        "1" + "0" * 16,
    ],
)
def test_T6_numbers_are_integers_that_every_reader_holds_exactly(number: str) -> None:
    assert _reason(f'{{"version":{number}}}'.encode()) is Reason.MALFORMED


@pytest.mark.parametrize("number", [0, 1, -1, MAX_VERSION, -MAX_VERSION])
def test_integers_within_range_are_kept(number: int) -> None:
    assert parse(str(number).encode(), "x", 100) == number


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b'{"a"}',
        b"[1,]",
        b"01",
        b"+1",
        b"'a'",
        b"[1] x",
        b"\xff",
        b'"\xed\xa0\x80"',
        b'"\x00"',
        b"\xef\xbb\xbf[]",
        b'"\\ud800"',
        b'{"\\udfff":1}',
        b'"unterminated',
        b'"\\',
        b"]",
        "[]".encode("utf-16"),
    ],
)
def test_malformed_text_and_lone_surrogates_are_refused(text: bytes) -> None:
    assert _reason(text) is Reason.MALFORMED


def test_T8_nesting_is_bounded_whatever_strings_hold() -> None:
    deepest = b"[" * MAX_TOPOLOGY_DEPTH + b'"[[[[\\"[[["' + b"]" * MAX_TOPOLOGY_DEPTH
    assert parse(deepest, "x", 100)
    assert _reason(b"[" + deepest + b"]") is Reason.TOO_LARGE
    assert _reason(b'{"a":' * 17 + b"1" + b"}" * 17) is Reason.TOO_LARGE
    assert _reason(b"[" * (1 << 20)) is Reason.TOO_LARGE


def test_T8_size_is_bounded_before_anything_is_read() -> None:
    assert _reason(b"[1]", limit=2) is Reason.TOO_LARGE
    assert parse(b"[1]", "x", 3) == [1]


@pytest.mark.parametrize("unit", [b'\\"', b'"', b"\\", b'"a', b'{"":'])
def test_hostile_text_takes_linear_time(unit: bytes) -> None:
    started = time.monotonic()
    _reason(b'"' + unit * ((1 << 20) // len(unit) - 1) + b"\\")
    assert time.monotonic() - started < 5


def test_many_keys_take_linear_time() -> None:
    text = b"{" + b",".join(b'"%d":1' % i for i in range(80_000)) + b',"0":1}'
    started = time.monotonic()
    assert _reason(text) is Reason.MALFORMED
    assert time.monotonic() - started < 5


def test_canonical_sorts_and_escapes() -> None:
    assert canonical({"b": [1, "é"], "a": {}}) == b'{"a":{},"b":[1,"\\u00e9"]}'


@pytest.mark.parametrize("text", [b'{"b":1,"a":2}', b"[1, 2]", b'"\\/"', b"[1]\n", '"é"'.encode()])
def test_T3_another_spelling_is_not_canonical(text: bytes) -> None:
    assert refusals(lambda: parse_canonical(text, "x", 100)) == {(Reason.NOT_CANONICAL, "x")}


def test_the_canonical_spelling_is_accepted() -> None:
    assert parse_canonical(b'{"a":2,"b":"\\u00e9"}', "x", 100) == {"a": 2, "b": "é"}


def test_canonical_never_writes_a_float_that_json_does_not_know() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        canonical(float("nan"))


def test_refusals_are_safe_for_a_terminal() -> None:
    with pytest.raises(TopologyError) as caught:
        parse(b'{"\\u001b[2J":1,"\\u001b[2J":2}', "x", 100)
    assert "\x1b" not in str(caught.value)
