"""HEARTBEAT: proof of life, leases, and who has to stop serving (4.8, 6.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from support.actors import Actor, Bench, kinds, of
from support.certificates import link

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.errors import Reason
from toposeal.evidence.binding import ZERO_DIGEST
from toposeal.limits import MAX_CANDIDATES_PER_ROLE
from toposeal.membership.events import Announce, Effect, Fence, Resume, Send, Suspend
from toposeal.membership.heads import look_ahead
from toposeal.membership.heartbeats import beat_all, lapsed, lapses_at, quorum_deadline
from toposeal.membership.machine import deadline
from toposeal.membership.signing import Tag, verify_ik
from toposeal.membership.state import Peer
from toposeal_lab.simulation.network import sent_kind
from toposeal_lab.simulation.symbolic import signed_topology

ROLES = {"db": (1, 4), "web": (0, 2)}
BEAT, LEASE, REATTEST, QUORUM, PING = 1_000, 10_000, 100_000, 30_000, 2_000
ONE = bytes([1]) * 32


class Mesh:
    """Ourselves as `web`, active together with three `db`."""

    def __init__(self, on_quorum_loss: str = "regenesis") -> None:
        self.bench = Bench(
            ROLES,
            on_quorum_loss=on_quorum_loss,
            heartbeat_ms=BEAT,
            lease_ms=LEASE,
            reattest_ms=REATTEST,
            quorum_ms=QUORUM,
            ping_ms=PING,
            view_ms=100,
        ).gathering()
        self.dbs = [self.bench.actor("db") for _ in range(3)]
        self.manifest = self.bench.active(*self.dbs)
        self.started = self.bench.member.sealed_at
        self.everybody = [self.bench.ourselves(), *self.dbs]

    def peer(self, actor: Actor) -> Peer:
        return self.bench.member.peers[actor.iid]

    def lease(self, actor: Actor) -> int:
        return self.peer(actor).lease_until

    def advance(self, ms: int, *answering: Actor) -> list[Effect]:
        """Time passes, with heartbeats that `answering` answer at once."""
        end, found = self.bench.now + ms, list[Effect]()
        while self.bench.now < end and self.bench.phase != "fenced":
            wanted = deadline(self.bench.member)
            assert wanted is not None
            found += self.bench.tick(max(1, min(wanted, end) - self.bench.now))
            for actor in answering:
                found += self.bench.beat(actor)
        return found


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


def beats(effects: Sequence[Effect], actor: Actor | None = None) -> list[wire.Heartbeat]:
    """The heartbeats among what was sent."""
    found = []
    for send in of(effects, Send):
        if sent_kind(send.data) == "heartbeat" and (actor is None or send.iid == actor.iid):
            signed = wire.Envelope.FromString(send.data).heartbeat
            found.append(wire.Heartbeat.FromString(signed.body))
    return found


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


# Leases.


def test_M5_only_who_stands_where_we_are_listed_renews_our_lease(mesh: Mesh) -> None:
    genesis = mesh.bench.member.chain[mesh.manifest.digest]
    with_us = link(genesis, 5, mesh.everybody, mesh.everybody)
    without = link(genesis, 6, mesh.dbs)
    foreign = link(None, 7, mesh.everybody)
    let_in_again = link(without, 8, mesh.everybody)
    mesh.bench.hold(with_us, without, foreign, let_in_again)
    for head, renews in (
        (mesh.manifest.digest, True),
        (with_us.digest, True),
        (without.digest, False),
        (let_in_again.digest, False),
        (foreign.digest, False),
        (bytes([3]) * 48, False),
        (ZERO_DIGEST, False),
    ):
        mesh.bench.tick(BEAT)
        sent = mesh.peer(mesh.dbs[0]).beats[0][1]
        mesh.bench.beat(mesh.dbs[0], head)
        assert (mesh.lease(mesh.dbs[0]) == sent + LEASE) is renews
        assert mesh.peer(mesh.dbs[0]).alive_at == sent, "it lives all the same"


def test_a_lease_with_nobody_but_members_of_what_we_serve(mesh: Mesh) -> None:
    outsider = mesh.bench.actor("web")
    mesh.bench.meet(outsider)
    mesh.bench.beat(outsider, mesh.manifest.digest)
    assert mesh.lease(outsider) == 0


def test_a_lease_with_who_is_no_member_any_more_counts_for_nothing(mesh: Mesh) -> None:
    former = mesh.bench.actor("web")
    mesh.bench.meet(former)
    for actor, until in ((former, 99_000), (mesh.dbs[0], 9_000), (mesh.dbs[1], 7_000)):
        mesh.bench.member = mesh.bench.member.with_peer(replace(mesh.peer(actor), lease_until=until))
    mesh.bench.member = mesh.bench.member.without_peer(mesh.dbs[2].iid)
    assert lapses_at(mesh.bench.member) == 7_000


def test_all_members_leases_begin_with_our_commitment(mesh: Mesh) -> None:
    """Their SEALED answer it: none of them had sealed anything else by then."""
    assert [mesh.lease(actor) for actor in mesh.dbs] == [mesh.started + LEASE] * 3


def test_leases_lapse_with_the_one_that_makes_the_majority(mesh: Mesh) -> None:
    """Ourselves and two of three others are more than half of four."""
    for actor, until in zip(mesh.dbs, (5_000, 9_000, 7_000), strict=True):
        mesh.bench.member = mesh.bench.member.with_peer(replace(mesh.peer(actor), lease_until=until))
    assert lapses_at(mesh.bench.member) == 7_000
    assert lapses_at(mesh.bench.member.without_peer(mesh.dbs[0].iid)) == 7_000
    assert lapses_at(mesh.bench.member.without_peer(mesh.dbs[1].iid)) == 5_000
    assert lapses_at(replace(mesh.bench.member, peers={})) == 0


def test_M11_no_lease_outlives_a_seal_of_twice_the_age_at_which_it_is_renewed(mesh: Mesh) -> None:
    for actor in mesh.dbs:
        mesh.bench.member = mesh.bench.member.with_peer(replace(mesh.peer(actor), lease_until=1 << 40))
    assert lapses_at(mesh.bench.member) == mesh.started + 2 * REATTEST


def test_M11_a_later_seal_that_is_not_active_makes_what_is_served_no_younger(mesh: Mesh) -> None:
    for actor in mesh.dbs:
        mesh.bench.member = mesh.bench.member.with_peer(replace(mesh.peer(actor), lease_until=1 << 40))
    mesh.bench.member = replace(mesh.bench.member, sealed_at=mesh.started + REATTEST)
    assert lapses_at(mesh.bench.member) == mesh.started + 2 * REATTEST
    mesh.bench.now = mesh.started + 2 * REATTEST
    assert reasons(mesh.bench.tick(0), Suspend) == [Reason.SEAL_TOO_OLD]


def test_a_mesh_of_one_needs_a_lease_with_nobody(mesh: Mesh) -> None:
    serving = mesh.bench.member.serving
    assert serving is not None
    alone = replace(serving, members=(serving.member(mesh.bench.own.iid),))
    member = replace(mesh.bench.member, serving=alone, peers={})
    assert lapses_at(member) == mesh.started + 2 * REATTEST


def test_who_serves_nothing_has_nothing_that_lapses() -> None:
    assert lapses_at(Bench(ROLES).gathering().member) is None


# Suspension.


def reasons(effects: Sequence[Effect], kind: type[Suspend] | type[Fence]) -> list[Reason]:
    return [effect.mismatch.reason for effect in of(effects, kind)]


def test_a_member_with_a_majority_serves_on(mesh: Mesh) -> None:
    effects = mesh.advance(3 * LEASE, *mesh.dbs[:2])
    assert not of(effects, Suspend) and mesh.bench.member.suspended_at is None


def test_M2_without_a_majority_it_suspends_once_when_its_leases_lapse(mesh: Mesh) -> None:
    effects = mesh.advance(LEASE - 1, mesh.dbs[0])
    assert not of(effects, Suspend)
    assert reasons(mesh.advance(1, mesh.dbs[0]), Suspend) == [Reason.NO_MAJORITY]
    assert reasons(mesh.advance(LEASE, mesh.dbs[0]), Suspend) == []


def test_M2_it_resumes_with_a_majority_and_at_no_other_time(mesh: Mesh) -> None:
    mesh.advance(LEASE)
    assert not of(mesh.bench.beat(mesh.dbs[0]), Resume)
    assert of(mesh.bench.beat(mesh.dbs[1]), Resume) == [Resume()]
    assert not of(mesh.bench.beat(mesh.dbs[2]), Resume)
    assert mesh.bench.member.suspended_at is None


def test_M6_the_first_thing_after_a_pause_is_suspension_whatever_comes_first(mesh: Mesh) -> None:
    mesh.bench.tick()
    answer = mesh.bench.last_beat(mesh.dbs[0]).nonce
    mesh.bench.now += 10 * LEASE
    effects = mesh.bench.receive(mesh.dbs[0].heartbeat(mesh.bench.own.iid, answer, mesh.manifest.digest))
    assert reasons(effects, Suspend) == [Reason.NO_MAJORITY]


def test_M11_an_old_seal_suspends_although_everybody_answers(mesh: Mesh) -> None:
    """Nothing extends by itself: whoever cannot quote anew stops."""
    mesh.bench.now = mesh.started + 2 * REATTEST - 1
    for actor in mesh.dbs:
        alive = replace(mesh.peer(actor), lease_until=1 << 40, alive_at=mesh.bench.now)
        mesh.bench.member = mesh.bench.member.with_peer(alive)
    assert not of(mesh.bench.tick(0), Suspend)
    assert reasons(mesh.bench.tick(1), Suspend) == [Reason.SEAL_TOO_OLD]


def test_M5_whom_the_next_manifest_leaves_out_has_stopped_one_lease_later(mesh: Mesh) -> None:
    """Nobody told it: the others' heartbeats simply no longer renew."""
    genesis = mesh.bench.member.chain[mesh.manifest.digest]
    without = link(genesis, 5, mesh.dbs)
    mesh.bench.tick()
    suspended: list[Effect] = []
    for _ in range(LEASE // BEAT):
        for actor in mesh.dbs:
            suspended += mesh.bench.beat(actor, without.digest)
        suspended += mesh.bench.tick(BEAT)
    assert reasons(suspended, Suspend) == [Reason.NO_MAJORITY]
    assert mesh.bench.now - mesh.started <= LEASE + BEAT


def test_a_suspended_member_goes_on_sealing(mesh: Mesh) -> None:
    """What it may not is serve; without it a blink of the network would cost the majority for ever."""
    mesh.advance(LEASE)
    assert mesh.bench.member.suspended_at is not None
    following = mesh.bench.sealed(*mesh.dbs)
    assert following.previous == mesh.manifest.digest
    effects = [e for actor in mesh.dbs for e in mesh.bench.receive(actor.sealed(following))]
    assert of(effects, Resume) == [Resume()] and mesh.bench.member.suspended_at is None


# The majority is lost.


def test_after_quorum_ms_of_suspension_a_member_begins_anew(mesh: Mesh) -> None:
    mesh.advance(LEASE)
    assert mesh.bench.member.suspended_at == mesh.bench.now
    mesh.bench.member = replace(mesh.bench.member, beat_at=1 << 40)
    assert deadline(mesh.bench.member) == mesh.bench.now + QUORUM
    assert not of(mesh.bench.tick(QUORUM - 1), Fence)
    assert reasons(mesh.bench.tick(1), Fence) == [Reason.QUORUM_LOST]
    assert mesh.bench.phase == "fenced" and mesh.bench.member.peers == {}


def test_a_suspension_that_ended_does_not_count(mesh: Mesh) -> None:
    mesh.advance(LEASE)
    mesh.advance(QUORUM - 1)
    for actor in mesh.dbs:
        mesh.bench.beat(actor)
    assert mesh.bench.member.suspended_at is None
    assert not of(mesh.advance(LEASE + BEAT), Fence)


def test_under_halt_a_member_waits_for_ever() -> None:
    mesh = Mesh(on_quorum_loss="halt")
    mesh.advance(LEASE)
    assert not of(mesh.bench.tick(REATTEST - LEASE - 1), Fence)
    for actor in mesh.dbs[:2]:
        assert not of(mesh.bench.effects, Resume)
        mesh.bench.beat(actor)
    assert of(mesh.bench.effects, Resume) == [Resume()]


def test_who_leaves_does_not_begin_anew(mesh: Mesh) -> None:
    mesh.advance(LEASE)
    mesh.bench.member = replace(mesh.bench.member, leaving=True)
    assert quorum_deadline(mesh.bench.member) is None
    assert not of(mesh.bench.tick(QUORUM), Fence)


def test_M2_why_a_member_is_suspended_is_said_however_long_its_guest_is_up(mesh: Mesh) -> None:
    since, topology_ms = 1 << 40, mesh.bench.member.topology.timers.topology_ms
    superseded = since + LEASE
    first = superseded - topology_ms
    member = replace(mesh.bench.member, serving_since=since, adopted=((8, first), (9, first + 5)))
    for now, reason, found in (
        (superseded - 1, Reason.NO_MAJORITY, "too few"),
        (superseded, Reason.TOPOLOGY_SUPERSEDED, "9"),
        (since + 2 * REATTEST, Reason.SEAL_TOO_OLD, "older than twice reattest_ms"),
    ):
        mismatch = lapsed(member, now)
        assert (mismatch.reason, mismatch.found) == (reason, found)


def test_before_the_first_random_bytes_nothing_is_sent_that_needs_them() -> None:
    """The nonces of heartbeats are derived from a Timer's entropy, and the first Timer is yet to come."""
    bench = Bench(ROLES)
    bench.appraise(bench.quote(bench.effects))
    actor = bench.actor("db")
    pending = bench.receive(actor.introduction())
    bench.receive(actor.heartbeat(bench.own.iid))
    assert beats(bench.appraise(pending)) == []
    bench.tick()
    assert len(beats(bench.receive(actor.heartbeat(bench.own.iid)))) == 1
