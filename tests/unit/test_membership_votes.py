"""Small signed messages: bodies, signatures, and what they are not good for."""

from __future__ import annotations

from typing import Any

import pytest
from support.actors import Bench

from toposeal._wire import evidence_pb2 as wire_evidence
from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.errors import Reason, RemoteProtocolError
from toposeal.limits import MAX_QUOTE_SIZE
from toposeal.membership.sealed import join_of
from toposeal.membership.signing import Tag, verify_ik
from toposeal.membership.votes import (
    Heartbeat,
    Want,
    commit_message,
    make_heartbeat,
    make_liveness,
    make_propose,
    make_sealed,
    make_want,
    parse_decision,
    parse_heartbeat,
    parse_liveness,
    parse_want,
    verify_commit,
)
from toposeal_lab.simulation.symbolic import symbolic_evidence

BENCH = Bench()
BENCH.gathering()
A, B = BENCH.actor("db"), BENCH.actor("db")
MANIFEST = BENCH.manifest(A)


@pytest.mark.parametrize("tag", [Tag.PING, Tag.PONG])
def test_liveness_names_both_ends_the_nonce_and_the_epoch(tag: Tag) -> None:
    message = make_liveness(A.own.keys, tag, A.iid, B.iid, bytes([9]) * 32, 4)
    verify_ik(A.own.identity.ik, tag, message.body, message.signature)
    found = parse_liveness(message, "ping")
    assert (found.sender, found.receiver, found.nonce, found.target_epoch) == (
        A.iid,
        B.iid,
        bytes([9]) * 32,
        4,
    )


@pytest.mark.parametrize(
    "change",
    [{"sender": b""}, {"receiver": bytes(47)}, {"nonce": bytes(32)}, {"target_epoch": 0}],
)
def test_liveness_fields_have_their_form(change: dict[str, Any]) -> None:
    body = wire.Ping(sender=A.iid, receiver=B.iid, nonce=bytes([1]) * 32, target_epoch=1)
    parse_liveness(wire.Signed(body=encode(body)), "pong")
    for name, value in change.items():
        setattr(body, name, value)
    with pytest.raises(RemoteProtocolError) as error:
        parse_liveness(wire.Signed(body=encode(body)), "pong")
    assert error.value.reason is Reason.MALFORMED
    assert error.value.mismatches[0].field == f"pong.{next(iter(change))}"


def test_a_heartbeat_names_both_ends_its_nonce_what_it_answers_and_what_would_be_followed() -> None:
    beat = Heartbeat(A.iid, B.iid, bytes([1]) * 32, bytes([2]) * 32, MANIFEST.digest)
    message = make_heartbeat(A.own.keys, beat)
    verify_ik(A.own.identity.ik, Tag.HEARTBEAT, message.body, message.signature)
    assert parse_heartbeat(message.body) == beat


@pytest.mark.parametrize(
    "change",
    [{"sender": b""}, {"receiver": bytes(47)}, {"nonce": bytes(32)}, {"answer": bytes(31)}, {"head": b""}],
)
def test_heartbeat_fields_have_their_form(change: dict[str, Any]) -> None:
    """The first heartbeat answers nothing and follows nothing: zeros, but all of them."""
    body = wire.Heartbeat(
        sender=A.iid, receiver=B.iid, nonce=bytes([1]) * 32, answer=bytes(32), head=bytes(48)
    )
    parse_heartbeat(encode(body))
    ((name, value),) = change.items()
    setattr(body, name, value)
    with pytest.raises(RemoteProtocolError) as error:
        parse_heartbeat(encode(body))
    assert (error.value.reason, error.value.mismatches[0].field) == (Reason.MALFORMED, f"heartbeat.{name}")


def test_a_want_names_both_ends_the_manifest_and_the_first_record() -> None:
    want = Want(A.iid, B.iid, MANIFEST.digest, 3)
    message = make_want(A.own.keys, want)
    verify_ik(A.own.identity.ik, Tag.WANT, message.body, message.signature)
    assert parse_want(message.body) == want


@pytest.mark.parametrize("change", [{"sender": b""}, {"receiver": bytes(47)}, {"digest": b""}])
def test_want_fields_have_their_form(change: dict[str, Any]) -> None:
    body = wire.Want(sender=A.iid, receiver=B.iid, digest=MANIFEST.digest)
    assert parse_want(encode(body)).first == 0
    ((name, value),) = change.items()
    setattr(body, name, value)
    with pytest.raises(RemoteProtocolError) as error:
        parse_want(encode(body))
    assert (error.value.reason, error.value.mismatches[0].field) == (Reason.MALFORMED, f"want.{name}")


@pytest.mark.parametrize("change", [{"sender": b""}, {"epoch": 0}, {"manifest_digest": bytes(47)}])
def test_decision_fields_have_their_form(change: dict[str, Any]) -> None:
    body = wire.Decision(sender=A.iid, epoch=1, manifest_digest=MANIFEST.digest)
    assert parse_decision(encode(body), "commit").manifest_digest == MANIFEST.digest
    for name, value in change.items():
        setattr(body, name, value)
    with pytest.raises(RemoteProtocolError) as error:
        parse_decision(encode(body), "commit")
    assert error.value.reason is Reason.MALFORMED


def test_E3_propose_commit_and_sealed_share_a_body_and_no_signature() -> None:
    propose, sealed = (make(A.own.keys, A.iid, MANIFEST) for make in (make_propose, make_sealed))
    commit = A.commit_message(MANIFEST)
    assert propose.body == sealed.body == commit.body
    signatures = {
        Tag.PROPOSE: propose.signature,
        Tag.SEALED: sealed.signature,
        Tag.COMMIT: commit.ik_signature,
    }
    for tag in signatures:
        for other, signature in signatures.items():
            if tag is other:
                verify_ik(A.own.identity.ik, tag, commit.body, signature)
                continue
            with pytest.raises(RemoteProtocolError):
                verify_ik(A.own.identity.ik, tag, commit.body, signature)


def test_a_commit_needs_both_keys_of_its_sender() -> None:
    message = A.commit_message(MANIFEST)
    commit = verify_commit(message, A.own.identity)
    assert commit_message(commit) == message
    for name in ("ik_signature", "ca_signature"):
        broken = wire.Commit()
        broken.CopyFrom(message)
        setattr(broken, name, getattr(B.commit_message(MANIFEST, message.evidence), name))
        with pytest.raises(RemoteProtocolError) as error:
            verify_commit(broken, A.own.identity)
        assert error.value.reason is Reason.SIGNATURE_INVALID


def test_P8_a_commit_is_only_its_senders() -> None:
    with pytest.raises(RemoteProtocolError) as error:
        verify_commit(A.commit_message(MANIFEST), B.own.identity)
    assert error.value.reason is Reason.IDENTITY_MISMATCH


def test_oversized_evidence_is_refused_although_it_is_under_no_signature() -> None:
    huge = wire_evidence.Evidence(tee=wire_evidence.TDX, quote=bytes(MAX_QUOTE_SIZE + 1))
    with pytest.raises(RemoteProtocolError) as error:
        verify_commit(A.commit_message(MANIFEST, huge), A.own.identity)
    assert error.value.reason is Reason.TOO_LARGE
    small = symbolic_evidence(join_of(A.own.identity), "db")
    assert verify_commit(A.commit_message(MANIFEST, small), A.own.identity).evidence == small
