"""What Envoy's words about a request become; the caller chose some of them."""

from __future__ import annotations

import json

import hypothesis
import pytest
from hypothesis import strategies as st

from toposeal.dataplane.refusals import FIELDS as REFUSAL_FIELDS
from toposeal.dataplane.requests import FIELDS, Request, is_request, parse_request

LINE: dict[str, object] = {
    "chain": "in|8080|m-1.shop",
    "duration": 7,
    "flags": "-",
    "method": "GET",
    "path": "/a",
    "peer": "spiffe://m-1.shop/web",
    "protocol": "HTTP/2",
    "received": 3,
    "sent": 4,
    "source": "10.0.0.9:1",
    "status": 200,
    "waited": 5,
}


def line(**said: object) -> bytes:
    return json.dumps({**LINE, **said}, separators=(",", ":")).encode()


def test_who_asked_for_what_and_what_came_of_it_is_kept() -> None:
    assert parse_request(line()) == Request(
        chain="in|8080|m-1.shop",
        peer="spiffe://m-1.shop/web",
        source="10.0.0.9:1",
        protocol="HTTP/2",
        method="GET",
        path="/a",
        status=200,
        flags="-",
        received=3,
        sent=4,
        duration_ms=7,
        waited_ms=5,
    )


def test_what_envoy_does_not_say_is_empty() -> None:
    found = parse_request(line(peer=None, method=None, path=None, status=None, waited=None))
    assert found is not None
    assert (found.peer, found.method, found.path, found.status, found.waited_ms) == ("", "", "", 0, 0)


@pytest.mark.parametrize("field", ["method", "path", "peer", "source", "chain"])
def test_F4_no_byte_of_a_caller_reaches_a_terminal_as_it_is(field: str) -> None:
    found = parse_request(line(**{field: 'x\x1b[31m\n"\u202eevil' + "y" * 10_000}))
    assert found is not None
    text = "".join((found.method, found.path, found.peer, found.source, found.chain))
    assert text.isascii() and text.isprintable() and len(text) < 1_000


def test_F4_neither_a_query_nor_a_header_is_asked_for() -> None:
    assert [what for what in FIELDS.values() if "REQ(" in what] == ["%REQ(:METHOD):16%"]
    assert [what for what in FIELDS.values() if "PATH" in what] == ["%PATH(NQ:PATH):160%"]


def test_a_line_is_of_a_request_whatever_a_refusal_repeats() -> None:
    assert is_request(line())
    refusal = dict.fromkeys(REFUSAL_FIELDS, 'm"method":x')
    assert not is_request(json.dumps(refusal, separators=(",", ":")).encode())


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b"[]", b"{", b"\xff", b"[" * 100_000, line()[:-1] + b',"more":1}', b"null"],
    ids=["empty", "object", "list", "half", "no UTF-8", "deep", "another field", "null"],
)
def test_what_is_no_line_of_the_log_is_nothing(text: bytes) -> None:
    assert parse_request(text) is None


@hypothesis.given(
    st.one_of(
        st.binary(max_size=200),
        st.fixed_dictionaries({name: st.one_of(st.none(), st.integers(), st.text()) for name in FIELDS}).map(
            lambda value: json.dumps(value).encode()
        ),
    )
)
def test_any_line_is_taken_or_left(text: bytes) -> None:
    found = parse_request(text)
    assert found is None or (found.path.isascii() and found.method.isascii())
