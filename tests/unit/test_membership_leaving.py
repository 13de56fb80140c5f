"""A member that is to end asks to be left out, and the others go on without it (PROTOCOL.md 4.8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from support.actors import Actor, Bench, of
from support.certificates import link

from toposeal._wire import peer_pb2 as wire
from toposeal.membership.events import Effect, Leave, Left, Send
from toposeal.membership.heads import round_is_due
from toposeal.membership.machine import deadline
from toposeal.membership.state import Active, Gathering, Proposed, Waiting
from toposeal_lab.simulation.network import sent_kind

TIMERS: dict[str, Any] = {"view_ms": 100, "heartbeat_ms": 1_000, "lease_ms": 10_000}


def active(least: int = 1, dbs: int = 3) -> tuple[Bench, list[Actor]]:
    """Ourselves as `web`, which nobody needs, and so many `db`, all alive."""
    bench = Bench({"db": (least, 4), "web": (0, 1)}, **TIMERS).gathering()
    actors = [bench.actor("db") for _ in range(dbs)]
    bench.active(*actors)
    for actor in actors:
        peer = bench.member.peers[actor.iid]
        bench.member = bench.member.with_peer(replace(peer, alive_at=bench.now))
    return bench, actors


def beats(effects: Sequence[Effect]) -> list[wire.Heartbeat]:
    sent = [effect.data for effect in of(effects, Send) if sent_kind(effect.data) == "heartbeat"]
    return [wire.Heartbeat.FromString(wire.Envelope.FromString(data).heartbeat.body) for data in sent]


def test_who_leaves_says_so_to_everybody_at_once_and_serves_on() -> None:
    bench, actors = active()
    effects = bench.event(Leave())
    assert sorted(beat.receiver for beat in beats(effects)) == sorted(actor.iid for actor in actors)
    assert all(beat.leaving for beat in beats(effects))
    assert of(effects, Left) == [] and bench.member.serving is not None and bench.phase == "active"


def test_who_leaves_begins_no_round_and_follows_none() -> None:
    bench, actors = active()
    bench.event(Leave())
    bench.member = replace(bench.member, sealed_at=-1 << 40)
    actors[0].new_hello(7)
    bench.receive(actors[0].hello_message())
    bench.tick(1_000)
    assert isinstance(bench.member.phase, Active)


def test_P9_who_leaves_waits_for_no_round_of_its_own() -> None:
    """What it had seen coming, and the age of its seal, wake it no more: it would do nothing then."""
    bench, actors = active()
    bench.receive(actors[0].heartbeat(bench.own.iid, leaving=True))
    bench.tick(0)
    assert bench.member.prospect is not None
    assert deadline(bench.member) == bench.member.prospect.since + TIMERS["view_ms"]
    bench.event(Leave())
    wanted = deadline(bench.member)
    assert wanted is not None and wanted > bench.now + TIMERS["view_ms"]


def test_who_is_left_out_of_what_is_active_may_end() -> None:
    bench, actors = active()
    bench.event(Leave())
    genesis = bench.member.chain[bench.member.sealed]
    bench.hold(link(genesis, 2, actors, actors))
    assert of(bench.tick(0), Left) == [Left(replaced=True)]


def test_what_is_not_proven_active_or_lists_it_ends_nobody() -> None:
    bench, actors = active()
    bench.event(Leave())
    genesis = bench.member.chain[bench.member.sealed]
    everybody = [bench.ourselves(), *actors]
    bench.hold(link(genesis, 2, actors, actors[:2]), link(genesis, 3, everybody, everybody))
    assert of(bench.tick(0), Left) == []


@pytest.mark.parametrize("case", ["nothing sealed", "not active yet", "suspended", "below the bounds"])
def test_who_serves_nobody_or_cannot_be_done_without_ends_at_once(case: str) -> None:
    bench, actors = active()
    if case in ("nothing sealed", "not active yet"):
        bench = Bench({"db": (1, 4), "web": (0, 1)}, **TIMERS).gathering()
    if case == "not active yet":
        bench.sealed(bench.actor("db"))
    if case == "suspended":
        bench.member = replace(bench.member, suspended_at=bench.now, serving_since=-1 << 40)
    if case == "below the bounds":
        for actor in actors:
            bench.receive(actor.heartbeat(bench.own.iid, leaving=True))
    assert of(bench.event(Leave()), Left) == [Left(replaced=False)]


def test_where_both_of_two_leave_and_one_could_come_neither_waits_for_the_other() -> None:
    """The newcomer alone is no majority, and with both of them there is no place for it."""
    bench = Bench({"db": (1, 1), "web": (0, 1)}, **TIMERS).gathering()
    other, newcomer = bench.actor("db"), bench.actor("db")
    bench.active(other)
    for actor in (other, newcomer):
        bench.appraise(bench.receive(actor.introduction()))
        peer = replace(bench.member.peers[actor.iid], head=bench.member.sealed, alive_at=bench.now)
        bench.member = bench.member.with_peer(peer)
    bench.receive(other.heartbeat(bench.own.iid, leaving=True))
    bench.put(Active(bench.member.chain[bench.member.sealed].sealed))
    assert of(bench.event(Leave()), Left) == [Left(replaced=False)]


def test_while_a_round_runs_whose_end_may_come_nobody_gives_up() -> None:
    bench, actors = active()
    bench.put(Waiting(2, bench.now + 10_000))
    for actor in actors:
        bench.receive(actor.heartbeat(bench.own.iid, leaving=True))
    assert of(bench.event(Leave()), Left) == []


@pytest.mark.parametrize(("epoch", "left"), [(4, []), (5, []), (6, [Left(replaced=True)])])
def test_only_what_comes_after_what_it_serves_replaces_it(epoch: int, left: list[Left]) -> None:
    """What came before it was a member does not list it either."""
    bench = Bench({"db": (1, 4), "web": (0, 1)}, **TIMERS).gathering()
    bench.put(Waiting(5, bench.now))
    bench.tick()
    actors = [bench.actor("db") for _ in range(3)]
    for actor in actors:
        actor.new_hello(5)
    assert bench.active(*actors).epoch == 5
    for actor in actors:
        peer = bench.member.peers[actor.iid]
        bench.member = bench.member.with_peer(replace(peer, alive_at=bench.now))
    bench.hold(link(None, epoch, actors, actors))
    assert of(bench.event(Leave()), Left) == left


def crowd(leave: int, *, above: bool) -> tuple[Bench, list[Actor], list[Actor]]:
    """Six members; who leaves of the others, so many whose iid is above ours or below it; and who stays."""
    for seed in range(100):
        bench = Bench({"db": (1, 9), "web": (0, 1)}, seed=seed, **TIMERS).gathering()
        actors = [bench.actor("db") for _ in range(5)]
        leaving = [actor for actor in actors if (actor.iid > bench.own.iid) is above][:leave]
        if len(leaving) == leave:
            bench.active(*actors)
            for actor in actors:
                peer = replace(bench.member.peers[actor.iid], alive_at=bench.now)
                bench.member = bench.member.with_peer(peer)
            for actor in leaving:
                bench.receive(actor.heartbeat(bench.own.iid, leaving=True))
            return bench, leaving, [actor for actor in actors if actor not in leaving]
    raise AssertionError("no seed makes such iids")


@pytest.mark.parametrize("above", [False, True])
def test_when_half_leave_at_once_as_few_of_them_stay_as_make_a_majority(above: bool) -> None:
    bench, leaving, _ = crowd(3, above=above)
    first, *others = sorted(actor.iid for actor in leaving)
    bench.tick(0)
    assert bench.member.prospect is not None
    assert first in bench.member.prospect.iids
    assert not bench.member.prospect.iids & set(others)
    assert len(bench.member.prospect.iids) == 4


@pytest.mark.parametrize("above", [False, True])
def test_who_leaves_takes_part_where_there_is_no_majority_without_it(above: bool) -> None:
    """With two others who leave it is needed if it is the first of the three, and else one of them is."""
    bench, _, (actor, *_) = crowd(2, above=above)
    bench.event(Leave())
    actor.new_hello(2, previous=bench.member.sealed)
    bench.receive(actor.hello_message())
    bench.tick(0)
    assert isinstance(bench.member.phase, Active) is not above


def test_of_two_who_leaves_waits_to_be_asked_for_its_leave() -> None:
    """Neither is a majority without the other."""
    bench, _ = active(dbs=1)
    assert of(bench.event(Leave()), Left) == []


def test_that_another_leaves_counts_without_an_answer_and_for_good() -> None:
    bench, actors = active()
    bench.receive(actors[0].heartbeat(bench.own.iid, leaving=True))
    bench.receive(actors[0].heartbeat(bench.own.iid))
    assert bench.member.peers[actors[0].iid].leaving
    assert bench.member.prospect is not None
    assert bench.member.prospect.iids == {bench.own.iid, *(actor.iid for actor in actors[1:])}
    assert round_is_due(bench.member, bench.now + TIMERS["view_ms"])


def test_that_another_leaves_is_heard_from_an_answer_too() -> None:
    bench, actors = active()
    bench.tick(1_000)
    nonce = bench.last_beat(actors[0]).nonce
    head = bench.member.sealed
    bench.receive(actors[0].heartbeat(bench.own.iid, nonce, head, leaving=True))
    assert bench.member.prospect is not None


def test_who_leaves_is_no_candidate_and_nobody_waits_for_it() -> None:
    """Before the seal, too: every role is at its maximum without it."""
    bench = Bench({"db": (1, 1), "web": (1, 1)}, **TIMERS).gathering()
    leaver, other = bench.actor("db"), bench.actor("db")
    bench.meet(leaver)
    assert isinstance(bench.member.phase, Proposed)
    bench.receive(leaver.heartbeat(bench.own.iid, leaving=True))
    bench.tick(2_000)
    assert isinstance(bench.member.phase, Gathering)
    bench.meet(other)
    assert isinstance(bench.member.phase, Proposed)
    assert bench.member.phase.manifest.entry(other.iid) is not None
