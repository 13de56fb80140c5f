"""What the next attempt follows, and when there is a reason for one (5.4, 6.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from support.actors import Actor, Bench
from support.certificates import link

from toposeal.errors import Mismatch, Reason
from toposeal.evidence.binding import ZERO_DIGEST
from toposeal.membership.certificate import Certificate
from toposeal.membership.heads import (
    head,
    is_alive,
    is_needed,
    is_ready,
    look_ahead,
    parting,
    round_is_due,
    sibling,
)
from toposeal.membership.leave import make_leave
from toposeal.membership.state import Attempt, Gathering

LEASE, HEARTBEAT, REATTEST, VIEW = 5_000, 1_000, 60_000, 100
BLOCKED = Mismatch(Reason.TOPOLOGY_ROLLBACK, "topology.version", "7", "8")


class Mesh:
    """Ourselves as `web`, and so many `db` that are active together with us, or only known to us."""

    def __init__(self, active: bool = True, dbs: int = 3, known: int = 3) -> None:
        roles = {"db": (1, 4), "web": (0, 1)}
        timers: dict[str, Any] = {
            "heartbeat_ms": HEARTBEAT,
            "lease_ms": LEASE,
            "reattest_ms": REATTEST,
            "view_ms": VIEW,
        }
        self.bench = Bench(roles, **timers).gathering()
        self.dbs = [self.bench.actor("db") for _ in range(dbs)]
        if active:
            self.bench.active(*self.dbs)
            self.genesis = self.bench.member.chain[self.bench.member.sealed]
        else:
            self.bench.meet(*self.dbs[:known])
        self.everybody = [self.bench.ourselves(), *self.dbs]

    @property
    def head(self) -> bytes:
        return head(self.bench.member, self.bench.now)

    def held(
        self, previous: Certificate | None, epoch: int, actors: Sequence[Actor], proven: bool = False
    ) -> bytes:
        """A certificate that we hold from now on."""
        found = link(previous, epoch, actors, actors if proven else ())
        self.bench.hold(found)
        return found.digest

    def lives(self, *actors: Actor, at: int | None = None) -> None:
        """Of all peers these alone have proved life, now or at `at`."""
        for peer in self.bench.member.peers.values():
            alive = any(actor.iid == peer.identity.iid for actor in actors)
            since = (self.bench.now if at is None else at) if alive else None
            self.bench.member = self.bench.member.with_peer(replace(peer, alive_at=since))


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


# Who counts.


def test_a_member_lives_for_one_lease_after_its_last_proof(mesh: Mesh) -> None:
    peer = mesh.bench.member.peers[mesh.dbs[0].iid]
    for alive_at, alive in ((0, True), (None, False)):
        assert is_alive(mesh.bench.member, replace(peer, alive_at=alive_at), LEASE) is alive
    assert not is_alive(mesh.bench.member, replace(peer, alive_at=0), LEASE + 1)


def test_each_condition_of_readiness_is_needed(mesh: Mesh) -> None:
    member, now = mesh.bench.member, mesh.bench.now
    peer = replace(member.peers[mesh.dbs[0].iid], head=member.sealed)
    assert is_ready(member, peer, member.sealed, now)
    for changed in (
        replace(peer, admitted=None),
        replace(peer, hello=replace(peer.hello, topology_digest=bytes(48))),
        replace(peer, head=ZERO_DIGEST),
        replace(peer, alive_at=None),
    ):
        assert not is_ready(member, changed, member.sealed, now)


def test_who_can_sign_a_leave_has_asked_to_be_left_out_and_lives(mesh: Mesh) -> None:
    bench, iid = mesh.bench, mesh.dbs[0].iid
    mesh.lives(*mesh.dbs)
    peer = bench.member.peers[iid]
    assert parting(bench.member, mesh.genesis, bench.now) == frozenset()
    asked = bench.member.with_peer(replace(peer, leaving=True))
    assert parting(asked, mesh.genesis, bench.now) == {iid}
    silent = asked.with_peer(replace(peer, leaving=True, alive_at=None))
    assert parting(silent, mesh.genesis, bench.now) == frozenset()
    assert parting(replace(asked, leaving=True), mesh.genesis, bench.now) == {iid, bench.own.iid}


def test_a_leave_that_was_signed_counts_in_its_attempt_alone(mesh: Mesh) -> None:
    bench, actor = mesh.bench, mesh.dbs[0]
    signed = make_leave(actor.own.keys, actor.own.identity, mesh.genesis.manifest)
    peer = replace(bench.member.peers[actor.iid], leaving=True, left=signed, alive_at=None)
    member = bench.member.with_peer(peer)
    assert parting(member, mesh.genesis, bench.now) == frozenset(), "there is no attempt"
    for epoch, gone in ((signed.decision.epoch, {actor.iid}), (signed.decision.epoch + 1, set())):
        attempt = Attempt(actor.new_hello(epoch), bytes(32))
        assert parting(replace(member, phase=Gathering(attempt)), mesh.genesis, bench.now) == gone


# The head.


def test_a_newcomer_that_holds_nothing_begins_a_genesis() -> None:
    assert Mesh(active=False).head == ZERO_DIGEST


def test_after_a_seal_nothing_newer_means_what_was_sealed(mesh: Mesh) -> None:
    assert mesh.head == mesh.genesis.digest


def test_the_highest_certificate_that_the_living_can_carry_is_followed(mesh: Mesh) -> None:
    mesh.held(mesh.genesis, 2, mesh.everybody)
    highest = mesh.held(mesh.genesis, 3, mesh.everybody)
    assert mesh.head == highest


def test_L1_not_a_higher_one_whose_members_are_dead(mesh: Mesh) -> None:
    spare = [mesh.bench.actor("db") for _ in range(2)]
    lower = mesh.held(mesh.genesis, 2, mesh.everybody)
    higher = mesh.held(mesh.genesis, 3, [mesh.dbs[0], *spare])
    mesh.bench.meet(*spare)
    mesh.lives(*mesh.dbs, *spare)
    assert mesh.head == higher
    mesh.lives(*mesh.dbs)
    assert mesh.head == lower
    mesh.lives(*mesh.dbs, *spare, at=mesh.bench.now - LEASE - 1)
    assert mesh.head == mesh.genesis.digest


def test_every_ancestor_that_is_not_proven_has_to_be_carried_too(mesh: Mesh) -> None:
    """A child of two alone: they carry it, and cannot carry the genesis of four behind it."""
    two = [mesh.everybody[0], mesh.dbs[0]]
    child = mesh.held(mesh.genesis, 2, two)
    mesh.lives(mesh.dbs[0])
    assert mesh.head == mesh.genesis.digest
    held = mesh.bench.member.chain[child]
    mesh.bench.hold(replace(held, seals={actor.iid: bytes(64) for actor in two}))
    assert mesh.head == child


def test_S3_never_a_branch_beside_what_was_sealed(mesh: Mesh) -> None:
    own = mesh.held(mesh.genesis, 2, mesh.everybody)
    mesh.held(mesh.genesis, 3, mesh.everybody)
    mesh.bench.member = replace(mesh.bench.member, sealed=own)
    assert mesh.head == own


def test_S6_never_another_lineage_after_a_seal(mesh: Mesh) -> None:
    mesh.held(None, 9, mesh.everybody)
    assert mesh.head == mesh.genesis.digest


def test_a_certificate_of_which_a_link_is_missing_is_not_followed(mesh: Mesh) -> None:
    unknown = link(mesh.genesis, 2, mesh.everybody)
    mesh.held(unknown, 3, mesh.everybody)
    assert mesh.head == mesh.genesis.digest


def test_M7_a_newcomer_follows_the_mesh_that_lives_and_no_higher_one_of_the_dead() -> None:
    mesh = Mesh(active=False)
    dead, living = mesh.held(None, 9, [mesh.bench.actor("db")]), mesh.held(None, 2, mesh.dbs, proven=True)
    assert mesh.head == living and dead in mesh.bench.member.chain
    mesh.lives()
    assert mesh.head == ZERO_DIGEST


# Reasons for a round.


class Resting(Mesh):
    """Active, everybody alive and settled: there is no reason yet."""

    def __init__(self, dbs: int = 3) -> None:
        super().__init__(dbs=dbs)
        self.lives(*self.dbs)
        assert not self.due

    @property
    def due(self) -> bool:
        """Once what is seen now has stood for view_ms."""
        seen = look_ahead(self.bench.member, self.bench.now)
        return round_is_due(seen, self.bench.now + VIEW)

    def dies(self, actor: Actor) -> None:
        peer = self.bench.member.peers[actor.iid]
        self.bench.member = self.bench.member.with_peer(replace(peer, alive_at=None))

    def newcomer(self, role: str = "db") -> Actor:
        """Admitted, alive, and ready to follow what we serve."""
        actor = self.bench.actor(role)
        self.bench.appraise(self.bench.receive(actor.introduction()))
        peer = self.bench.member.peers[actor.iid]
        ready = replace(peer, head=self.genesis.digest, alive_at=self.bench.now)
        self.bench.member = self.bench.member.with_peer(ready)
        return actor


@pytest.fixture
def resting() -> Resting:
    return Resting()


def test_a_newcomer_within_bounds_is_a_reason(resting: Resting) -> None:
    resting.newcomer()
    assert resting.due


def test_M3_a_newcomer_beyond_the_bounds_is_none() -> None:
    resting = Resting(dbs=4)
    newcomer = resting.newcomer()
    assert not resting.due
    resting.dies(resting.dbs[0])
    assert resting.due, "a member is gone and the newcomer takes its place"
    assert newcomer.iid in resting.bench.member.peers


def test_M3_of_more_newcomers_than_there_is_room_for_some_are_a_reason(resting: Resting) -> None:
    for _ in range(3):
        resting.newcomer()
    assert resting.due


def test_a_newcomer_that_would_not_follow_is_none(resting: Resting) -> None:
    actor = resting.newcomer()
    peer = resting.bench.member.peers[actor.iid]
    for changes in ({"head": ZERO_DIGEST}, {"alive_at": None}, {"admitted": None}):
        resting.bench.member = resting.bench.member.with_peer(replace(peer, **changes))
        assert not resting.due


def test_a_member_that_has_died_is_a_reason_if_the_bounds_and_a_majority_can_do_without(
    resting: Resting,
) -> None:
    resting.lives(*resting.dbs[:2])
    assert resting.due
    resting.lives(resting.dbs[0])
    assert not resting.due, "two of four cannot seal"


def test_a_death_below_the_bounds_waits_for_a_newcomer() -> None:
    resting = Resting()
    roles = resting.bench.own.topology.topology.roles
    strict = replace(
        resting.bench.own.topology.topology, roles={**roles, "db": replace(roles["db"], min_replicas=3)}
    )
    own = replace(resting.bench.own, topology=replace(resting.bench.own.topology, topology=strict))
    resting.bench.member = replace(resting.bench.member, own=own)
    resting.lives(*resting.dbs[:2])
    assert not resting.due
    resting.newcomer()
    assert resting.due


def test_without_every_link_back_to_an_active_manifest_nobody_can_be_counted(mesh: Mesh) -> None:
    later = link(mesh.genesis, 2, mesh.everybody)
    member = replace(mesh.bench.member, sealed=later.digest)
    mesh.bench.member = replace(member, chain={**member.chain, later.digest: later})
    mesh.lives(*mesh.dbs[:2])
    assert look_ahead(mesh.bench.member, mesh.bench.now).prospect is not None
    mesh.bench.member = replace(mesh.bench.member, chain={later.digest: later})
    assert look_ahead(mesh.bench.member, mesh.bench.now).prospect is None


def test_whom_the_topology_does_not_admit_is_counted_nowhere(resting: Resting) -> None:
    """Neither a member that lives nor ourselves."""
    bench, refused = resting.bench, resting.dbs[0].iid
    peer = bench.member.peers[refused]
    assert peer.admitted is not None
    everybody = {bench.own.iid, *(actor.iid for actor in resting.dbs)}
    before = replace(peer, admitted=replace(peer.admitted, topology=ZERO_DIGEST))
    for member, out in (
        (bench.member.with_peer(before), refused),
        (replace(bench.member, accepted=ZERO_DIGEST), bench.own.iid),
    ):
        seen = look_ahead(member, bench.now).prospect
        assert seen is not None and seen.iids == everybody - {out}


def test_M10_who_comes_together_comes_in_together(resting: Resting) -> None:
    """What is seen has to stand for view_ms, and whoever comes meanwhile begins that anew."""
    bench = resting.bench
    resting.newcomer()
    first = look_ahead(bench.member, bench.now)
    assert not round_is_due(first, bench.now + VIEW - 1)
    assert look_ahead(first, bench.now + VIEW - 1) == first
    bench.member = first
    bench.now += VIEW - 1
    resting.dies(resting.dbs[0])
    second = look_ahead(bench.member, bench.now)
    assert not round_is_due(second, bench.now + VIEW - 1)
    assert round_is_due(second, bench.now + VIEW)


def test_what_is_seen_no_more_is_forgotten(resting: Resting) -> None:
    actor = resting.newcomer()
    resting.bench.member = look_ahead(resting.bench.member, resting.bench.now)
    assert resting.bench.member.prospect is not None
    resting.dies(actor)
    assert look_ahead(resting.bench.member, resting.bench.now).prospect is None


def test_the_age_of_the_seal_is_a_reason(resting: Resting) -> None:
    resting.bench.member = replace(resting.bench.member, sealed_at=resting.bench.now + VIEW - REATTEST + 1)
    assert not resting.due
    resting.bench.now += 1
    assert resting.due


def test_a_newer_certificate_is_a_reason_at_once(resting: Resting) -> None:
    resting.bench.member = replace(resting.bench.member, sealed_at=resting.bench.now)
    resting.held(resting.genesis, 2, resting.everybody)
    assert resting.due


def test_T4_nothing_is_a_reason_while_the_topology_is_in_doubt(resting: Resting) -> None:
    resting.newcomer()
    resting.bench.member = replace(resting.bench.member, blocked=BLOCKED, sealed_at=-REATTEST)
    assert not resting.due


def test_who_has_sealed_nothing_has_no_round_to_follow() -> None:
    mesh = Mesh(active=False)
    mesh.held(None, 2, mesh.dbs, proven=True)
    assert not round_is_due(mesh.bench.member, mesh.bench.now)
    assert look_ahead(mesh.bench.member, mesh.bench.now) is mesh.bench.member
    assert not is_needed(mesh.bench.member, mesh.bench.now)


def test_whom_the_last_manifest_left_out_asks_for_no_round_of_its_own(resting: Resting) -> None:
    """It follows the others' certificate once it has it, and is a newcomer to them."""
    assert resting.bench.member.sealed == resting.genesis.digest
    without = resting.held(resting.genesis, 2, resting.dbs, proven=True)
    assert resting.head == without and resting.due


# Siblings.


def test_an_active_manifest_beside_ours_leaves_no_place_for_us(mesh: Mesh) -> None:
    own = mesh.held(mesh.genesis, 3, mesh.everybody)
    mesh.bench.member = replace(mesh.bench.member, sealed=own)
    for epoch in (2, 4):
        beside = mesh.held(mesh.genesis, epoch, mesh.dbs, proven=True)
        found = sibling(mesh.bench.member, mesh.bench.member.chain[beside])
        assert found is not None and found.reason is Reason.SIBLING_ACTIVE


def test_one_beside_ours_that_is_not_proven_active_may_still_fail(mesh: Mesh) -> None:
    own = mesh.held(mesh.genesis, 3, mesh.everybody)
    mesh.bench.member = replace(mesh.bench.member, sealed=own)
    beside = mesh.held(mesh.genesis, 2, mesh.dbs)
    assert sibling(mesh.bench.member, mesh.bench.member.chain[beside]) is None


def test_neither_ancestors_nor_descendants_are_siblings(mesh: Mesh) -> None:
    own = link(mesh.genesis, 2, mesh.everybody)
    mesh.bench.hold(own)
    mesh.bench.member = replace(mesh.bench.member, sealed=own.digest)
    after = mesh.held(own, 3, mesh.dbs, proven=True)
    for held in (mesh.genesis, own, mesh.bench.member.chain[after]):
        assert sibling(mesh.bench.member, held) is None


def test_an_older_one_whose_links_nobody_keeps_is_an_ancestor(mesh: Mesh) -> None:
    middle = link(mesh.genesis, 2, mesh.everybody, mesh.everybody)
    newest = link(middle, 3, mesh.everybody, mesh.everybody)
    mesh.bench.member = replace(mesh.bench.member, chain={newest.digest: newest}, sealed=newest.digest)
    mesh.bench.hold(mesh.genesis)
    assert sibling(mesh.bench.member, mesh.genesis) is None


def test_S6_another_lineage_is_no_sibling(mesh: Mesh) -> None:
    other = mesh.held(None, 9, mesh.dbs, proven=True)
    assert sibling(mesh.bench.member, mesh.bench.member.chain[other]) is None


def test_a_newcomer_has_no_siblings() -> None:
    mesh = Mesh(active=False)
    found = mesh.held(None, 2, mesh.dbs, proven=True)
    assert sibling(mesh.bench.member, mesh.bench.member.chain[found]) is None


def test_an_active_one_that_cannot_be_shown_to_come_after_ours_is_no_way_on(mesh: Mesh) -> None:
    """Ours was never proven to us, and what lies between is kept by nobody: a new instance can go on."""
    own = link(mesh.genesis, 2, mesh.everybody)
    mesh.bench.hold(own)
    mesh.bench.member = replace(mesh.bench.member, sealed=own.digest)
    between = link(own, 3, mesh.dbs, mesh.dbs)
    latest = mesh.held(between, 4, mesh.dbs, proven=True)
    found = sibling(mesh.bench.member, mesh.bench.member.chain[latest])
    assert found is not None and found.reason is Reason.SIBLING_ACTIVE


def test_L1_who_has_sealed_nothing_stays_with_one_lineage_however_the_epochs_of_two_rise() -> None:
    """It would leave the attempt of each for the other's newer manifest, for ever."""
    mesh = Mesh(active=False)
    lines = [link(None, epoch, [db]) for epoch, db in enumerate(mesh.dbs[:2], 1)]
    mesh.bench.hold(*lines)
    mesh.lives(*mesh.dbs)
    lineages = [line.digest for line in lines]
    chosen = {_lineage(mesh)}
    for epoch in range(3, 9):
        at = epoch % 2
        lines[at] = link(lines[at], epoch, [mesh.dbs[at]])
        mesh.bench.hold(lines[at])
        chosen.add(_lineage(mesh))
        assert mesh.head == lines[lineages.index(_lineage(mesh))].digest
    assert len(chosen) == 1
    # But for the other, once nobody lives who could carry that one on.
    (stayed,) = chosen
    mesh.lives(mesh.dbs[1 - lineages.index(stayed)])
    assert _lineage(mesh) == lineages[1 - lineages.index(stayed)]


def _lineage(mesh: Mesh) -> bytes:
    return mesh.bench.member.chain[mesh.head].lineage
