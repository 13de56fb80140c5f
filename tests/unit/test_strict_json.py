"""One reader of JSON for owners and strangers; its rules are tested where each of them uses it."""

from __future__ import annotations

import pytest

from toposeal.errors import Reason
from toposeal.strict_json import JsonError, canonical, read


def test_a_refusal_says_what_was_found_and_expected() -> None:
    with pytest.raises(JsonError, match="the key 'a' twice, expected every key once") as refused:
        read(b'{"a":1,"a":2}')
    assert (refused.value.reason, refused.value.found) == (Reason.MALFORMED, "the key 'a' twice")


def test_what_is_canonical_is_read_back() -> None:
    value = {"b": [1, None, True], "a": "\u00e9"}
    assert read(canonical(value)) == value
    assert canonical(value) == b'{"a":"\\u00e9","b":[1,null,true]}'


def test_depth_is_bounded_before_anything_is_read() -> None:
    assert read(b"[" * 16 + b"]" * 16)
    with pytest.raises(JsonError) as refused:
        read(b"[" * 17)
    assert refused.value.reason is Reason.TOO_LARGE
