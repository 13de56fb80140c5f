"""Collateral's JSON: one object with unique names and whole numbers, or a typed refusal."""

from __future__ import annotations

import pytest
from support.tdx import refusal

from toposeal.errors import Reason
from toposeal.evidence.strict_json import parse_object


def test_an_object_is_read_as_it_is() -> None:
    assert parse_object('{"a": [1, {"b": "c"}], "d": null}', "x") == {"a": [1, {"b": "c"}], "d": None}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '"{}"',
        "1",
        "{",
        "{} {}",
        '{"a": 1.0}',
        '{"a": 1e1}',
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1, "a": 2}',
        '{"a": {"b": 1, "b": 1}}',
        '{"a": ' + "1" * 5000 + "}",
        '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
        "{'a': 1}",
        '{"a": -0}',
        '{"a": 9007199254740992}',
        '{"a": "\\ud800"}',
        '{"a": "\ud800"}',
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    assert refusal(parse_object, text, "x") is Reason.COLLATERAL_INVALID
