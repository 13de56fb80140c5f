"""Answers of a server that nobody trusts: they fit their question, or they are none."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence

import hypothesis
import pytest
from hypothesis import strategies as st

from toposeal.dataplane.dns_client import Kind, question, read_answer
from toposeal.errors import RemoteProtocolError
from toposeal.limits import MAX_DNS_ANSWER, MAX_EGRESS_ADDRESSES

HOST = "api.example.com"
ASKED = question(0xABCD, HOST, Kind.A)
QUERY = b"\x03api\x07example\x03com\x00" + struct.pack("!HH", 1, 1)


def record(address: str, ttl: int = 60, owner: bytes = b"\xc0\x0c", kind: int | None = None) -> bytes:
    data = ipaddress.ip_address(address).packed
    return owner + struct.pack("!HHIH", kind or (1 if len(data) == 4 else 28), 1, ttl, len(data)) + data


def alias(to: bytes) -> bytes:
    return b"\xc0\x0c" + struct.pack("!HHIH", 5, 1, 5, len(to)) + to


def answer(
    *records: bytes, flags: int = 0x8180, ident: int = 0xABCD, query: bytes = QUERY, count: int | None = None
) -> bytes:
    header = struct.pack("!6H", ident, flags, 1, len(records) if count is None else count, 0, 0)
    return header + query + b"".join(records)


def refused(message: bytes) -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        read_answer(message, ASKED)
    return caught.value.mismatches[0].found


def test_a_question_is_one_name_one_kind_and_its_size() -> None:
    header = struct.pack("!6H", 0xABCD, 0x0100, 1, 0, 0, 1)
    assert header + QUERY + b"\x00" + struct.pack("!HHIH", 41, 1232, 0, 0) == ASKED
    assert question(1, HOST, Kind.AAAA)[-15:-11] == struct.pack("!HH", 28, 1)


def test_every_address_counts_and_the_shortest_time() -> None:
    found = read_answer(answer(record("192.0.2.1", 300), record("192.0.2.2", 60), record("192.0.2.1")), ASKED)
    assert found.addresses == ("192.0.2.1", "192.0.2.2")
    assert (found.ttl, found.truncated) == (60, False)


def test_an_alias_is_followed_by_whoever_answers() -> None:
    owner = b"\x03cdn\xc0\x10"
    found = read_answer(answer(alias(owner), record("192.0.2.1", 30, owner)), ASKED)
    assert (found.addresses, found.ttl) == (("192.0.2.1",), 30)


@pytest.mark.parametrize(
    "owner", [QUERY[:-4], b"\x03cdn\xc0\x0c", b"\0"], ids=["spelled out", "half", "root"]
)
def test_names_of_every_form_are_passed_over(owner: bytes) -> None:
    found = read_answer(answer(record("192.0.2.1", owner=owner), record("192.0.2.2")), ASKED)
    assert found.addresses == ("192.0.2.1", "192.0.2.2")


def test_other_kinds_and_sizes_are_left_out() -> None:
    odd = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 3) + b"abc"
    chaos = b"\xc0\x0c" + struct.pack("!HHIH", 1, 3, 60, 4) + b"abcd"
    assert read_answer(answer(record("2001:db8::1"), odd, chaos), ASKED).addresses == ()
    six = question(0xABCD, HOST, Kind.AAAA)
    query = QUERY[:-4] + struct.pack("!HH", 28, 1)
    assert read_answer(answer(record("2001:db8::1"), query=query), six).addresses == ("2001:db8::1",)


def test_a_name_in_another_case_is_the_same() -> None:
    assert read_answer(answer(record("192.0.2.1"), query=QUERY.replace(b"api", b"aPi")), ASKED).addresses


def test_no_record_is_an_answer_too() -> None:
    assert (read_answer(answer(), ASKED).addresses, read_answer(answer(), ASKED).ttl) == ((), 0)


@pytest.mark.parametrize("code", range(1, 16))
def test_an_error_is_no_address(code: int) -> None:
    assert read_answer(answer(record("192.0.2.1"), flags=0x8180 | code), ASKED).addresses == ()


def test_a_truncated_answer_says_so() -> None:
    assert read_answer(answer(flags=0x8380), ASKED).truncated


def test_there_are_not_too_many() -> None:
    records: Sequence[bytes] = [record(f"192.0.2.{n}") for n in range(100)]
    assert len(read_answer(answer(*records), ASKED).addresses) == MAX_EGRESS_ADDRESSES


@pytest.mark.parametrize(
    ("message", "found"),
    [
        (answer(ident=0xABCE), "id 43982"),
        (answer(flags=0x0100), "id 43981"),
        (answer(flags=0xA980), "id 43981"),
        (answer(query=QUERY.replace(b"api", b"apj")), "another question"),
        (answer(query=QUERY[:-4] + struct.pack("!HH", 28, 1)), "another question"),
        (answer(count=1), "a message that ends early"),
        (answer(record("192.0.2.1")[:-1]), "a message that ends early"),
        (answer(b"\x3f"), "a message that ends early"),
        (b"", "a message that ends early"),
        (b"\0" * 5, "a message that ends early"),
        (answer(record("192.0.2.1") * 1, count=65_535), "a message that ends early"),
        (answer() + bytes(MAX_DNS_ANSWER), f"{MAX_DNS_ANSWER + 33} bytes"),
    ],
)
def test_N2_what_does_not_answer_is_refused(message: bytes, found: str) -> None:
    assert refused(message).startswith(found)


@hypothesis.given(
    st.one_of(st.binary(max_size=600), st.binary(max_size=500).map(lambda tail: answer(tail, count=9)))
)
def test_N3_any_bytes_are_an_answer_or_a_refusal(message: bytes) -> None:
    try:
        found = read_answer(message, ASKED)
    except RemoteProtocolError:
        return
    assert all(ipaddress.ip_address(address).version == 4 for address in found.addresses)
