"""Phase 2 after the commitment: SEALED of all makes active, and laggards are helped (4.6)."""

from __future__ import annotations

import pytest
from support.actors import Actor, kinds, of
from support.certificates import link
from support.committed import Mesh, foreign, seal_binding, sealed

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.errors import Reason
from toposeal.membership import sealing
from toposeal.membership.events import Activate, Appraise, Fence, Quote, Subject, Ticket
from toposeal.membership.sealed import join_of
from toposeal.membership.signing import Tag, verify_ik
from toposeal.membership.state import Committed, Waiting
from toposeal.membership.votes import decision_body, make_commit
from toposeal_lab.simulation.network import sent_kind
from toposeal_lab.simulation.symbolic import symbolic_appraisal, symbolic_evidence


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


def test_sealed_becomes_active_with_sealed_of_every_member(mesh: Mesh) -> None:
    sealed(mesh)
    mesh.bench.receive(mesh.a.sealed(mesh.manifest))
    assert mesh.bench.phase == "sealed"
    effects = mesh.bench.receive(mesh.b.sealed(mesh.manifest))
    assert mesh.bench.phase == "active"
    assert [e.sealed.manifest.digest for e in of(effects, Activate)] == [mesh.manifest.digest]


def test_sealed_heard_before_our_own_seal_counts(mesh: Mesh) -> None:
    mesh.bench.receive(mesh.a.sealed(mesh.manifest))
    mesh.bench.receive(mesh.b.sealed(mesh.manifest))
    mesh.commit(mesh.a, mesh.b)
    assert not of(mesh.bench.effects, Activate)
    mesh.quote_ourselves()
    assert mesh.bench.phase == "active"


def test_sealed_of_another_manifest_of_ourselves_and_of_strangers(mesh: Mesh) -> None:
    sealed(mesh)
    other = foreign(mesh, epoch=2)
    assert mesh.bench.refuse(mesh.a.sealed(other)).reason is Reason.STALE_ATTEMPT
    assert mesh.bench.refuse(Actor(mesh.bench.own, mesh.bench.entropy).sealed(mesh.manifest)).reason is (
        Reason.REFLECTED
    )
    assert mesh.bench.refuse(mesh.bench.actor("db").sealed(mesh.manifest)).reason is Reason.UNKNOWN_MEMBER
    envelope = wire.Envelope.FromString(mesh.a.sealed(mesh.manifest))
    envelope.sealed.signature = mesh.a.own.keys.sign(Tag.PROPOSE, envelope.sealed.body)
    assert mesh.bench.refuse(encode(envelope)).reason is Reason.SIGNATURE_INVALID


def test_sealed_of_an_outsider_does_not_count(mesh: Mesh) -> None:
    outsider = mesh.bench.actor("db")
    mesh.bench.appraise(mesh.bench.receive(outsider.introduction()))
    sealed(mesh)
    mesh.bench.receive(mesh.a.sealed(mesh.manifest))
    assert mesh.bench.refuse(outsider.sealed(mesh.manifest)).reason is Reason.STALE_ATTEMPT
    assert mesh.bench.phase == "sealed"


@pytest.mark.parametrize("phase", ["committed", "sealed"])
def test_P4_sealed_of_another_epoch_is_stale_though_it_names_our_manifest(mesh: Mesh, phase: str) -> None:
    """The signature would be shown to others, who could not verify it."""
    if phase == "sealed":
        sealed(mesh)
    body = encode(
        wire.Decision(sender=mesh.a.iid, epoch=mesh.manifest.epoch + 1, manifest_digest=mesh.manifest.digest)
    )
    envelope = encode(wire.Envelope(sealed=mesh.a.sign(Tag.SEALED, body)))
    assert mesh.bench.refuse(envelope).reason is Reason.STALE_ATTEMPT
    assert mesh.bench.phase == phase


def test_a_sealed_member_that_another_has_left_fences(mesh: Mesh) -> None:
    sealed(mesh)
    mesh.a.new_hello(2)
    mesh.bench.receive(mesh.a.hello_message())
    effects = mesh.bench.tick()
    assert [f.mismatch.reason for f in of(effects, Fence)] == [Reason.NOT_ACTIVE]


def test_a_later_sealed_member_that_another_has_left_goes_on_from_what_it_sealed(mesh: Mesh) -> None:
    """No genesis any more: it neither fences nor waits for whoever will never seal."""
    sealed(mesh)
    for actor in (mesh.a, mesh.b):
        mesh.bench.receive(actor.sealed(mesh.manifest))
    following = mesh.bench.sealed(mesh.a, mesh.b)
    mesh.a.new_hello(3, previous=mesh.manifest.digest)
    mesh.bench.receive(mesh.a.hello_message())
    mesh.bench.tick()
    assert mesh.bench.member.phase == Waiting(3, mesh.bench.now)
    assert mesh.bench.member.sealed == following.digest


def later_attempt(mesh: Mesh) -> Mesh:
    """The second manifest sealed, and its attempt given up before SEALED of `b`."""
    sealed(mesh)
    for actor in (mesh.a, mesh.b):
        mesh.bench.receive(actor.sealed(mesh.manifest))
    mesh.manifest = mesh.bench.sealed(mesh.a, mesh.b)
    mesh.bench.receive(mesh.a.sealed(mesh.manifest))
    mesh.bench.tick(mesh.bench.signed.topology.timers.attempt_ms)
    mesh.bench.tick(0)
    assert mesh.bench.phase == "gathering"
    return mesh


def test_L1_sealed_of_the_last_member_counts_although_a_later_attempt_has_begun(mesh: Mesh) -> None:
    later_attempt(mesh)
    effects = mesh.bench.receive(mesh.b.sealed(mesh.manifest))
    assert [e.sealed.manifest for e in of(effects, Activate)] == [mesh.manifest]
    assert mesh.bench.member.serving is not None and mesh.bench.member.serving.manifest == mesh.manifest
    assert mesh.bench.phase == "gathering"
    assert mesh.bench.receive(mesh.b.sealed(mesh.manifest)) == []  # told once


def test_L1_a_laggard_of_what_we_sealed_is_helped_from_a_later_attempt(mesh: Mesh) -> None:
    later_attempt(mesh)
    assert kinds(mesh.bench.receive(mesh.b.commit(mesh.manifest)), mesh.b.iid) == ["commit", "sealed"]


def test_S3_a_commit_to_a_manifest_before_the_last_one_is_not_helped(mesh: Mesh) -> None:
    later_attempt(mesh)
    evidence = symbolic_evidence(join_of(mesh.b.own.identity), "db")
    assert mesh.bench.refuse(mesh.b.commit(foreign(mesh, epoch=1), evidence)).reason is Reason.STALE_ATTEMPT


def test_what_is_before_the_manifest_that_is_active_is_not_kept(mesh: Mesh) -> None:
    later_attempt(mesh)
    assert {c.manifest.epoch for c in mesh.bench.member.chain.values()} == {1, 2}
    mesh.bench.receive(mesh.b.sealed(mesh.manifest))
    assert set(mesh.bench.member.chain) == {mesh.manifest.digest}


def test_the_certificate_keeps_every_seal_that_was_heard(mesh: Mesh) -> None:
    mesh.bench.receive(mesh.a.sealed(mesh.manifest))  # before our own
    sealed(mesh)
    held = mesh.bench.member.chain[mesh.manifest.digest]
    assert set(held.seals) == {mesh.bench.own.iid, mesh.a.iid} and not held.proven
    mesh.bench.receive(mesh.b.sealed(mesh.manifest))
    held = mesh.bench.member.chain[mesh.manifest.digest]
    assert held.proven
    for member in held.sealed.members:
        iid = member.identity.iid
        verify_ik(member.identity.ik, Tag.SEALED, decision_body(iid, mesh.manifest), held.seals[iid])


def test_sealed_of_a_manifest_that_others_made_is_kept_with_its_certificate(mesh: Mesh) -> None:
    """So that it is proven active here too; it makes nobody active who has not sealed it."""
    held = link(None, 5, [mesh.a, mesh.b], [mesh.a])
    mesh.bench.hold(held)
    assert mesh.bench.receive(mesh.b.sealed(held.manifest)) == []
    assert mesh.bench.member.chain[held.digest].proven
    assert mesh.bench.member.serving is None and mesh.bench.member.peers[mesh.b.iid].sealed is None


def test_leases_count_from_our_commitment_and_only_with_members(mesh: Mesh) -> None:
    """Whoever's SEALED we hold had our COMMIT; when we sealed, or heard of it, says nothing about them."""
    outsider = mesh.bench.actor("db")
    mesh.bench.appraise(mesh.bench.receive(outsider.introduction()))
    committed_at = mesh.bench.now
    mesh.bench.now += 700
    sealed(mesh)
    assert mesh.bench.member.sealed_at == committed_at
    mesh.bench.now += 700
    for actor in (mesh.a, mesh.b):
        mesh.bench.receive(actor.sealed(mesh.manifest))
    until = committed_at + mesh.bench.signed.topology.timers.lease_ms
    leases = {iid: peer.lease_until for iid, peer in mesh.bench.member.peers.items()}
    assert leases == {mesh.a.iid: until, mesh.b.iid: until, outsider.iid: 0}


# Laggards.


def test_a_committed_laggard_gets_commit_and_sealed_a_sealed_one_only_sealed(mesh: Mesh) -> None:
    sealed(mesh)
    assert kinds(mesh.bench.receive(mesh.a.commit(mesh.manifest))) == ["commit", "sealed"]
    mesh.bench.now += 1_000
    mesh.bench.receive(mesh.a.sealed(mesh.manifest))
    assert kinds(mesh.bench.receive(mesh.a.commit(mesh.manifest))) == ["sealed"]


def test_only_a_laggards_own_commit_is_answered(mesh: Mesh) -> None:
    sealed(mesh)
    envelope = wire.Envelope.FromString(mesh.a.commit(mesh.manifest))
    envelope.commit.ik_signature = mesh.b.own.keys.sign(Tag.COMMIT, envelope.commit.body)
    assert mesh.bench.refuse(encode(envelope)).reason is Reason.SIGNATURE_INVALID


def test_L4_a_repeated_question_is_answered_once_in_a_while(mesh: Mesh) -> None:
    sealed(mesh)
    question = mesh.a.commit(mesh.manifest)
    assert mesh.bench.receive(question) and mesh.bench.receive(question) == []
    mesh.bench.now += 999
    assert mesh.bench.receive(question) == []
    mesh.bench.now += 1
    assert mesh.bench.receive(question)
    assert mesh.bench.receive(mesh.b.commit(mesh.manifest))


def test_active_members_still_help_laggards(mesh: Mesh) -> None:
    sealed(mesh)
    for actor in (mesh.a, mesh.b):
        mesh.bench.receive(actor.sealed(mesh.manifest))
    assert kinds(mesh.bench.receive(mesh.a.commit(mesh.manifest)), mesh.a.iid) == ["sealed"]


def test_no_help_with_another_manifest_or_for_an_outsider(mesh: Mesh) -> None:
    outsider = mesh.bench.actor("db")
    mesh.bench.appraise(mesh.bench.receive(outsider.introduction()))
    sealed(mesh)
    assert mesh.bench.refuse(mesh.a.commit(foreign(mesh, epoch=2))).reason is Reason.STALE_ATTEMPT
    evidence = symbolic_evidence(join_of(outsider.own.identity), "db")
    assert mesh.bench.refuse(outsider.commit(mesh.manifest, evidence)).reason is Reason.STALE_ATTEMPT


def test_the_own_vote_is_sent_only_once_it_exists(mesh: Mesh) -> None:
    phase = mesh.bench.member.phase
    assert isinstance(phase, Committed) and phase.commit is None
    assert "commit" not in kinds(mesh.bench.tick())
    mesh.quote_ourselves()
    assert "commit" in kinds(mesh.bench.tick())


def test_our_evidence_is_counted_only_with_our_commit(mesh: Mesh) -> None:
    own = mesh.bench.own
    evidence = symbolic_evidence(seal_binding(mesh, Actor(own, mesh.bench.entropy)), "web")
    made = make_commit(own.keys, own.iid, mesh.manifest, evidence)
    appraise = Appraise(
        Ticket(Subject.COMMIT, own.iid, mesh.manifest.digest),
        made.evidence,
        mesh.bench.last(Quote)[0].binding,
        mesh.bench.member.topology,
    )
    mesh.bench.event(symbolic_appraisal(appraise))
    assert isinstance(mesh.bench.member.phase, Committed) and not mesh.bench.member.phase.members
    assert sent_kind(mesh.a.commit(mesh.manifest)) == "commit"
    assert sealing.activate_if_all_sealed(mesh.bench.member, mesh.bench.now) == (mesh.bench.member, ())
