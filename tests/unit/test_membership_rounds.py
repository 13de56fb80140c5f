"""Phase 2 up to the commitment: selection, PROPOSE, and the one SEAL quote of an epoch (4.4, 5.2)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.actors import Actor, Bench, kinds, of, subjects

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.errors import LocalProtocolError, Mismatch, Reason, RemoteProtocolError
from toposeal.evidence.binding import Purpose
from toposeal.membership import rounds
from toposeal.membership.events import Alarm, Quote
from toposeal.membership.manifest import parse_manifest
from toposeal.membership.rounds import appraise, begin_if_due, evaluate, own_seal
from toposeal.membership.sealed import seal_of
from toposeal.membership.signing import Tag
from toposeal.membership.state import Committed, Gathering, Proposed, Waiting
from toposeal_lab.simulation.symbolic import signed_topology

FIXED = {"db": (1, 1), "web": (1, 1)}
ELASTIC = {"db": (1, 1), "web": (1, 3)}


def fixed() -> Bench:
    return Bench(FIXED).gathering()


def test_a_fixed_size_application_waits_for_no_timer() -> None:
    bench = fixed()
    db = bench.actor("db")
    effects = bench.meet(db)
    assert bench.phase == "proposed" and kinds(effects, db.iid)[-1] == "propose"
    effects = bench.receive(db.propose(bench.manifest(db)))
    assert bench.phase == "committed" and bench.now == 1_000
    assert [q.purpose for q in of(effects, Quote)] == [Purpose.SEAL]


def test_where_bounds_leave_room_the_choice_must_stand_for_t_view() -> None:
    bench = Bench(ELASTIC, view_ms=2_000).gathering()
    bench.meet(bench.actor("db"))
    assert bench.phase == "gathering"
    bench.tick(1_500)
    bench.meet(bench.actor("web"))
    bench.tick(1_999)
    assert bench.phase == "gathering"
    bench.tick(1)
    assert bench.phase == "proposed"


def test_a_full_choice_ends_the_waiting() -> None:
    bench = Bench(ELASTIC).gathering()
    bench.meet(bench.actor("db"), bench.actor("web"))
    assert bench.phase == "gathering"
    bench.meet(bench.actor("web"))
    assert bench.phase == "proposed"


def test_a_newcomer_replaces_the_proposal_and_a_lost_candidate_withdraws_it() -> None:
    bench = Bench(ELASTIC, ping_ms=500, view_ms=100).gathering()
    db, web = bench.actor("db"), bench.actor("web")
    first = bench.proposed(db)
    bench.meet(web)
    assert isinstance(bench.member.phase, Proposed)
    assert bench.member.phase.manifest.digest != first.digest
    for _ in range(5):
        bench.tick()
    assert isinstance(bench.member.phase, Gathering)


def test_whoever_is_not_selected_proposes_nothing() -> None:
    bench = Bench({"db": (1, 1), "web": (1, 1)})
    bench.gathering()
    others = [bench.actor("web") for _ in range(8)]
    assert min(o.iid for o in others) < bench.own.iid
    bench.meet(bench.actor("db"))
    assert bench.phase == "proposed"
    bench.meet(*others)
    assert bench.phase == "gathering"


# PROPOSE.


def test_no_quote_before_every_listed_member_has_proposed_the_same() -> None:
    bench = Bench({"db": (2, 2), "web": (1, 1)}).gathering()
    a, b = bench.actor("db"), bench.actor("db")
    manifest = bench.proposed(a, b)
    bench.receive(a.propose(manifest))
    assert of(bench.effects, Quote)[-1].purpose is Purpose.JOIN
    bench.receive(a.propose(manifest))
    assert bench.phase == "proposed"
    bench.receive(b.propose(manifest))
    assert bench.phase == "committed"


def replace_epoch(body: bytes) -> bytes:
    message = wire.Manifest.FromString(body)
    message.epoch = 2
    return encode(message)


def other_manifest(bench: Bench, *actors: Actor) -> bytes:
    """Another manifest of the same epoch: one member shows another nonce."""
    message = wire.Manifest.FromString(bench.manifest(*actors).body)
    message.members[0].nonce = bytes([9]) * 32
    return encode(message)


def test_a_later_propose_replaces_the_earlier_one() -> None:
    bench = Bench({"db": (2, 2), "web": (1, 1)}).gathering()
    a, b = bench.actor("db"), bench.actor("db")
    manifest = bench.proposed(a, b)
    other = parse_manifest(other_manifest(bench, a, b))
    bench.receive(a.propose(other))
    bench.receive(b.propose(manifest))
    assert bench.phase == "proposed"
    bench.receive(a.propose(manifest))
    assert bench.phase == "committed"


def test_P2_different_hellos_at_two_members_never_lead_to_a_commitment() -> None:
    """The digests differ, so the proposals do, so nobody quotes."""
    bench = Bench({"cache": (1, 1), "db": (1, 1), "web": (1, 1)}).gathering()
    db, cache = bench.actor("db"), bench.actor("cache")
    bench.proposed(db, cache)
    cache.new_hello(1)  # what `cache` has shown to `db`
    theirs = bench.manifest(db, cache)
    bench.receive(db.propose(theirs))
    bench.receive(cache.propose(theirs))
    assert bench.phase == "proposed"
    assert [q.purpose for q in of(bench.effects, Quote)] == [Purpose.JOIN]


def test_propose_of_another_epoch_is_stale() -> None:
    bench = fixed()
    db = bench.actor("db")
    manifest = bench.proposed(db)
    stale = parse_manifest(replace_epoch(manifest.body))
    assert bench.refuse(db.propose(stale)).reason is Reason.STALE_ATTEMPT


def test_P7_propose_of_ourselves_of_a_stranger_and_signed_by_another() -> None:
    bench = Bench({"db": (2, 2), "web": (1, 1)}).gathering()
    a, b, stranger = (bench.actor("db") for _ in range(3))
    manifest = bench.proposed(a, b)
    assert bench.refuse(Actor(bench.own, bench.entropy).propose(manifest)).reason is Reason.REFLECTED
    assert bench.refuse(stranger.propose(manifest)).reason is Reason.UNKNOWN_MEMBER
    envelope = wire.Envelope.FromString(a.propose(manifest))
    envelope.propose.signature = b.own.keys.sign(Tag.PROPOSE, envelope.propose.body)
    assert bench.refuse(encode(envelope)).reason is Reason.SIGNATURE_INVALID


def test_a_propose_heard_before_our_own_counts() -> None:
    bench = Bench(ELASTIC, view_ms=500).gathering()
    db = bench.actor("db")
    bench.meet(db)
    bench.receive(db.propose(bench.manifest(db)))
    assert bench.phase == "gathering"
    bench.tick(500)
    assert bench.phase == "committed"


# The commitment.


def test_the_seal_quote_binds_the_manifest_and_our_own_entry() -> None:
    bench = fixed()
    db = bench.actor("db")
    manifest = bench.committed(db)
    entry = manifest.entry(bench.own.iid)
    assert entry is not None
    assert of(bench.effects, Quote)[-1].binding == seal_of(manifest, entry)
    assert bench.member.last_commitment == manifest.epoch == 1
    assert isinstance(bench.member.phase, Committed)
    timers = bench.signed.topology.timers
    assert bench.member.phase.deadline == bench.now + timers.quote_ms + timers.attempt_ms


def test_commits_at_hand_are_appraised_with_the_commitment() -> None:
    bench = Bench({"db": (2, 2), "web": (1, 1)}).gathering()
    a, b = bench.actor("db"), bench.actor("db")
    manifest = bench.proposed(a, b)
    bench.receive(a.commit(manifest))
    bench.receive(a.propose(manifest))
    effects = bench.receive(b.propose(manifest))
    assert len(subjects(effects)) == 1 and bench.phase == "committed"


def test_M9_a_topology_alarm_after_propose_withdraws_it() -> None:
    bench = fixed()
    db = bench.actor("db")
    manifest = bench.proposed(db)
    other = signed_topology(FIXED, version=7, issued_at=1)
    bench.receive(encode(wire.Envelope(topology=other.envelope)))
    bench.receive(db.propose(manifest))
    assert bench.phase == "gathering" and not of(bench.effects, Quote)[1:]


def test_a_check_that_fails_ends_the_attempt_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that we propose can fail a check; if it does, there is no second try in this epoch."""
    bench = fixed()
    db = bench.actor("db")
    manifest = bench.proposed(db)
    mismatch = Mismatch(Reason.MANIFEST_BOUNDS, "manifest.members", "0", "1")
    monkeypatch.setattr(rounds, "commit_mismatches", lambda *_: [mismatch])
    effects = bench.receive(db.propose(manifest))
    assert effects == [Alarm(mismatch)] and bench.phase == "proposed"
    bench.tick()
    assert bench.phase == "waiting"


def test_whoever_committed_to_something_else_ends_our_attempt() -> None:
    bench = Bench({"db": (2, 2), "web": (1, 1)}).gathering()
    a, b = bench.actor("db"), bench.actor("db")
    bench.proposed(a, b)
    bench.receive(a.commit(parse_manifest(other_manifest(bench, a, b))))
    bench.tick()
    assert bench.phase == "waiting"


def test_a_foreign_commitment_heard_before_our_proposal_ends_the_attempt_too() -> None:
    bench = Bench(ELASTIC, view_ms=500).gathering()
    db = bench.actor("db")
    bench.meet(db)
    bench.receive(db.commit(parse_manifest(other_manifest(bench, db))))
    bench.tick(500)
    assert bench.phase == "proposed"
    bench.tick()
    assert bench.phase == "waiting"


def test_our_own_seal_needs_our_own_entry() -> None:
    bench = fixed()
    manifest = bench.proposed(bench.actor("db"))
    assert own_seal(bench.member, manifest).iid == bench.own.iid
    with pytest.raises(LocalProtocolError):
        own_seal(bench.member, replace(manifest, members=manifest.members[:1]))


def test_only_listed_members_are_appraised() -> None:
    bench = fixed()
    db = bench.actor("db")
    manifest = bench.committed(db)
    bench.receive(db.commit(manifest))
    kept = bench.member.peers[db.iid].commit
    assert kept is not None
    with pytest.raises(RemoteProtocolError):
        appraise(bench.member, bytes(48), manifest, kept)


@pytest.mark.parametrize("phase", ["boot", "waiting", "committed", "sealed", "active"])
def test_nothing_is_proposed_outside_an_open_attempt(phase: str) -> None:
    bench = Bench(FIXED)
    db = bench.actor("db")
    if phase == "waiting":
        bench.appraise(bench.quote(bench.effects))
    elif phase != "boot":
        getattr(bench.gathering(), phase)(db)
    assert bench.phase == phase
    assert evaluate(bench.member, bench.now) == (bench.member, ())


def test_a_proposal_with_a_member_that_is_gone_ends_at_the_next_commit() -> None:
    bench = Bench({"db": (2, 2), "web": (1, 1)}, ping_ms=1_000).gathering()
    gone, other = bench.actor("db"), bench.actor("db")
    manifest = bench.proposed(gone, other)
    bench.member = bench.member.without_peer(gone.iid)
    bench.receive(other.commit(manifest))
    assert isinstance(bench.member.phase, Proposed) and bench.member.phase.deadline == bench.now


def test_a_proposal_with_a_member_that_is_gone_is_not_agreed_by_the_others() -> None:
    bench = Bench({"db": (2, 2), "web": (1, 1)}).gathering()
    gone, other = bench.actor("db"), bench.actor("db")
    manifest = bench.proposed(gone, other)
    bench.member = bench.member.without_peer(gone.iid)
    assert bench.receive(other.propose(manifest)) == [] and bench.phase == "proposed"


# The next round.


@pytest.mark.parametrize(("theirs", "begun"), [(1, 8), (7, 8), (8, 8), (9, 9)])
def test_S3_a_round_begins_above_every_epoch_that_we_were_in_and_where_the_others_are(
    theirs: int, begun: int
) -> None:
    bench = fixed()
    db = bench.actor("db")
    bench.active(db)
    bench.member = replace(bench.member, last_epoch=7)
    peer = bench.member.peers[db.iid]
    bench.member = bench.member.with_peer(replace(peer, hello=replace(peer.hello, target_epoch=theirs)))
    now = bench.now + bench.signed.topology.timers.reattest_ms
    assert begin_if_due(bench.member, now).phase == Waiting(begun, now)
