"""A newer topology takes effect in a mesh that lives, and no older one ever does (4.7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from support.actors import Actor, Bench, kinds, of
from support.certificates import envelope, link, part

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.errors import Mismatch, Reason
from toposeal.limits import MAX_ENVELOPE_SIZE, MAX_VERSION_STEP
from toposeal.membership import outbox
from toposeal.membership.checks import commit_mismatches
from toposeal.membership.events import (
    Activate,
    Alarm,
    Appraise,
    Effect,
    Fence,
    Quote,
    Refused,
    Resume,
    Send,
    Suspend,
)
from toposeal.membership.machine import start
from toposeal.membership.state import Committed, Gathering, Proposed, Prospect, Waiting, attempt_of
from toposeal.topology.accept import SignedTopology
from toposeal_lab.simulation.network import sent_kind
from toposeal_lab.simulation.symbolic import signed_topology

ROLES = {"db": (1, 2), "web": (1, 2)}
PING, LEASE, TOPOLOGY = 1_000, 600_000, 60_000
TIMERS: dict[str, Any] = {
    "ping_ms": PING,
    "lease_ms": LEASE,
    "topology_ms": TOPOLOGY,
    "view_ms": 50,
    "heartbeat_ms": 500,
}
MISMATCH = Mismatch(Reason.MEASUREMENT, "mrtd", "another", "one of the topology's")


def newer(version: int = 8, roles: dict[str, tuple[int, int]] | None = None, **more: int) -> SignedTopology:
    return signed_topology(roles or ROLES, version=version, **{**TIMERS, **more})


def message(signed: SignedTopology) -> bytes:
    return encode(wire.Envelope(topology=signed.envelope))


@pytest.fixture
def bench() -> Bench:
    return Bench(ROLES, **TIMERS).gathering()


@pytest.fixture
def active() -> tuple[Bench, Actor, Actor]:
    bench = Bench(ROLES, **TIMERS).gathering()
    one, other = bench.actor("db"), bench.actor("db")
    bench.active(one, other)
    return bench, one, other


def update(bench: Bench, signed: SignedTopology) -> list[Effect]:
    """The owner's push, and every verdict that it asks for."""
    effects = bench.receive(message(signed))
    return effects + bench.appraise(effects)


def under(bench: Bench, signed: SignedTopology, *actors: Actor) -> None:
    """The actors learn it too, and begin the next round."""
    for actor in actors:
        actor.own = replace(actor.own, topology=signed)
    bench.signed = signed
    bench.again(*actors)


def wanted(effects: Sequence[Effect]) -> list[bytes]:
    sent = [wire.Envelope.FromString(s.data) for s in of(effects, Send) if sent_kind(s.data) == "want"]
    return [wire.Want.FromString(e.want.body).digest for e in sent]


# What counts.


def test_T4_an_older_topology_is_refused_and_a_newer_one_is_ours(bench: Bench) -> None:
    assert bench.refuse(message(newer(6))).reason is Reason.TOPOLOGY_ROLLBACK
    bench.receive(message(newer(9)))
    assert bench.member.topology == newer(9).topology
    for older in (7, 8):
        assert bench.refuse(message(newer(older))).reason is Reason.TOPOLOGY_ROLLBACK


def test_our_own_topology_shown_to_us_says_nothing(bench: Bench) -> None:
    before = bench.member
    assert bench.receive(message(bench.signed)) == [] and bench.member == before
    spaced = replace(bench.signed, envelope=bench.signed.envelope + b" ")
    assert bench.receive(message(spaced)) == [] and bench.member == before


def test_T3_a_topology_that_the_owner_did_not_sign_does_not_count(bench: Bench) -> None:
    foreign = signed_topology(ROLES, version=9, owner_seed=2)
    error = bench.refuse(message(foreign))
    assert error.reason in (Reason.TOPOLOGY_THRESHOLD, Reason.TOPOLOGY_SIGNATURE)
    assert (
        bench.refuse(message(signed_topology(ROLES, version=9, mesh="staging"))).reason
        is Reason.TOPOLOGY_MESH
    )


def test_T6_a_version_far_above_is_refused_and_not_remembered(bench: Bench) -> None:
    far = 7 + MAX_VERSION_STEP
    assert bench.refuse(message(newer(far + 1))).reason is Reason.TOPOLOGY_FAST_FORWARD
    bench.receive(message(newer(far)))
    assert bench.member.topology.version == far


def test_T5_two_contents_of_one_version_stop_commitments_until_a_higher_one(bench: Bench) -> None:
    other = message(newer(7, issued_at=1))
    alarms = of(bench.receive(other), Alarm)
    assert [a.mismatch.reason for a in alarms] == [Reason.TOPOLOGY_EQUIVOCATION]
    assert bench.receive(other) == [] and bench.member.topology == bench.signed.topology
    actor = bench.actor("db")
    bench.meet(actor)
    bench.tick(10_000)
    assert isinstance(bench.member.phase, Gathering)
    update(bench, newer(8))
    assert bench.member.blocked is None
    under(bench, newer(8), actor)
    bench.tick(TIMERS["view_ms"])
    assert isinstance(bench.member.phase, Proposed)


# What an open attempt does.


def test_an_open_attempt_ends_and_the_next_hello_is_under_the_newer_topology(bench: Bench) -> None:
    actor = bench.actor("db")
    bench.proposed(actor)
    epoch = bench.member.last_epoch
    effects = bench.receive(message(newer()))
    assert isinstance(bench.member.phase, Waiting)
    judged = of(effects, Appraise)
    assert {a.ticket.iid for a in judged} == {bench.own.iid, actor.iid}
    assert all(a.topology == newer().topology for a in judged)
    bench.appraise(effects)
    bench.tick()
    attempt = attempt_of(bench.member.phase)
    assert attempt is not None and attempt.epoch == epoch + 1
    assert attempt.hello.topology_digest == newer().topology.digest


def test_who_may_come_in_is_judged_anew_and_has_to_stand_for_as_long(bench: Bench) -> None:
    """What a member would list under the older topology says nothing about the newer one."""
    seen = Prospect(frozenset([bench.own.iid]), bench.now)
    bench.member = replace(bench.member, prospect=seen)
    bench.receive(message(newer()))
    assert bench.member.prospect is None


def test_a_pause_ends(bench: Bench) -> None:
    bench.put(Waiting(5, bench.now + 100_000))
    bench.receive(message(newer()))
    assert bench.member.phase == Waiting(5, bench.now)


def test_what_was_committed_to_is_sealed_under_its_own_topology_and_followed_at_once() -> None:
    bench = Bench(ROLES, **TIMERS).gathering()
    actor = bench.actor("db")
    manifest = bench.committed(actor)
    old, signed = bench.signed, newer(roles={"db": (2, 2), "web": (1, 2)})
    update(bench, signed)
    assert isinstance(bench.member.phase, Committed)
    effects = [*bench.quote(of(bench.effects, Quote)[-1:]), *bench.receive(actor.commit(manifest))]
    assert [e.topology for e in of(effects, Appraise)] == [old.topology] * 2
    bench.appraise(effects)
    effects = bench.receive(actor.sealed(manifest))
    (activate,) = of(effects, Activate)
    assert activate.sealed.topology == old.topology
    bench.tick()
    attempt = attempt_of(bench.member.phase)
    assert attempt is not None and attempt.hello.topology_digest == signed.topology.digest
    assert attempt.previous == manifest.digest


def test_a_member_at_rest_begins_a_round_under_it(active: tuple[Bench, Actor, Actor]) -> None:
    bench, one, other = active
    served = bench.member.serving
    update(bench, newer())
    assert isinstance(bench.member.phase, Waiting)
    under(bench, newer(), one, other)
    bench.tick(TIMERS["view_ms"])
    assert isinstance(bench.member.phase, Proposed) and bench.member.serving is served
    manifest = bench.member.phase.manifest
    assert (
        manifest.topology_version == 8 and served is not None and manifest.previous == served.manifest.digest
    )


# Who has a place.


def test_who_has_no_role_any_more_is_chosen_no_more_and_known_while_it_is_listed() -> None:
    roles = {**ROLES, "cache": (0, 1)}
    bench = Bench(roles, **TIMERS).gathering()
    one, other, cache = bench.actor("db"), bench.actor("db"), bench.actor("cache")
    stranger = bench.actor("cache")
    bench.active(one, other, cache)
    bench.meet(stranger)
    signed = newer(roles=ROLES)
    alarms = of(update(bench, signed), Alarm)
    assert {a.mismatch.reason for a in alarms} == {Reason.MEASUREMENT}
    assert cache.iid in bench.member.peers and stranger.iid not in bench.member.peers
    under(bench, signed, one, other)
    bench.tick(TIMERS["view_ms"])  # nobody waits a lease for it
    assert isinstance(bench.member.phase, Proposed)
    assert {e.iid for e in bench.member.phase.manifest.members} == {bench.own.iid, one.iid, other.iid}


def test_evidence_that_was_refused_is_looked_at_again(active: tuple[Bench, Actor, Actor]) -> None:
    bench, one, _ = active
    asked = bench.receive(message(newer()))
    for effect in of(asked, Appraise):
        refused = bench.event(Refused(effect.ticket, MISMATCH))
        assert refused == [Alarm(MISMATCH)]
        assert bench.event(Refused(effect.ticket, MISMATCH)) == []
    again = bench.receive(one.introduction())
    assert [e.ticket.iid for e in of(again, Appraise)] == [one.iid]
    assert bench.member.peers[one.iid].refused == newer().topology.digest
    bench.appraise(again)
    assert of(bench.receive(one.introduction()), Appraise) == []
    effects = bench.tick()  # ours too, as long as it is refused
    assert [e.ticket.iid for e in of(effects, Appraise)] == [bench.own.iid]
    assert bench.member.accepted != newer().topology.digest
    bench.appraise(effects)
    assert bench.member.accepted == newer().topology.digest
    assert of(bench.tick(PING), Appraise) == []


def test_who_is_not_admitted_itself_takes_no_part(active: tuple[Bench, Actor, Actor]) -> None:
    bench, one, other = active
    signed = newer(roles={"db": (1, 2)})
    update(bench, signed)
    under(bench, signed, one, other)
    bench.tick(LEASE)
    assert isinstance(bench.member.phase, Gathering) and not of(bench.effects, Fence)
    attempt = bench.member.phase.attempt
    bench.signed = signed
    found = commit_mismatches(bench.member, attempt, bench.manifest(one, other), bench.now)
    assert Reason.ROLE_MISMATCH in {m.reason for m in found}


def test_T4_check_9_nothing_follows_a_manifest_of_a_newer_topology(
    active: tuple[Bench, Actor, Actor],
) -> None:
    """Whoever holds its certificate has its topology, so this cannot be; it is checked all the same."""
    bench, one, other = active
    bench.again(one, other)
    phase = bench.member.phase
    assert isinstance(phase, (Gathering, Proposed))
    following = bench.manifest(one, other)
    assert commit_mismatches(bench.member, phase.attempt, following, bench.now) == []
    held = bench.member.chain[following.previous]
    later = replace(held.sealed, manifest=replace(held.manifest, topology_version=8))
    bench.hold(replace(held, sealed=later))
    found = commit_mismatches(bench.member, phase.attempt, following, bench.now)
    assert [m.reason for m in found] == [Reason.TOPOLOGY_ROLLBACK]


def test_a_verdict_by_an_older_topology_counts_no_more(active: tuple[Bench, Actor, Actor]) -> None:
    bench, _, _ = active
    first = bench.receive(message(newer(8)))
    update(bench, newer(9, roles={"db": (1, 2)}))
    assert bench.member.refused == newer(9, roles={"db": (1, 2)}).topology.digest
    before = bench.member
    assert bench.appraise(first) == [] and bench.member == before
    for effect in of(first, Appraise):
        assert bench.event(Refused(effect.ticket, MISMATCH)) == [] and bench.member == before


def test_a_member_that_boots_is_judged_by_the_newest(bench: Bench) -> None:
    member, quote = start(bench.own, 0)
    bench.member, bench.now = member, 0
    first = bench.quote(quote)
    second = bench.receive(message(newer()))
    assert bench.appraise(first) == [] and bench.phase == "boot"
    bench.appraise(second)
    assert bench.phase == "waiting" and bench.member.accepted == newer().topology.digest


def test_a_member_without_evidence_yet_is_judged_when_it_has_some(bench: Bench) -> None:
    bench.member, quote = start(bench.own, 0)
    bench.now = 0
    assert bench.receive(message(newer())) == []
    (judged,) = of(bench.quote(quote), Appraise)
    assert judged.topology == newer().topology


def test_a_member_that_boots_and_that_the_newest_does_not_admit_waits_for_another(bench: Bench) -> None:
    member, quote = start(bench.own, 0)
    bench.member, bench.now = member, 0
    bench.quote(quote)
    assert of(update(bench, newer(roles={"db": (1, 2)})), Fence) == []
    assert bench.phase == "boot" and of(bench.effects, Alarm)
    update(bench, newer(9))
    assert bench.phase == "waiting"


# How long the older one is served.


def test_after_topology_ms_a_member_suspends_until_it_serves_a_newer_one(
    active: tuple[Bench, Actor, Actor],
) -> None:
    bench, one, other = active
    update(bench, newer(8))
    bench.now += TOPOLOGY - 1
    update(bench, newer(9))  # a third one does not put it off
    assert not of(bench.effects, Suspend)
    (suspend,) = of(bench.tick(1), Suspend)
    assert suspend.mismatch.reason is Reason.TOPOLOGY_SUPERSEDED
    under(bench, newer(9), one, other)
    bench.tick(TIMERS["view_ms"])
    assert isinstance(bench.member.phase, Proposed)
    manifest = bench.member.phase.manifest
    effects: list[Effect] = []
    for actor in (one, other):
        effects += bench.receive(actor.propose(manifest))
    quoted = bench.quote(effects)
    for actor in (one, other):
        quoted += bench.receive(actor.commit(manifest))
    bench.appraise([*effects, *quoted])
    for actor in (one, other):
        effects += bench.receive(actor.sealed(manifest))
    assert [type(e) for e in effects if isinstance(e, (Activate, Resume))] == [Activate, Resume]
    assert bench.member.adopted == ()
    assert set(bench.member.topologies) == {newer(9).topology.digest}


# How it spreads.


def test_a_peer_that_goes_by_a_newer_one_is_asked_for_it(bench: Bench) -> None:
    actor = bench.actor("db", signed=newer())
    effects = bench.appraise(bench.receive(actor.introduction()))
    assert wanted(effects) == [newer().topology.digest]
    assert wanted(bench.receive(actor.introduction())) == []  # one question at a time
    bench.tick()
    assert len([d for d in wanted(bench.effects) if d == newer().topology.digest]) == 2
    update(bench, newer())
    assert bench.member.fetch is None and bench.member.topology == newer().topology


def test_who_never_answered_is_asked_again_at_its_next_heartbeat(active: tuple[Bench, Actor, Actor]) -> None:
    bench, one, _ = active
    one.own = replace(one.own, topology=newer())
    one.new_hello(bench.member.last_epoch + 1)
    assert wanted(bench.receive(one.hello_message())) == [newer().topology.digest]
    bench.member = replace(bench.member, fetch=None)
    bench.tick(TIMERS["heartbeat_ms"])
    assert wanted(bench.beat(one)) == [newer().topology.digest]


@pytest.mark.parametrize(("more", "asked"), [(0, True), (1, False)])
def test_T6_nobody_is_asked_for_a_version_far_above(bench: Bench, more: int, asked: bool) -> None:
    actor = bench.actor("db", signed=newer(7 + MAX_VERSION_STEP + more))
    assert bool(wanted(bench.appraise(bench.receive(actor.introduction())))) is asked


def test_M9_who_goes_by_an_older_one_is_shown_ours_once_in_ping_ms(bench: Bench) -> None:
    actor = bench.actor("db", signed=newer(6))
    effects = bench.appraise(bench.receive(actor.introduction()))
    assert kinds(effects) == ["introduction", "topology"]
    assert bench.receive(actor.introduction()) == []
    bench.now += PING
    again = bench.receive(actor.introduction())
    assert kinds(again) == ["topology"] and not of(again, Alarm)


def test_whoever_asks_for_a_topology_that_we_hold_is_given_it(active: tuple[Bench, Actor, Actor]) -> None:
    bench, one, _ = active
    old = bench.signed
    update(bench, newer())
    for signed in (old, newer()):
        (sent,) = of(bench.receive(one.want(bench.own.iid, signed.topology.digest)), Send)
        assert sent.data == message(signed)
    assert bench.refuse(one.want(bench.own.iid, old.topology.digest, 1)).reason is Reason.CERTIFICATE_UNKNOWN
    wrapping = len(encode(wire.Envelope(topology=bytes(MAX_ENVELOPE_SIZE)))) - MAX_ENVELOPE_SIZE
    question = one.want(bench.own.iid, old.topology.digest)
    keep(bench, replace(old, envelope=bytes(MAX_ENVELOPE_SIZE - wrapping)))
    assert kinds(bench.receive(question)) == ["topology"]
    keep(bench, replace(old, envelope=bytes(MAX_ENVELOPE_SIZE - wrapping + 1)))
    assert bench.refuse(question).reason is Reason.CERTIFICATE_UNKNOWN


def keep(bench: Bench, signed: SignedTopology) -> None:
    topologies = {**bench.member.topologies, signed.topology.digest: signed}
    bench.member = replace(bench.member, topologies=topologies)


@pytest.mark.parametrize(("more", "shown"), [(0, ["topology"]), (1, [])])
def test_a_topology_that_fills_an_envelope_is_shown_and_a_larger_one_not(
    active: tuple[Bench, Actor, Actor], more: int, shown: list[str]
) -> None:
    bench, one, _ = active
    wrapping = len(encode(wire.Envelope(topology=bytes(MAX_ENVELOPE_SIZE)))) - MAX_ENVELOPE_SIZE
    large = replace(bench.signed, envelope=bytes(MAX_ENVELOPE_SIZE - wrapping + more))
    member = replace(bench.member, own=replace(bench.member.own, topology=large))
    assert kinds(outbox.topology(member, member.peers[one.iid])) == shown


# Certificates under an older one.


def fetching(bench: Bench, older: SignedTopology) -> tuple[Actor, wire.CertificatePart]:
    """A newcomer that is shown a manifest under a topology that it does not have."""
    dbs = [bench.actor("db", signed=older) for _ in range(2)]
    bench.meet(*dbs)
    held = link(None, 1, dbs, dbs)
    bench.receive(dbs[0].heartbeat(bench.own.iid))
    bench.beat(dbs[0], held.digest)
    return dbs[0], part(held)


def test_a_certificate_under_an_older_topology_needs_that_topology_first(bench: Bench) -> None:
    older = newer(6, roles={"db": (2, 2), "web": (0, 1)})
    source, first = fetching(bench, older)
    effects = bench.receive(envelope(first))
    assert wanted(effects) == [older.topology.digest] and not of(effects, Appraise)
    assert bench.refuse(envelope(first)).reason is Reason.STALE_ATTEMPT
    again = bench.receive(message(older))
    assert wanted(again) == [first.manifest_digest]
    judged = bench.receive(envelope(first))
    assert [e.topology for e in of(judged, Appraise)] == [older.topology] * 2
    bench.appraise(judged)
    assert bench.member.chain[first.manifest_digest].sealed.topology == older.topology
    assert bench.member.topology == bench.signed.topology
    assert bench.refuse(message(older)).reason is Reason.TOPOLOGY_ROLLBACK
    assert source.iid in bench.member.peers


def test_T4_only_the_older_topology_that_was_asked_for_is_taken(bench: Bench) -> None:
    older = newer(6, roles={"db": (2, 2), "web": (0, 1)})
    _, first = fetching(bench, older)
    assert wanted(bench.receive(envelope(first))) == [older.topology.digest]
    for other in (newer(5), newer(6)):
        assert bench.refuse(message(other)).reason is Reason.TOPOLOGY_ROLLBACK
    assert wanted(bench.receive(message(older))) == [first.manifest_digest]


def test_T4_a_certificate_below_the_measured_version_proves_nothing(bench: Bench) -> None:
    bench.member = replace(bench.member, own=replace(bench.member.own, min_version=7))
    older = newer(6)
    _, first = fetching(bench, older)
    bench.receive(envelope(first))
    assert bench.refuse(message(older)).reason is Reason.TOPOLOGY_ROLLBACK


def test_a_certificate_under_a_newer_topology_brings_that_topology(bench: Bench) -> None:
    older = newer(6, roles={"db": (2, 2), "web": (0, 1)})
    _, first = fetching(bench, older)
    bench.member = replace(bench.member, own=replace(bench.member.own, topology=newer(5)))
    bench.member = replace(bench.member, topologies={newer(5).topology.digest: newer(5)})
    assert wanted(bench.receive(envelope(first))) == [older.topology.digest]
    assert first.manifest_digest in wanted(bench.receive(message(older)))
    assert bench.member.topology == older.topology and bench.member.fetch is not None


def test_a_topology_that_comes_renews_our_patience_with_the_certificate(bench: Bench) -> None:
    older = newer(6, roles={"db": (2, 2), "web": (0, 1)})
    _, first = fetching(bench, older)
    bench.receive(envelope(first))
    for _ in range(2):
        assert wanted(bench.tick(PING)) == [older.topology.digest]
    bench.now += 1
    assert wanted(bench.receive(message(older))) == [first.manifest_digest]
    assert wanted(bench.tick(PING - 1)) == []
    for wait in (1, PING):
        assert wanted(bench.tick(wait)) == [first.manifest_digest]
    assert wanted(bench.tick(PING)) == [] and bench.member.fetch is None


def test_a_topology_that_nobody_waits_for_leaves_what_is_asked_for_as_it_is(bench: Bench) -> None:
    older = newer(6, roles={"db": (2, 2), "web": (0, 1)})
    _, first = fetching(bench, older)
    bench.receive(envelope(first))
    fetch = bench.member.fetch
    assert wanted(bench.receive(message(newer(8)))) == []
    assert bench.member.fetch == fetch is not None


def test_a_certificate_that_has_begun_to_come_is_judged_under_its_own_topology(bench: Bench) -> None:
    others = [bench.actor("db"), bench.actor("web")]
    bench.meet(*others)
    held = link(None, 1, others, others)
    bench.receive(others[0].heartbeat(bench.own.iid))
    bench.beat(others[0], held.digest)
    bench.receive(envelope(part(held, 0, 1)))
    bench.receive(message(newer(8)))
    (last,) = of(bench.receive(envelope(part(held, 1))), Appraise)
    assert last.topology == held.sealed.topology != bench.member.topology
