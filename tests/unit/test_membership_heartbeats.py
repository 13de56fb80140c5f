"""HEARTBEAT: who is sent one, and what one that comes says (PROTOCOL.md 4.8)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.actors import Bench, kinds, of
from support.beating import BEAT, LEASE, ONE, PING, ROLES, Mesh, beats
from support.certificates import link

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.errors import Reason
from toposeal.evidence.binding import ZERO_DIGEST
from toposeal.limits import MAX_CANDIDATES_PER_ROLE
from toposeal.membership.events import Announce, Send
from toposeal.membership.heads import look_ahead
from toposeal.membership.heartbeats import beat_all
from toposeal.membership.signing import Tag, verify_ik
from toposeal_lab.simulation.network import sent_kind
from toposeal_lab.simulation.symbolic import signed_topology


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


# Sending.


def test_every_member_is_sent_a_heartbeat_in_each_period(mesh: Mesh) -> None:
    effects = mesh.bench.tick()
    assert sorted(s.iid for s in of(effects, Send)) == sorted(actor.iid for actor in mesh.dbs)
    assert mesh.bench.tick(BEAT - 1) == []
    assert len(beats(mesh.bench.tick(1))) == 3


def test_a_heartbeat_says_what_we_would_follow_and_is_signed(mesh: Mesh) -> None:
    (send,) = [s for s in of(mesh.bench.tick(), Send) if s.iid == mesh.dbs[0].iid]
    signed = wire.Envelope.FromString(send.data).heartbeat
    verify_ik(mesh.bench.own.identity.ik, Tag.HEARTBEAT, signed.body, signed.signature)
    body = wire.Heartbeat.FromString(signed.body)
    assert (body.sender, body.receiver) == (mesh.bench.own.iid, mesh.dbs[0].iid)
    assert (body.head, body.answer) == (mesh.manifest.digest, bytes(32))


def test_a_heartbeat_answers_the_receivers_last_one(mesh: Mesh) -> None:
    mesh.bench.tick()
    mesh.bench.receive(
        mesh.dbs[0].heartbeat(mesh.bench.own.iid, mesh.bench.last_beat(mesh.dbs[0]).nonce, nonce=ONE)
    )
    (body,) = beats(mesh.bench.tick(BEAT), mesh.dbs[0])
    assert body.answer == ONE


def test_K7_no_two_heartbeats_have_one_nonce(mesh: Mesh) -> None:
    effects = mesh.advance(5 * BEAT, mesh.dbs[0])
    nonces = [body.nonce for body in beats(effects)]
    assert len(nonces) > 12 and len(set(nonces)) == len(nonces)


def test_S3_who_has_committed_follows_nothing_newer_until_that_is_decided(mesh: Mesh) -> None:
    mesh.bench.committed(*mesh.dbs)
    genesis = mesh.bench.member.chain[mesh.manifest.digest]
    mesh.bench.hold(link(genesis, 9, mesh.everybody))
    assert {body.head for body in beats(mesh.bench.tick())} <= {mesh.manifest.digest}


def test_newcomers_that_know_of_no_mesh_exchange_none() -> None:
    bench = Bench(ROLES).gathering()
    effects = bench.meet(bench.actor("db"), bench.actor("web"))
    assert beats(effects) == beats(bench.tick()) == []


def test_a_newcomer_beats_to_whoever_has_a_mesh() -> None:
    bench = Bench(ROLES).gathering()
    one, other = bench.actor("db"), bench.actor("db")
    bench.meet(one, other)
    held = link(None, 1, [one])
    bench.hold(held)
    bench.receive(one.heartbeat(bench.own.iid))
    bench.beat(one, held.digest)
    assert {s.iid for s in of(bench.tick(), Send) if sent_kind(s.data) == "heartbeat"} == {
        one.iid,
        other.iid,
    }


def test_a_newcomer_beats_to_who_follows_what_it_does_not_hold_yet() -> None:
    bench = Bench(ROLES).gathering()
    one, other = bench.actor("db"), bench.actor("db")
    bench.meet(one, other)
    bench.receive(one.heartbeat(bench.own.iid))
    bench.beat(one, ONE + bytes(16))
    effects = beat_all(bench.member, bench.now)[1]
    assert [s.iid for s in of(effects, Send) if sent_kind(s.data) == "heartbeat"] == [one.iid]


def test_whom_the_newest_topology_does_not_admit_follows_nothing_newer(mesh: Mesh) -> None:
    genesis = mesh.bench.member.chain[mesh.manifest.digest]
    mesh.bench.hold(link(genesis, 9, mesh.everybody))
    mesh.bench.member = replace(mesh.bench.member, accepted=ZERO_DIGEST)
    effects = beat_all(mesh.bench.member, mesh.bench.now)[1]
    assert {body.head for body in beats(effects)} == {mesh.manifest.digest}


def test_a_newcomer_is_greeted_with_a_heartbeat_where_there_is_a_mesh(mesh: Mesh) -> None:
    newcomer = mesh.bench.actor("db")
    (body,) = beats(mesh.bench.meet(newcomer), newcomer)
    assert body.head == mesh.manifest.digest


def test_a_heartbeat_before_admission_is_answered_at_admission() -> None:
    bench = Bench(ROLES).gathering()
    actor = bench.actor("db")
    pending = bench.receive(actor.introduction())
    nonce = bytes(31) + b"\1"  # a byte of one may be zero
    bench.receive(actor.heartbeat(bench.own.iid, nonce=nonce))
    (body,) = beats(bench.appraise(pending), actor)
    assert (body.answer, body.head) == (nonce, ZERO_DIGEST)


def test_P5_nothing_is_sent_to_a_stranger(mesh: Mesh) -> None:
    stranger = mesh.bench.actor("db")
    mesh.bench.receive(stranger.introduction())
    assert mesh.bench.receive(stranger.heartbeat(mesh.bench.own.iid)) == []
    assert beats(mesh.bench.tick(), stranger) == []


def test_who_goes_by_another_topology_is_sent_some_too(mesh: Mesh) -> None:
    """It may have our topology in a moment, or we its; until then leases have to last."""
    other = mesh.bench.actor("db", signed=signed_topology(ROLES, version=6))
    mesh.bench.meet(other)
    assert len(beats(mesh.bench.tick(), other)) == 1


@pytest.mark.parametrize(("silent", "sent"), [(1, ["heartbeat"]), (2, ["introduction", "heartbeat"])])
def test_who_leaves_two_heartbeats_unanswered_may_not_know_us(
    mesh: Mesh, silent: int, sent: list[str]
) -> None:
    for actor in mesh.dbs[:2]:
        mesh.bench.member = mesh.bench.member.with_peer(replace(mesh.peer(actor), silent=silent))
    effects = mesh.bench.tick(BEAT)
    assert [kinds(effects, actor.iid) for actor in mesh.dbs] == [sent, sent, ["heartbeat"]]


def test_who_is_suspended_introduces_itself_to_everybody_once_more(mesh: Mesh) -> None:
    """Those who serve on may have forgotten it."""
    assert of(mesh.bench.tick(BEAT), Announce) == []
    mesh.advance(LEASE)
    assert mesh.bench.member.suspended_at is not None
    (announced,) = of(mesh.bench.tick(BEAT), Announce)
    assert [sent_kind(data) for data in announced.messages] == ["introduction"]


def test_P12_who_is_silent_is_forgotten_but_none_that_a_certificate_lists(mesh: Mesh) -> None:
    outsider = mesh.bench.actor("web")
    mesh.bench.meet(outsider)
    for _ in range(15):
        mesh.bench.tick(BEAT)
        assert outsider.iid in mesh.bench.member.peers
    mesh.bench.tick(BEAT)
    assert set(mesh.bench.member.peers) == {actor.iid for actor in mesh.dbs}


def test_P12_a_certificate_of_another_lineage_keeps_nobody(mesh: Mesh) -> None:
    """Whoever has sealed never follows one; its members may be long dead."""
    outsider = mesh.bench.actor("web")
    mesh.bench.meet(outsider)
    mesh.bench.hold(link(None, 7, [outsider], [outsider]))
    for _ in range(16):
        mesh.bench.tick(BEAT)
    assert outsider.iid not in mesh.bench.member.peers


def test_P12_no_member_of_the_mesh_gives_way_to_strangers(mesh: Mesh) -> None:
    for actor in mesh.dbs:
        mesh.bench.member = mesh.bench.member.with_peer(replace(mesh.peer(actor), silent=9))
    strangers = ROLES["db"][1] + MAX_CANDIDATES_PER_ROLE - len(mesh.dbs)
    for _ in range(strangers):
        mesh.bench.receive(mesh.bench.actor("db").introduction())
    assert mesh.bench.refuse(mesh.bench.actor("db").introduction()).reason is Reason.RATE_LIMITED
    assert {actor.iid for actor in mesh.dbs} <= set(mesh.bench.member.peers)


# Hearing.


def test_P7_a_heartbeat_of_ourselves_of_strangers_and_for_others(mesh: Mesh) -> None:
    own, sender = mesh.bench.own.iid, mesh.dbs[0]
    assert mesh.bench.refuse(mesh.bench.ourselves().heartbeat(sender.iid)).reason is Reason.REFLECTED
    assert mesh.bench.refuse(mesh.bench.actor("db").heartbeat(own)).reason is Reason.UNKNOWN_MEMBER
    assert mesh.bench.refuse(sender.heartbeat(mesh.dbs[1].iid)).reason is Reason.IDENTITY_MISMATCH
    forged = wire.Envelope.FromString(sender.heartbeat(own))
    forged.heartbeat.signature = mesh.dbs[1].sign(Tag.HEARTBEAT, forged.heartbeat.body).signature
    assert mesh.bench.refuse(encode(forged)).reason is Reason.SIGNATURE_INVALID


def test_an_answer_proves_life_since_the_moment_at_which_it_was_asked_for(mesh: Mesh) -> None:
    mesh.bench.tick()
    asked = mesh.bench.now
    mesh.bench.now += 700
    mesh.bench.beat(mesh.dbs[0])
    peer = mesh.peer(mesh.dbs[0])
    assert (peer.alive_at, peer.lease_until, peer.silent) == (asked, asked + LEASE, 0)
    assert peer.head == mesh.manifest.digest


def test_what_answers_nothing_of_ours_is_answered_at_once_and_proves_nothing(mesh: Mesh) -> None:
    mesh.bench.now += BEAT
    before = mesh.peer(mesh.dbs[0])
    effects = mesh.bench.receive(mesh.dbs[0].heartbeat(mesh.bench.own.iid, ONE, nonce=ONE))
    (body,) = beats(effects, mesh.dbs[0])
    assert body.answer == ONE
    peer = mesh.peer(mesh.dbs[0])
    assert (peer.alive_at, peer.lease_until, peer.head) == (
        before.alive_at,
        before.lease_until,
        before.head,
    )


def test_who_leaves_says_so_without_an_answer_and_the_others_look_ahead_at_once(mesh: Mesh) -> None:
    mesh.bench.receive(mesh.dbs[0].heartbeat(mesh.bench.own.iid, ONE, leaving=True))
    prospect = mesh.bench.member.prospect
    assert prospect is not None and mesh.dbs[0].iid not in prospect.iids


def test_who_lives_again_is_seen_at_once(mesh: Mesh) -> None:
    mesh.bench.tick()
    mesh.bench.beat(mesh.dbs[0])
    mesh.bench.tick(BEAT)
    dead = replace(mesh.peer(mesh.dbs[0]), alive_at=None)
    mesh.bench.member = look_ahead(mesh.bench.member.with_peer(dead), mesh.bench.now)
    assert mesh.bench.member.prospect is not None
    mesh.bench.beat(mesh.dbs[0])
    assert mesh.bench.member.prospect is None


def test_L4_two_members_do_not_keep_each_other_talking(mesh: Mesh) -> None:
    mesh.bench.tick()
    assert beats(mesh.bench.beat(mesh.dbs[0])) == []
    unproven = [mesh.dbs[0].heartbeat(mesh.bench.own.iid) for _ in range(4)]
    assert len(beats(mesh.bench.receive(unproven[0]))) == 1
    mesh.bench.now += PING // 4 - 1
    assert mesh.bench.receive(unproven[1]) == []
    mesh.bench.now += 1
    assert len(beats(mesh.bench.receive(unproven[2]))) == 1


@pytest.mark.parametrize(("back", "counts"), [(0, True), (1, True), (2, True), (3, False)])
def test_P4_the_answer_to_one_of_the_last_three_heartbeats_counts(
    mesh: Mesh, back: int, counts: bool
) -> None:
    sent: list[tuple[bytes, int]] = []
    for _ in range(4):
        mesh.bench.tick(BEAT)
        sent.insert(0, (mesh.bench.last_beat(mesh.dbs[0]).nonce, mesh.bench.now))
    nonce, at = sent[back]
    mesh.bench.receive(mesh.dbs[0].heartbeat(mesh.bench.own.iid, nonce, mesh.manifest.digest))
    assert (mesh.peer(mesh.dbs[0]).alive_at == at) is counts


def test_P4_a_heartbeat_that_is_replayed_proves_nothing_more(mesh: Mesh) -> None:
    mesh.bench.tick()
    nonce = mesh.bench.last_beat(mesh.dbs[0]).nonce
    recorded = mesh.dbs[0].heartbeat(mesh.bench.own.iid, nonce, mesh.manifest.digest)
    mesh.bench.receive(recorded)
    proven = mesh.lease(mesh.dbs[0])
    for _ in range(4):
        mesh.bench.tick(BEAT)
        mesh.bench.receive(recorded)
        assert mesh.lease(mesh.dbs[0]) == proven


def test_P4_an_older_answer_that_comes_late_takes_nothing_back(mesh: Mesh) -> None:
    mesh.bench.tick()
    first = mesh.bench.last_beat(mesh.dbs[0]).nonce
    mesh.bench.tick(BEAT)
    mesh.bench.beat(mesh.dbs[0])
    latest = mesh.lease(mesh.dbs[0])
    mesh.bench.receive(mesh.dbs[0].heartbeat(mesh.bench.own.iid, first, mesh.manifest.digest))
    assert mesh.lease(mesh.dbs[0]) == latest == mesh.bench.now + LEASE
    assert mesh.peer(mesh.dbs[0]).alive_at == mesh.bench.now


def test_P4_a_replay_does_not_displace_the_nonce_that_our_next_heartbeat_answers(mesh: Mesh) -> None:
    """Otherwise whoever can inject, and cannot hold back, takes the leases of others away."""
    mesh.bench.tick()
    recorded = mesh.dbs[0].heartbeat(mesh.bench.own.iid, bytes([9]) * 32, nonce=bytes([8]) * 32)
    answer = mesh.bench.last_beat(mesh.dbs[0]).nonce
    fresh = mesh.dbs[0].heartbeat(mesh.bench.own.iid, answer, mesh.manifest.digest, nonce=ONE)
    mesh.bench.receive(fresh)
    mesh.bench.receive(recorded)
    (body,) = beats(mesh.bench.tick(BEAT), mesh.dbs[0])
    assert body.answer == ONE
