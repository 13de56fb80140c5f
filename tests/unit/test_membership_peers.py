"""The table of known instances: bounded, forgetful, and the epochs that it makes us follow (P12, 6.3)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.actors import Actor, Bench, kinds, of
from support.certificates import link

from toposeal.errors import Reason
from toposeal.limits import (
    MAX_CANDIDATES_PER_ROLE,
    MAX_EPOCH_STEP,
)
from toposeal.membership import peers as peers_module
from toposeal.membership.events import Send
from toposeal.membership.peers import follow, highest_epoch, reach
from toposeal.membership.state import Gathering, Waiting, attempt_of
from toposeal_lab.simulation.symbolic import signed_topology

ROLES = {"db": (1, 2), "web": (1, 2)}


@pytest.fixture
def bench() -> Bench:
    return Bench(ROLES, ping_ms=1_000).gathering()


def test_P12_the_table_is_bounded_and_dead_boots_give_way(bench: Bench) -> None:
    room = bench.signed.topology.roles["db"].max_replicas + MAX_CANDIDATES_PER_ROLE
    dead = [bench.actor("db") for _ in range(room)]
    for actor in dead:
        bench.appraise(bench.receive(actor.introduction()))
    late, other_role = bench.actor("db"), bench.actor("web")
    assert bench.refuse(late.introduction()).reason is Reason.RATE_LIMITED
    bench.meet(other_role)
    bench.receive(bench.answer(dead[0], _ping_to(bench, dead[0])))
    for _ in range(2):
        bench.tick()
    bench.receive(bench.answer(dead[0], _ping_to(bench, dead[0])))
    bench.meet(late)
    table = [p.identity.iid for p in bench.member.peers.values() if p.identity.role == "db"]
    assert len(table) == room and late.iid in table and dead[0].iid in table


def test_P12_a_silent_instance_is_forgotten_and_can_come_back(bench: Bench) -> None:
    actor = bench.actor("db")
    bench.meet(actor)
    for _ in range(16):
        assert actor.iid in bench.member.peers
        bench.tick()
    assert actor.iid not in bench.member.peers and bench.member.by_id_digest == {}
    bench.meet(actor)
    assert actor.iid in bench.member.peers


def full(bench: Bench) -> list[Actor]:
    """A table without room for another `db`."""
    room = bench.signed.topology.roles["db"].max_replicas + MAX_CANDIDATES_PER_ROLE
    actors = [bench.actor("db") for _ in range(room)]
    for actor in actors:
        bench.receive(actor.introduction())
    return actors


def test_P12_one_answer_that_is_lost_costs_nobody_its_place(bench: Bench) -> None:
    actors = full(bench)
    first = bench.member.peers[actors[0].iid]
    bench.member = bench.member.with_peer(replace(first, silent=1))
    late = bench.actor("db")
    assert bench.refuse(late.introduction()).reason is Reason.RATE_LIMITED
    bench.member = bench.member.with_peer(replace(first, silent=2))
    bench.receive(late.introduction())
    assert first.identity.iid not in bench.member.peers and late.iid in bench.member.peers


def test_P12_where_all_of_a_role_are_listed_nobody_gives_way(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a newer topology allows fewer than are sealed."""
    one, other = bench.actor("db"), bench.actor("db")
    bench.active(one, other)
    monkeypatch.setattr(peers_module, "MAX_CANDIDATES_PER_ROLE", 0)
    assert bench.refuse(bench.actor("db").introduction()).reason is Reason.RATE_LIMITED
    assert {one.iid, other.iid} == set(bench.member.peers)


@pytest.mark.parametrize("stage", ["proposed", "committed"])
def test_P12_a_listed_member_gives_way_to_no_stranger(stage: str) -> None:
    """However long it is silent: as long as the manifest lists it, its votes have to find it."""
    bench = Bench({"db": (2, 2), "web": (1, 1)}, ping_ms=1_000).gathering()
    listed, other = bench.actor("db"), bench.actor("db")
    manifest = getattr(bench, stage)(listed, other)
    peer = bench.member.peers[listed.iid]
    bench.member = bench.member.with_peer(replace(peer, silent=2))
    strangers = [bench.actor("db") for _ in range(MAX_CANDIDATES_PER_ROLE)]
    for actor in strangers:
        bench.receive(actor.introduction())
    assert bench.refuse(bench.actor("db").introduction()).reason is Reason.RATE_LIMITED
    assert {listed.iid, other.iid} <= set(bench.member.peers)
    silent = bench.member.peers[strangers[0].iid]  # the positive control: strangers give way to each other
    bench.member = bench.member.with_peer(replace(silent, silent=2))
    bench.receive(bench.actor("db").introduction())
    assert strangers[0].iid not in bench.member.peers
    bench.receive(other.commit(manifest))
    assert bench.phase == stage


def test_who_does_not_answer_is_introduced_again(bench: Bench) -> None:
    actor = bench.actor("db")
    bench.appraise(bench.receive(actor.introduction()))
    assert kinds(bench.tick(), actor.iid) == ["ping"]
    assert kinds(bench.tick(), actor.iid) == ["introduction", "ping"]
    bench.receive(bench.answer(actor, _ping_to(bench, actor)))
    assert kinds(bench.tick(), actor.iid) == ["ping"]


def test_the_attempt_that_we_pause_before_begins_with_the_first_peer_in_it(bench: Bench) -> None:
    actor = bench.actor("db")
    bench.meet(actor)
    pause = Waiting(5, bench.now + 60_000)
    bench.put(pause)
    actor.new_hello(4)
    bench.receive(actor.hello_message())
    assert bench.member.phase == pause
    actor.new_hello(5)
    bench.receive(actor.hello_message())
    assert bench.member.phase == Waiting(5, bench.now)


def test_L4_an_epoch_far_above_is_reached_in_steps(bench: Bench) -> None:
    """No message moves us by more than MAX_EPOCH_STEP, yet nobody is left behind for ever."""
    actor = bench.actor("db")
    actor.new_hello(200)
    bench.meet(actor)
    reached: list[int] = []
    for _ in range(30):
        bench.tick()
        if not reached or reached[-1] != bench.member.last_epoch:
            reached.append(bench.member.last_epoch)
    assert reached == [65, 129, 193, 200]
    assert all(b - a <= MAX_EPOCH_STEP for a, b in zip([1, *reached], reached, strict=False))


def test_only_admitted_peers_of_our_topology_have_a_say_about_epochs(bench: Bench) -> None:
    stranger, other = bench.actor("db"), bench.actor("db")
    stranger.new_hello(50)
    bench.receive(stranger.introduction())
    other.new_hello(50, signed=signed_topology(ROLES, version=9))
    bench.appraise(bench.receive(other.introduction()))
    assert highest_epoch(bench.member) == 0 and isinstance(bench.member.phase, Gathering)


def test_a_higher_attempt_of_a_candidate_is_joined_at_once(bench: Bench) -> None:
    actor = bench.actor("db")
    bench.meet(actor)
    actor.new_hello(5)
    bench.receive(actor.hello_message())
    assert bench.member.phase == Waiting(5, bench.now)
    assert kinds(bench.tick(), actor.iid) == ["hello", "ping"]
    assert attempt_of(bench.member.phase) is not None and bench.member.last_epoch == 5


def test_a_lower_attempt_of_a_candidate_is_not_joined(bench: Bench) -> None:
    ahead, behind = bench.actor("db"), bench.actor("db")
    ahead.new_hello(9)
    bench.meet(ahead)
    bench.tick()
    behind.new_hello(3)
    bench.appraise(bench.receive(behind.introduction()))
    assert isinstance(bench.member.phase, Gathering) and bench.member.last_epoch == 9


# At rest.


def test_a_resting_member_follows_the_hello_of_a_member(bench: Bench) -> None:
    db = bench.actor("db")
    manifest = bench.active(db)
    db.new_hello(4, sealed=manifest.digest, previous=manifest.digest)
    bench.receive(db.hello_message())
    assert bench.member.phase == Waiting(4, bench.now)


def test_M10_a_resting_member_follows_nobody_else(bench: Bench) -> None:
    """A pod that restarts every second, each time with a higher epoch, begins no round by that."""
    bench.active(bench.actor("db"))
    newcomer = bench.actor("web")
    newcomer.new_hello(9)
    bench.meet(newcomer)
    assert bench.phase == "active"


def test_T4_a_member_under_another_topology_is_not_followed(bench: Bench) -> None:
    db = bench.actor("db")
    bench.active(db)
    db.new_hello(4, signed=signed_topology(ROLES, version=9))
    bench.receive(db.hello_message())
    assert bench.phase == "active" and follow(bench.member, bench.now) is bench.member


def test_P5_a_listed_member_that_is_not_admitted_is_not_followed(bench: Bench) -> None:
    db = bench.actor("db")
    bench.active(db)
    peer = replace(bench.member.peers[db.iid], hello=db.new_hello(4))
    assert isinstance(follow(bench.member.with_peer(peer), bench.now).phase, Waiting)
    stranger = bench.member.with_peer(replace(peer, admitted=None))
    assert follow(stranger, bench.now) is stranger


def test_L4_a_certificate_proves_the_epochs_below_it_and_the_step_counts_from_there(bench: Bench) -> None:
    db = bench.actor("db")
    bench.meet(db)
    assert reach(bench.member) == 1 + MAX_EPOCH_STEP
    bench.hold(link(None, 300, [db]), link(None, 200, [db]))
    assert reach(bench.member) == 300 + MAX_EPOCH_STEP


def test_L4_before_anything_is_proven_the_step_counts_from_zero() -> None:
    bench = Bench(ROLES)
    assert bench.member.last_epoch == 0 and reach(bench.member) == MAX_EPOCH_STEP


def _ping_to(bench: Bench, actor: Actor) -> bytes:
    sends = [s for s in of(bench.effects, Send) if s.iid == actor.iid and kinds([s]) == ["ping"]]
    return sends[-1].data
