"""States, proof values and the envelopes made from them: small facts that the rest relies on."""

from __future__ import annotations

import dataclasses

import pytest
from support.actors import Bench

from toposeal._wire import peer_pb2 as wire
from toposeal.errors import LocalProtocolError, Reason
from toposeal.membership import events, outbox, state
from toposeal.membership.sealed import check_verified, join_of
from toposeal.membership.state import Active, Committed, Sealed, attempt_of, sealed_of, superseded
from toposeal.verification.model import VerifiedEvidence
from toposeal_lab.simulation.invariants import deep_fingerprint
from toposeal_lab.simulation.network import sent_kind
from toposeal_lab.simulation.symbolic import symbolic_evidence


def test_every_state_event_and_effect_is_frozen() -> None:
    for module in (state, events):
        for name, kind in vars(module).items():
            if dataclasses.is_dataclass(kind) and isinstance(kind, type):
                assert kind.__dataclass_params__.frozen, name  # type: ignore[attr-defined]


def test_a_peer_is_found_by_iid_and_by_id_digest_or_not_at_all() -> None:
    bench = Bench().gathering()
    actor = bench.actor("db")
    before = bench.member
    bench.receive(actor.introduction())
    assert bench.member.by_id_digest == {actor.own.identity.id_digest: actor.iid}
    assert before.peers == {} and before.by_id_digest == {}
    gone = bench.member.without_peer(actor.iid)
    assert gone.peers == {} and gone.by_id_digest == {}
    assert gone.without_peer(actor.iid) == gone


def test_T4_whoever_measures_no_floor_takes_any_version_that_a_topology_may_have() -> None:
    assert Bench().own.min_version == 1


def test_attempt_and_sealed_manifest_are_those_of_the_phase() -> None:
    bench = Bench()
    assert attempt_of(bench.member.phase) is None and sealed_of(bench.member.phase) is None
    bench.gathering()
    attempt = attempt_of(bench.member.phase)
    assert attempt is not None and attempt.epoch == bench.member.last_epoch == 1
    bench.active(bench.actor("db"))
    assert isinstance(bench.member.phase, Active)
    assert sealed_of(bench.member.phase) is bench.member.phase.sealed
    assert attempt_of(bench.member.phase) is None


def test_who_has_sealed_nothing_has_nothing_that_a_newer_topology_supersedes() -> None:
    assert not superseded(Bench().gathering().member)


def test_a_sealed_manifest_knows_its_members_and_no_others() -> None:
    bench = Bench().gathering()
    actor = bench.actor("db")
    bench.active(actor)
    sealed = sealed_of(bench.member.phase)
    assert sealed is not None
    assert sealed.iids == {bench.own.iid, actor.iid}
    assert sealed.member(actor.iid).identity == actor.own.identity
    with pytest.raises(KeyError):
        sealed.member(bytes(48))


def test_a_second_wall_behind_the_verifier() -> None:
    bench = Bench()
    binding = join_of(bench.own.identity)
    check_verified(VerifiedEvidence("tdx", "web", binding, "UpToDate", (), bytes(16), 0), binding)
    with pytest.raises(LocalProtocolError) as error:
        check_verified(VerifiedEvidence("tdx", "db", binding, "UpToDate", (), bytes(16), 0), binding)
    assert error.value.reason is Reason.ROLE_MISMATCH


# Envelopes.


def test_nothing_is_announced_before_there_is_evidence_and_an_attempt() -> None:
    bench = Bench()
    assert outbox.introduction(bench.member) is None and outbox.announce(bench.member, None) == ()
    bench.gathering()
    data = outbox.introduction(bench.member)
    assert data is not None and sent_kind(data) == "introduction"
    message = wire.Envelope.FromString(data).introduction
    attempt = attempt_of(bench.member.phase)
    assert attempt is not None and message.hello.body == attempt.hello.body
    assert message.join == symbolic_evidence(join_of(bench.own.identity), "web")
    without = dataclasses.replace(bench.member, join=None)
    assert outbox.introduction(without) is None


def test_nonces_of_pings_differ_by_attempt_peer_and_number() -> None:
    bench = Bench().gathering()
    a, b = bench.actor("db"), bench.actor("db")
    bench.meet(a, b)
    attempt = attempt_of(bench.member.phase)
    assert attempt is not None
    other = dataclasses.replace(attempt, ping_secret=bytes(32))
    peers = [bench.member.peers[x.iid] for x in (a, b)]
    nonces = {outbox.ping_nonce(t, p, n) for t in (attempt, other) for p in peers for n in (1, 2)}
    assert len(nonces) == 8 and {len(n) for n in nonces} == {32}


def test_messages_go_to_known_peers_at_the_addresses_of_their_hello() -> None:
    bench = Bench().gathering()
    actor = bench.actor("db")
    bench.meet(actor)
    sends = outbox.to_peers(bench.member, [actor.iid, bytes(48)], b"data")
    assert sends == (events.Send(actor.iid, actor.hello.addresses, b"data"),)


def test_votes_are_those_of_the_phase() -> None:
    bench = Bench().gathering()
    actor = bench.actor("db")
    manifest = bench.committed(actor)
    assert isinstance(bench.member.phase, Committed)
    assert outbox.votes(bench.member, bench.member.phase) == ()
    bench.appraise(bench.quote(bench.last(events.Quote)))
    assert isinstance(bench.member.phase, Committed)
    assert [sent_kind(v) for v in outbox.votes(bench.member, bench.member.phase)] == ["commit"]
    bench.appraise(bench.receive(actor.commit(manifest)))
    assert isinstance(bench.member.phase, Sealed)
    assert [sent_kind(v) for v in outbox.votes(bench.member, bench.member.phase)] == ["commit", "sealed"]


def test_the_fingerprint_of_these_tests_sees_a_change_deep_inside() -> None:
    bench = Bench().gathering()
    bench.meet(bench.actor("db"))
    before = deep_fingerprint(bench.member)
    assert bench.member.join is not None
    bench.member.join.quote += b"x"
    assert deep_fingerprint(bench.member) != before
