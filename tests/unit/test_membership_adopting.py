"""What a certificate that another member held means for us: followed, told, or a reason to fence (5.4)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from support.actors import Actor, Bench, of
from support.certificates import envelope, link, part

from toposeal._wire import peer_pb2 as wire
from toposeal.errors import Reason
from toposeal.membership.certificate import Certificate
from toposeal.membership.events import Effect, Fence, Send
from toposeal.membership.state import Waiting, attempt_of
from toposeal_lab.simulation.network import sent_kind

ROLES = {"db": (1, 4), "web": (0, 2)}


class Mesh:
    """Ourselves as `web` and three `db`: all active together, or we alone a newcomer to them."""

    def __init__(self, active: bool) -> None:
        self.bench = Bench(ROLES, ping_ms=1_000, view_ms=100).gathering()
        self.dbs = [self.bench.actor("db") for _ in range(3)]
        if active:
            self.bench.active(*self.dbs)
            self.genesis = self.bench.member.chain[self.bench.member.sealed]
            self.bench.tick()
        else:
            self.bench.meet(*self.dbs)
            self.genesis = link(None, 1, self.dbs, self.dbs)
            for actor in self.dbs:
                self.bench.receive(actor.heartbeat(self.bench.own.iid))
        self.everybody = [self.bench.ourselves(), *self.dbs]

    def told(self, actor: Actor, held: Certificate) -> list[Effect]:
        return self.bench.beat(actor, held.digest)

    def fetched(self, actor: Actor, held: Certificate) -> list[Effect]:
        """`actor` would follow `held`, is asked for it, and gives it."""
        assert "want" in sent(self.told(actor, held), actor)
        return self.given(held)

    def given(self, held: Certificate) -> list[Effect]:
        return self.bench.appraise(self.bench.receive(envelope(part(held))))

    @property
    def following(self) -> bytes:
        """What the attempt follows that begins now."""
        self.bench.tick(0)
        attempt = attempt_of(self.bench.member.phase)
        assert attempt is not None
        return attempt.previous


@pytest.fixture
def newcomer() -> Mesh:
    return Mesh(active=False)


@pytest.fixture
def member() -> Mesh:
    return Mesh(active=True)


def sent(effects: Sequence[Effect], to: Actor) -> list[str]:
    return [sent_kind(s.data) for s in of(effects, Send) if s.iid == to.iid]


def heads(effects: Sequence[Effect]) -> dict[bytes, bytes]:
    """What each receiver of a heartbeat was told that we would follow."""
    found = {}
    for send in of(effects, Send):
        if sent_kind(send.data) == "heartbeat":
            body = wire.Heartbeat.FromString(wire.Envelope.FromString(send.data).heartbeat.body)
            found[send.iid] = body.head
    return found


# Following.


def test_M2_a_newcomer_leaves_its_genesis_for_the_mesh_that_lives(newcomer: Mesh) -> None:
    attempt = attempt_of(newcomer.bench.member.phase)
    assert attempt is not None and not any(attempt.previous)
    newcomer.fetched(newcomer.dbs[0], newcomer.genesis)
    assert newcomer.bench.member.phase == Waiting(2, newcomer.bench.now)
    assert newcomer.following == newcomer.genesis.digest
    assert newcomer.bench.member.sealed == bytes(48), "adoption binds nobody"


def test_whoever_follows_the_same_learns_at_once_that_we_are_ready(newcomer: Mesh) -> None:
    newcomer.told(newcomer.dbs[0], newcomer.genesis)
    newcomer.told(newcomer.dbs[1], newcomer.genesis)
    told = heads(newcomer.given(newcomer.genesis))
    assert told == {actor.iid: newcomer.genesis.digest for actor in newcomer.dbs[:2]}


def test_a_member_that_missed_a_round_follows_what_the_others_sealed(member: Mesh) -> None:
    child = link(member.genesis, 2, member.dbs, member.dbs)
    member.fetched(member.dbs[0], child)
    assert member.following == child.digest
    assert member.bench.member.last_epoch > child.manifest.epoch


def test_whom_the_others_left_out_does_not_serve_what_it_adopts(member: Mesh) -> None:
    child = link(member.genesis, 2, member.dbs, member.dbs)
    member.fetched(member.dbs[0], child)
    serving = member.bench.member.serving
    assert serving is not None and serving.manifest == member.genesis.manifest
    assert member.bench.member.sealed == member.genesis.digest


def test_M7_a_certificate_whose_members_are_gone_is_held_and_not_followed(newcomer: Mesh) -> None:
    gone = [newcomer.bench.actor("db") for _ in range(2)]
    old = link(None, 1, gone, gone)
    newcomer.fetched(newcomer.dbs[0], old)
    assert old.digest in newcomer.bench.member.chain
    assert newcomer.bench.phase == "gathering"
    assert not any(newcomer.following)


def test_M7_even_a_complete_certificate_makes_nobody_active(newcomer: Mesh) -> None:
    """It says that others have sealed; only a seal of one's own can be served."""
    newcomer.fetched(newcomer.dbs[0], newcomer.genesis)
    assert newcomer.genesis.proven and newcomer.bench.member.serving is None


def test_an_attempt_that_already_follows_the_right_one_goes_on(member: Mesh) -> None:
    member.bench.again(*member.dbs)
    before = member.bench.member.phase
    unrelated = link(None, 9, member.dbs[:1])
    member.fetched(member.dbs[0], unrelated)
    assert member.bench.member.phase is before


def test_S3_who_has_committed_stays_where_it_is(member: Mesh) -> None:
    member.bench.committed(*member.dbs)
    before = member.bench.member.phase
    member.bench.tick(0)
    child = link(member.genesis, 9, member.everybody)
    member.fetched(member.dbs[0], child)
    assert member.bench.member.phase is before


def test_who_waits_between_attempts_waits_no_longer(newcomer: Mesh) -> None:
    newcomer.told(newcomer.dbs[0], newcomer.genesis)
    newcomer.bench.put(Waiting(5, newcomer.bench.now + 60_000))
    newcomer.given(newcomer.genesis)
    assert newcomer.bench.member.phase == Waiting(5, newcomer.bench.now)


def test_P5_a_stranger_whose_evidence_is_not_verified_is_told_nothing(newcomer: Mesh) -> None:
    """It follows nothing, as we do when what we adopt cannot be followed."""
    stranger = newcomer.bench.actor("db")
    newcomer.bench.receive(stranger.introduction())
    gone = [newcomer.bench.actor("db") for _ in range(2)]
    effects = newcomer.fetched(newcomer.dbs[0], link(None, 1, gone, gone))
    assert "heartbeat" in sent(effects, newcomer.dbs[1]), "whoever is admitted and follows nothing is told"
    assert sent(effects, stranger) == []


# What it rests on.


def test_its_ancestors_are_asked_for_before_it_is_followed(newcomer: Mesh) -> None:
    genesis = link(None, 1, newcomer.dbs)
    child = link(genesis, 2, newcomer.dbs)
    effects = newcomer.fetched(newcomer.dbs[0], child)
    assert sent(effects, newcomer.dbs[0]) == ["want"] and newcomer.bench.phase == "gathering"
    fetch = newcomer.bench.member.fetch
    assert fetch is not None and fetch.digest == genesis.digest
    newcomer.given(genesis)
    assert newcomer.following == child.digest


def test_whose_source_is_forgotten_meanwhile_is_completed_from_another(newcomer: Mesh) -> None:
    genesis = link(None, 1, newcomer.dbs)
    child = link(genesis, 2, newcomer.dbs)
    newcomer.told(newcomer.dbs[0], child)
    newcomer.bench.member = newcomer.bench.member.without_peer(newcomer.dbs[0].iid)
    newcomer.given(child)
    assert child.digest in newcomer.bench.member.chain and newcomer.bench.member.fetch is None
    assert "want" in sent(newcomer.told(newcomer.dbs[1], child), newcomer.dbs[1])


# Fencing.


def test_who_sealed_beside_an_active_manifest_fences(member: Mesh) -> None:
    own = member.bench.sealed(*member.dbs)
    beside = link(member.genesis, own.epoch + 1, member.dbs, member.dbs)
    member.bench.tick(0)
    effects = member.fetched(member.dbs[0], beside)
    assert [f.mismatch.reason for f in of(effects, Fence)] == [Reason.SIBLING_ACTIVE]
    assert member.bench.phase == "fenced" and member.bench.member.peers == {}


def test_beside_one_that_may_still_fail_nobody_fences(member: Mesh) -> None:
    own = member.bench.sealed(*member.dbs)
    beside = link(member.genesis, own.epoch + 1, member.dbs, member.dbs[:2])
    member.bench.tick(0)
    effects = member.fetched(member.dbs[0], beside)
    assert not of(effects, Fence) and member.bench.member.sealed == own.digest
