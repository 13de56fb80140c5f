"""A member's record in a certificate or a document: its own signatures, and exactly the manifest's entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support.actors import Actor, Bench
from support.certificates import link

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.errors import Reason, RemoteProtocolError
from toposeal.membership.hello import make_hello
from toposeal.membership.records import committed, introduced, record_message, require_equal
from toposeal.membership.signing import Tag

BENCH = Bench({"db": (1, 2), "web": (1, 1)})
A, B = BENCH.actor("db"), BENCH.actor("web")
GENESIS = link(None, 1, [A, B])
HELD = link(GENESIS, 2, [A, B])
MANIFEST, TOPOLOGY = HELD.manifest, BENCH.signed.topology
ENTRY = next(entry for entry in MANIFEST.members if entry.iid == A.iid)
ONE = bytes([1]) * 48


def record(of: Actor = A) -> wire.MemberRecord:
    return record_message(HELD.sealed.member(of.iid))


def refused(call: Callable[[], object]) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as error:
        call()
    return error.value


def offering(**changes: Any) -> wire.MemberRecord:
    """A's record with another HELLO, which A has signed."""
    message = record()
    body = wire.Hello.FromString(message.hello.body)
    for name, value in changes.items():
        setattr(body, name, value)
    message.hello.body = encode(body)
    message.hello.signature = A.own.keys.sign(Tag.HELLO, message.hello.body)
    return message


def test_what_was_sent_is_read_back_with_the_same_values() -> None:
    found = introduced(record(), ENTRY, MANIFEST, TOPOLOGY)
    sealed = HELD.sealed.member(A.iid)
    assert (found.entry, found.signed, found.hello) == (ENTRY, sealed.signed, sealed.hello)
    assert committed(record(), found, MANIFEST) == sealed.commit


def test_P3_a_record_needs_all_of_its_signatures() -> None:
    for name in ("ik_signature", "ca_signature"):
        message = record()
        setattr(message, name, getattr(record(B), name))
        assert refused(lambda: introduced(message, ENTRY, MANIFEST, TOPOLOGY)).reason in (  # noqa: B023
            Reason.SIGNATURE_INVALID,
        )
    message = record()
    message.hello.signature = record(B).hello.signature
    assert refused(lambda: introduced(message, ENTRY, MANIFEST, TOPOLOGY)).reason is Reason.SIGNATURE_INVALID


def test_P8_the_record_of_another_member_is_not_this_ones() -> None:
    error = refused(lambda: introduced(record(B), ENTRY, MANIFEST, TOPOLOGY))
    assert (error.reason, error.mismatches[0].field) == (Reason.MEMBERS_INCOMPLETE, "identity.iid")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"target_epoch": 3}, Reason.STALE_ATTEMPT),
        ({"topology_version": 8}, Reason.TOPOLOGY_MISMATCH),
        ({"topology_digest": ONE}, Reason.TOPOLOGY_MISMATCH),
        ({"previous": bytes(48)}, Reason.MANIFEST_LINEAGE),
        ({"previous": ONE}, Reason.MANIFEST_LINEAGE),
        ({"nonce": bytes([1]) * 32}, Reason.MANIFEST_MISMATCH),
        ({"aux_digest": ONE}, Reason.MANIFEST_MISMATCH),
        ({"sealed": ONE}, Reason.MANIFEST_MISMATCH),
    ],
)
def test_P4_a_hello_of_another_attempt_is_no_offer_for_this_manifest(
    changes: dict[str, Any], reason: Reason
) -> None:
    assert refused(lambda: introduced(offering(**changes), ENTRY, MANIFEST, TOPOLOGY)).reason is reason


@pytest.mark.parametrize("name", ["role", "id_digest", "hello_digest", "ca_digest", "nonce", "aux_digest"])
def test_every_field_of_the_entry_is_what_the_member_offered(name: str) -> None:
    entry = replace(ENTRY, **{name: "web" if name == "role" else ONE})  # type: ignore[arg-type]
    error = refused(lambda: introduced(record(), entry, MANIFEST, TOPOLOGY))
    assert [(m.reason, m.field) for m in error.mismatches] == [
        (Reason.MANIFEST_MISMATCH, f"manifest.members.{name}")
    ]


def test_a_record_of_another_mesh_is_refused() -> None:
    elsewhere = replace(MANIFEST, mesh_id=ONE)
    assert refused(lambda: introduced(record(), ENTRY, elsewhere, TOPOLOGY)).reason is Reason.MESH_MISMATCH


def test_E2_P4_a_commit_to_another_manifest_or_epoch_is_none_to_this_one() -> None:
    found = introduced(record(), ENTRY, MANIFEST, TOPOLOGY)
    for other, field in (
        (replace(MANIFEST, digest=ONE), "commit.manifest_digest"),
        (replace(MANIFEST, epoch=9), "commit.epoch"),
    ):
        error = refused(lambda: committed(record(), found, other))  # noqa: B023
        assert [(m.reason, m.field) for m in error.mismatches] == [(Reason.MANIFEST_MISMATCH, field)]


def test_P3_P8_the_commit_of_a_record_is_its_members_with_both_signatures() -> None:
    found = introduced(record(), ENTRY, MANIFEST, TOPOLOGY)
    message = record()
    message.commit.CopyFrom(record(B).commit)
    assert refused(lambda: committed(message, found, MANIFEST)).reason is Reason.IDENTITY_MISMATCH
    for name in ("ik_signature", "ca_signature"):
        message = record()
        setattr(message.commit, name, getattr(record(B).commit, name))
        error = refused(lambda: committed(message, found, MANIFEST))  # noqa: B023
        assert error.reason is Reason.SIGNATURE_INVALID


def test_everything_that_differs_is_reported_at_once() -> None:
    require_equal(Reason.MALFORMED, ("a", 1, 1))
    error = refused(lambda: require_equal(Reason.MALFORMED, ("a", 1, 2), ("b", 3, 3), ("c", 4, 5)))
    assert [m.field for m in error.mismatches] == ["a", "c"]


def test_a_hello_for_this_manifest_names_its_predecessor() -> None:
    hello = make_hello(
        A.own.keys, A.own.identity, TOPOLOGY, 2, A.hello.nonce, A.own.addresses, previous=GENESIS.digest
    )
    assert hello == A.hello and hello.entry(A.own.identity) == ENTRY
