"""Leases, suspension, and a majority that is lost (PROTOCOL.md 4.8, 6.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from support.actors import Bench, of
from support.beating import BEAT, LEASE, QUORUM, REATTEST, ROLES, Mesh, beats
from support.certificates import link

from toposeal.errors import Reason
from toposeal.evidence.binding import ZERO_DIGEST
from toposeal.membership.events import Effect, Fence, Resume, Suspend
from toposeal.membership.heartbeats import lapsed, lapses_at, quorum_deadline
from toposeal.membership.machine import deadline


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


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
