"""HELLO: one canonical body per attempt, signed, with addresses that a peer may safely dial."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.actors import Actor, Bench

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import digest, encode
from toposeal.errors import Reason, RemoteProtocolError
from toposeal.limits import MAX_ADDRESSES, MAX_EPOCH
from toposeal.membership.hello import Hello, check_addresses, make_hello, peek_id_digest, verify_hello
from toposeal.membership.signing import Tag

BENCH = Bench()
A, B = BENCH.actor("db"), BENCH.actor("db")


def body(**changes: Any) -> bytes:
    message = wire.Hello.FromString(A.hello.body)
    for name, value in changes.items():
        if name == "addresses":
            del message.addresses[:]
            message.addresses.extend(value)
        else:
            setattr(message, name, value)
    return encode(message)


def verify(data: bytes, signature: bytes | None = None, actor: Actor = A) -> Hello:
    signature = A.own.keys.sign(Tag.HELLO, data) if signature is None else signature
    return verify_hello(data, signature, actor.own.identity)


def refused(call: Callable[[], object]) -> Reason:
    with pytest.raises(RemoteProtocolError) as error:
        call()
    return error.value.reason


def test_what_was_made_is_read_back_with_the_same_values() -> None:
    hello = verify(body())
    assert hello == A.hello
    assert hello.hello_digest == digest("toposeal/v1/hello", body())
    entry = hello.entry(A.own.identity)
    assert (entry.iid, entry.nonce, entry.hello_digest) == (A.iid, hello.nonce, hello.hello_digest)
    assert entry.ca_digest == A.own.identity.ca.ca_digest


def test_every_field_is_under_the_signature() -> None:
    changes: list[dict[str, Any]] = [
        {"topology_version": 8},
        {"topology_digest": bytes([1]) * 48},
        {"target_epoch": 2},
        {"nonce": bytes([1]) * 32},
        {"addresses": ["10.9.9.9"]},
        {"sealed": bytes([1]) * 48},
        {"previous": bytes([1]) * 48},
    ]
    for change in changes:
        verify(body(**change))
        assert refused(lambda: verify(body(**change), A.hello.signature)) is Reason.SIGNATURE_INVALID  # noqa: B023


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"topology_version": 0}, Reason.MALFORMED),
        ({"topology_digest": bytes(47)}, Reason.MALFORMED),
        ({"target_epoch": 0}, Reason.MALFORMED),
        ({"target_epoch": MAX_EPOCH + 1}, Reason.MALFORMED),
        ({"nonce": bytes(32)}, Reason.MALFORMED),
        ({"nonce": bytes([1]) * 31}, Reason.MALFORMED),
        ({"aux_digest": b""}, Reason.MALFORMED),
        ({"sealed": b""}, Reason.MALFORMED),
        ({"previous": bytes(47)}, Reason.MALFORMED),
        ({"id_digest": bytes([1]) * 48}, Reason.IDENTITY_MISMATCH),
    ],
)
def test_each_field_has_its_form(change: dict[str, Any], reason: Reason) -> None:
    assert refused(lambda: verify(body(**change))) is reason


def test_P1_a_hello_of_one_member_is_not_one_of_another() -> None:
    assert refused(lambda: verify(body(), A.hello.signature, B)) is Reason.IDENTITY_MISMATCH
    theirs = B.hello.body
    assert refused(lambda: verify(theirs, A.own.keys.sign(Tag.HELLO, theirs), B)) is Reason.SIGNATURE_INVALID


def test_the_claimed_identity_can_be_read_before_the_signature() -> None:
    assert peek_id_digest(A.hello.body) == A.own.identity.id_digest
    assert refused(lambda: peek_id_digest(b"\x0a\x01\x01")) is Reason.MALFORMED
    assert refused(lambda: peek_id_digest(bytes(2000))) is Reason.TOO_LARGE


GOOD_ADDRESSES = ("10.0.0.1", "192.168.1.2", "100.64.0.1", "203.0.113.9", "fd00::1", "2001:db8::1")
BAD_ADDRESSES = (
    # Hostnames and other spellings.
    "", "db", "db.shop.svc", "localhost", "10.0.0.1:443", "10.0.0.01", "0x0a000001", "167772161",
    "10.0.0.1 ", "\uff11.2.3.4", "FD00::1", "fd00:0::1", "[fd00::1]", "fd00::1%eth0", "fe80::1%eth0",
    # The pod itself, its host, its network.
    "127.0.0.1", "127.8.8.8", "::1", "0.0.0.0", "::", "169.254.0.1", "fe80::1", "224.0.0.1", "ff02::1",
    "255.255.255.255", "240.0.0.1", "240.10.0.1", "0.0.0.1", "0.255.0.1", "fec0::1", "feff::1",
    # Instance metadata.
    "169.254.169.254", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192",
    # The same in IPv6 clothes.
    "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::a9fe:a9fe", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1",
    "2002:a9fe:a9fe::1",
)  # fmt: skip


def test_P5_addresses_of_pods_are_taken() -> None:
    assert check_addresses(GOOD_ADDRESSES) == GOOD_ADDRESSES
    assert len(check_addresses([f"10.0.0.{n}" for n in range(MAX_ADDRESSES)])) == MAX_ADDRESSES


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_P5_a_peer_cannot_make_us_dial_anything_else(address: str) -> None:
    assert refused(lambda: check_addresses(["10.0.0.1", address])) is Reason.ADDRESS_REFUSED
    assert refused(lambda: verify(body(addresses=[address]))) is Reason.ADDRESS_REFUSED


@pytest.mark.parametrize("addresses", [[], ["10.0.0.1"] * 2, [f"10.0.0.{n}" for n in range(9)]])
def test_P5_none_too_many_and_repeated_addresses_are_refused(addresses: list[str]) -> None:
    assert refused(lambda: check_addresses(addresses)) is Reason.ADDRESS_REFUSED


def test_P5_ten_thousand_addresses_are_refused_by_size() -> None:
    many = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(10_000)]
    assert refused(lambda: verify(body(addresses=many))) is Reason.TOO_LARGE


def test_our_own_addresses_pass_the_same_check() -> None:
    own = A.own
    for addresses in ((), ("127.0.0.1",)):
        with pytest.raises(RemoteProtocolError):
            make_hello(own.keys, own.identity, BENCH.signed.topology, 1, bytes([1]) * 32, addresses)
