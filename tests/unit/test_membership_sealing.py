"""Phase 2 after the commitment: COMMIT of all and its evidence, and no late seal (4.5, 5.3)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.actors import Actor, Bench, kinds, of
from support.committed import Mesh, foreign, seal_binding, sealed

from toposeal._wire import evidence_pb2 as wire_evidence
from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.errors import LocalProtocolError, Mismatch, Reason
from toposeal.evidence.binding import Binding, Purpose, Status, live_binding
from toposeal.evidence.gpu_certs import GpuEvidence
from toposeal.membership.events import (
    Alarm,
    Appraise,
    Appraised,
    Fence,
    Quote,
    Quoted,
    QuoteFailed,
    Refused,
    Subject,
    Ticket,
)
from toposeal.membership.sealed import join_of
from toposeal.membership.state import Committed, Sealed
from toposeal.membership.votes import make_commit
from toposeal.verification.model import VerifiedEvidence
from toposeal_lab.simulation.symbolic import symbolic_appraisal, symbolic_evidence

MISMATCH = Mismatch(Reason.REPORT_DATA, "quote.report_data", "another", "this")


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


# COMMIT.


def test_our_commit_goes_to_the_members_and_passes_the_same_appraisal(mesh: Mesh) -> None:
    effects = mesh.bench.quote(mesh.bench.last(Quote))
    assert kinds(effects, mesh.a.iid) == kinds(effects, mesh.b.iid) == ["commit"]
    assert [e.ticket.iid for e in of(effects, Appraise)] == [mesh.bench.own.iid]


def test_all_n_verified_commits_seal_and_one_fewer_does_not(mesh: Mesh) -> None:
    mesh.commit(mesh.a, mesh.b)
    assert mesh.bench.phase == "committed"
    mesh.quote_ourselves()
    assert mesh.bench.phase == "sealed"
    phase = mesh.bench.member.phase
    assert isinstance(phase, Sealed)
    sealed = phase.sealed
    assert [m.identity.iid for m in sealed.members] == [e.iid for e in mesh.manifest.members]
    assert sealed.manifest.digest == mesh.manifest.digest and mesh.bench.member.failures == 0


def test_a_quote_for_something_else_is_not_committed(mesh: Mesh) -> None:
    binding = mesh.bench.last(Quote)[0].binding
    evidence = symbolic_evidence(binding, "web")
    before = mesh.bench.member
    assert mesh.bench.event(Quoted(replace(binding, epoch=9), evidence)) == []
    assert mesh.bench.member == before
    assert kinds(mesh.bench.event(Quoted(binding, evidence)), mesh.a.iid) == ["commit"]


def test_P4_a_repeated_commit_changes_nothing(mesh: Mesh) -> None:
    mesh.commit(mesh.a)
    before = mesh.bench.member
    assert mesh.bench.receive(mesh.a.commit(mesh.manifest)) == []
    assert mesh.bench.member == before


def test_S3_a_second_commitment_of_one_member_in_one_epoch_is_refused(mesh: Mesh) -> None:
    other = foreign(mesh, topology_version=8)
    mesh.commit(mesh.a)
    assert mesh.bench.refuse(mesh.a.commit(other)).reason is Reason.COMMIT_REPEATED


def test_a_commitment_to_another_manifest_is_kept_but_never_appraised(mesh: Mesh) -> None:
    other = foreign(mesh, topology_version=8)
    assert mesh.bench.receive(mesh.a.commit(other)) == []
    mesh.commit(mesh.b)
    mesh.quote_ourselves()
    assert mesh.bench.phase == "committed"


def test_E2_P4_a_commit_of_another_epoch_is_stale(mesh: Mesh) -> None:
    for epoch in (2, 99):
        other = foreign(mesh, epoch=epoch)
        assert mesh.bench.refuse(mesh.a.commit(other)).reason is Reason.STALE_ATTEMPT


def test_P7_our_own_commit_and_a_strangers(mesh: Mesh) -> None:
    mesh.quote_ourselves()
    own = Actor(mesh.bench.own, mesh.bench.entropy, "web")
    evidence = symbolic_evidence(join_of(own.own.identity), "web")
    assert mesh.bench.refuse(own.commit(mesh.manifest, evidence)).reason is Reason.REFLECTED
    stranger = mesh.bench.actor("db")
    assert mesh.bench.refuse(stranger.commit(mesh.manifest, evidence)).reason is Reason.UNKNOWN_MEMBER


def test_P8_a_commit_of_an_admitted_instance_outside_the_manifest(mesh: Mesh) -> None:
    outsider = mesh.bench.actor("db")
    mesh.bench.appraise(mesh.bench.receive(outsider.introduction()))
    evidence = symbolic_evidence(join_of(outsider.own.identity), "db")
    error = mesh.bench.refuse(outsider.commit(mesh.manifest, evidence))
    assert error.reason is Reason.UNKNOWN_MEMBER


@pytest.mark.parametrize("signature", ["ik_signature", "ca_signature"])
def test_P3_a_commit_needs_both_signatures(mesh: Mesh, signature: str) -> None:
    envelope = wire.Envelope.FromString(mesh.a.commit(mesh.manifest))
    other = wire.Envelope.FromString(mesh.b.commit(mesh.manifest))
    setattr(envelope.commit, signature, getattr(other.commit, signature))
    assert mesh.bench.refuse(encode(envelope)).reason is Reason.SIGNATURE_INVALID


# SEAL evidence.


def wrong_bindings(mesh: Mesh) -> dict[str, Binding]:
    """A quote of the right hardware about anything but this commitment."""
    right = seal_binding(mesh, mesh.a)
    one = bytes([1]) * 48
    return {
        "JOIN": join_of(mesh.a.own.identity),
        "LIVE": live_binding(right, bytes([1]) * 32),
        "KEYREL": replace(right, purpose=Purpose.KEYREL),
        "GPUBIND": replace(right, purpose=Purpose.GPUBIND),
        "JOIN with the seal's fields": replace(right, purpose=Purpose.JOIN),
        "another mesh": replace(right, mesh_id=one),
        "another topology": replace(right, topology_digest=one),
        "another epoch": replace(right, epoch=2),
        "another manifest": replace(right, manifest_digest=one),
        "another member": seal_binding(mesh, mesh.b),
        "another role": replace(right, role="web"),
        "another boot": replace(right, iid=one),
        "another HELLO": replace(right, anchor=one),
        "a challenge": replace(right, challenge=bytes([1]) * 32),
        "no status": replace(right, status=Status.NONE),
        "active": replace(right, status=Status.ACTIVE),
    }


@pytest.mark.parametrize("name", list(wrong_bindings(Mesh())))
def test_E1_E2_E3_only_the_seal_quote_of_this_commitment_counts(mesh: Mesh, name: str) -> None:
    evidence = symbolic_evidence(wrong_bindings(mesh)[name], "db")
    effects = mesh.bench.appraise(mesh.bench.receive(mesh.a.commit(mesh.manifest, evidence)))
    assert [a.mismatch.reason for a in of(effects, Alarm)] == [Reason.REPORT_DATA]
    mesh.commit(mesh.b)
    mesh.quote_ourselves()
    assert mesh.bench.phase == "committed"
    mesh.commit(mesh.a)  # the positive control: its true quote seals
    assert mesh.bench.phase == "sealed"


def test_E1_a_seal_quote_of_an_earlier_boot(mesh: Mesh) -> None:
    """The pod restarted: its new boot cannot be covered by what the old one signed, nor the reverse."""
    old = mesh.a
    new = Actor(replace(mesh.bench.actor("db").own, topology=old.own.topology), mesh.bench.entropy)
    evidence = symbolic_evidence(seal_binding(mesh, old), "db")
    bench = Mesh().bench
    bench.member = replace(bench.member, peers={}, by_id_digest={})
    bench.appraise(bench.receive(new.introduction()))
    assert bench.refuse(old.commit(mesh.manifest, evidence)).reason is Reason.UNKNOWN_MEMBER
    assert mesh.bench.refuse(new.commit(mesh.manifest, evidence)).reason is Reason.UNKNOWN_MEMBER


def test_E6_seal_evidence_measured_as_another_role(mesh: Mesh) -> None:
    evidence = symbolic_evidence(seal_binding(mesh, mesh.a), "web")
    effects = mesh.bench.appraise(mesh.bench.receive(mesh.a.commit(mesh.manifest, evidence)))
    assert [a.mismatch.reason for a in of(effects, Alarm)] == [Reason.ROLE_MISMATCH]


def test_replaced_evidence_delays_a_commit_and_does_not_cancel_it(mesh: Mesh) -> None:
    garbage = wire_evidence.Evidence(tee=wire_evidence.TDX, quote=bytes(64))
    pending = mesh.bench.receive(mesh.a.commit(mesh.manifest, garbage))
    assert mesh.bench.receive(mesh.a.commit(mesh.manifest)) == []
    mesh.bench.appraise(pending)
    assert mesh.bench.member.peers[mesh.a.iid].commit is None
    mesh.commit(mesh.a)
    assert isinstance(mesh.bench.member.phase, Committed)
    assert mesh.a.iid in mesh.bench.member.phase.members


def test_our_own_evidence_failing_is_a_fault(mesh: Mesh) -> None:
    ticket = Ticket(Subject.COMMIT, mesh.bench.own.iid, mesh.manifest.digest)
    assert of(mesh.bench.event(Refused(ticket, MISMATCH)), Fence) == [Fence(MISMATCH)]
    assert mesh.bench.phase == "fenced"


def test_verdicts_about_something_past_or_foreign_change_nothing(mesh: Mesh) -> None:
    bench, d = mesh.bench, mesh.manifest.digest
    outsider = bench.actor("db")
    bench.meet(outsider)
    mesh.commit(mesh.a)
    binding = seal_binding(mesh, mesh.b)
    verified = VerifiedEvidence("tdx", "db", binding, "UpToDate", (), bytes(16), 0)
    before = bench.member
    for ticket in (
        Ticket(Subject.COMMIT, mesh.a.iid, bytes(48)),
        Ticket(Subject.COMMIT, bench.own.iid, bytes(48)),
        Ticket(Subject.COMMIT, bytes(48), d),
    ):
        assert bench.event(Refused(ticket, MISMATCH)) == []
        assert bench.event(Appraised(ticket, verified)) == []
    assert bench.event(Appraised(Ticket(Subject.COMMIT, outsider.iid, d), verified)) == []
    assert bench.event(Refused(Ticket(Subject.COMMIT, mesh.a.iid, d), MISMATCH)) == []
    # Nothing to prove it with: no COMMIT of that member is at hand, or nothing of it at all.
    assert bench.event(Appraised(Ticket(Subject.COMMIT, mesh.b.iid, d), verified)) == []
    assert bench.member == before
    bench.member = before.without_peer(mesh.b.iid)
    assert bench.event(Appraised(Ticket(Subject.COMMIT, mesh.b.iid, d), verified)) == []
    assert bench.member == before.without_peer(mesh.b.iid)


def test_verdicts_and_failed_quotes_after_the_attempt_change_nothing(mesh: Mesh) -> None:
    bench = mesh.bench
    quoted, pending = bench.last(Quote)[0], of(bench.receive(mesh.b.commit(mesh.manifest)), Appraise)[0]
    ends(mesh)
    before = bench.member
    assert bench.event(symbolic_appraisal(pending)) == [] and bench.member == before
    assert bench.event(Refused(pending.ticket, MISMATCH)) == [] and bench.member == before
    assert bench.event(QuoteFailed(quoted.binding, MISMATCH)) == [Alarm(MISMATCH)] and bench.member == before


def test_a_verdict_counts_only_for_a_commit_to_this_manifest(mesh: Mesh) -> None:
    bench = mesh.bench
    pending = of(bench.receive(mesh.b.commit(mesh.manifest)), Appraise)[0]
    other = make_commit(mesh.b.own.keys, mesh.b.iid, foreign(mesh, topology_version=8), pending.evidence)
    peer = bench.member.peers[mesh.b.iid]
    bench.member = bench.member.with_peer(replace(peer, commit=other))
    before = bench.member
    assert bench.event(symbolic_appraisal(pending)) == [] and bench.member == before


def test_each_member_is_sealed_with_its_own_auxiliary_evidence(mesh: Mesh) -> None:
    bench, theirs, ours = mesh.bench, (GpuEvidence(b"theirs", b""),), (GpuEvidence(b"ours", b""),)
    peer = bench.member.peers[mesh.b.iid]
    bench.member = replace(bench.member.with_peer(replace(peer, gpus=theirs)), gpus=ours)
    mesh.commit(mesh.b)
    mesh.quote_ourselves()
    phase = bench.member.phase
    assert isinstance(phase, Committed)
    kept = {iid: proof.gpus for iid, proof in phase.members.items()}
    assert kept == {mesh.b.iid: theirs, bench.own.iid: ours}


def test_a_seal_ends_the_count_of_failures(mesh: Mesh) -> None:
    mesh.bench.member = replace(mesh.bench.member, failures=3)
    sealed(mesh)
    assert mesh.bench.member.failures == 0


def verified(bench: Bench) -> set[bytes]:
    phase = bench.member.phase
    assert isinstance(phase, Committed)
    return set(phase.members)


def test_a_verdict_counts_only_for_the_hello_that_is_listed(mesh: Mesh) -> None:
    bench = mesh.bench
    pending = of(bench.receive(mesh.b.commit(mesh.manifest)), Appraise)
    peer = bench.member.peers[mesh.b.iid]
    bench.member = bench.member.with_peer(replace(peer, hello=mesh.b.new_hello(2)))
    bench.event(symbolic_appraisal(pending[0]))
    assert verified(bench) == set()
    bench.member = bench.member.with_peer(peer)
    bench.event(symbolic_appraisal(pending[0]))
    assert verified(bench) == {mesh.b.iid}


@pytest.mark.parametrize("own", [False, True])
def test_E6_nothing_seals_whose_join_evidence_is_unknown(mesh: Mesh, own: bool) -> None:
    bench = mesh.bench
    effects = bench.quote(bench.last(Quote)) if own else bench.receive(mesh.b.commit(mesh.manifest))
    verdict = symbolic_appraisal(of(effects, Appraise)[0])
    known = bench.member
    peer = known.peers[mesh.b.iid]
    without = replace(known, admitted=None) if own else known.with_peer(replace(peer, admitted=None))
    bench.member = without
    assert bench.event(verdict) == [] and bench.member == without
    bench.member = known  # the positive control
    bench.event(verdict)
    assert verified(bench) == {verdict.ticket.iid}


def test_a_verdict_about_another_binding_is_our_own_fault(mesh: Mesh) -> None:
    pending = of(mesh.bench.receive(mesh.b.commit(mesh.manifest)), Appraise)[0]
    verified = VerifiedEvidence("tdx", "db", seal_binding(mesh, mesh.a), "UpToDate", (), bytes(16), 0)
    error = mesh.bench.refuse(Appraised(pending.ticket, verified))
    assert isinstance(error, LocalProtocolError) and error.reason is Reason.REPORT_DATA


# Failing and leaving.


def test_a_failed_seal_quote_ends_the_attempt(mesh: Mesh) -> None:
    binding = mesh.bench.last(Quote)[0].binding
    effects = mesh.bench.event(QuoteFailed(binding, MISMATCH))
    assert effects == [Alarm(MISMATCH)]
    mesh.bench.tick()
    assert mesh.bench.phase == "waiting"


def ends(mesh: Mesh) -> dict[bytes, int]:
    """Whom the end of the attempt is put down to, and when."""
    mesh.bench.tick(200_000)
    assert mesh.bench.phase == "waiting"
    peers = mesh.bench.member.peers.items()
    return {iid: peer.failed_at for iid, peer in peers if peer.failed_at is not None}


def test_whose_commitment_is_lacking_at_the_end_is_remembered(mesh: Mesh) -> None:
    mesh.commit(mesh.a)
    mesh.quote_ourselves()
    assert ends(mesh) == {mesh.b.iid: mesh.bench.now}


def test_whose_evidence_was_refused_is_remembered(mesh: Mesh) -> None:
    mesh.commit(mesh.a)
    mesh.quote_ourselves()
    (pending,) = of(mesh.bench.receive(mesh.b.commit(mesh.manifest)), Appraise)
    mesh.bench.event(Refused(pending.ticket, MISMATCH))
    assert ends(mesh) == {mesh.b.iid: mesh.bench.now}


def test_nobody_is_doubted_for_what_may_be_our_own_fault(mesh: Mesh) -> None:
    """Without our own evidence; and a COMMIT whose evidence is still under appraisal is there."""
    mesh.commit(mesh.a)
    assert ends(mesh) == {}
    again = Mesh()
    again.quote_ourselves()
    again.bench.receive(again.b.commit(again.manifest))
    assert ends(again) == {again.a.iid: again.bench.now}


def test_who_is_gone_is_not_doubted(mesh: Mesh) -> None:
    mesh.quote_ourselves()
    mesh.bench.member = mesh.bench.member.without_peer(mesh.a.iid)
    assert ends(mesh) == {mesh.b.iid: mesh.bench.now}


def test_a_commitment_that_holds_ends_the_doubt(mesh: Mesh) -> None:
    peer = mesh.bench.member.peers[mesh.a.iid]
    mesh.bench.member = mesh.bench.member.with_peer(replace(peer, failed_at=0))
    mesh.commit(mesh.a)
    assert mesh.bench.member.peers[mesh.a.iid].failed_at is None


def test_a_failed_quote_of_an_earlier_attempt_does_not_end_this_one(mesh: Mesh) -> None:
    binding = replace(mesh.bench.last(Quote)[0].binding, epoch=9)
    before = mesh.bench.member
    assert mesh.bench.event(QuoteFailed(binding, MISMATCH)) == [Alarm(MISMATCH)]
    assert mesh.bench.member == before


def test_a_listed_member_in_a_higher_attempt_is_not_waited_for(mesh: Mesh) -> None:
    mesh.a.new_hello(2)
    mesh.bench.receive(mesh.a.hello_message())
    assert mesh.bench.phase == "waiting"
    mesh.bench.tick()
    assert mesh.bench.member.last_epoch == 2


def test_an_outsider_in_a_higher_attempt_changes_nothing(mesh: Mesh) -> None:
    outsider = mesh.bench.actor("db")
    outsider.new_hello(5)
    mesh.bench.appraise(mesh.bench.receive(outsider.introduction()))
    assert mesh.bench.phase == "committed"


def test_S3_no_late_seal_ever(mesh: Mesh) -> None:
    """All COMMITs of the abandoned epoch arrive afterwards: nothing is sealed on them."""
    mesh.commit(mesh.a)
    late = of(mesh.bench.receive(mesh.b.commit(mesh.manifest)), Appraise)
    quote = mesh.bench.last(Quote)
    mesh.a.new_hello(2)
    mesh.bench.receive(mesh.a.hello_message())
    for _ in range(2):
        mesh.bench.quote(quote)
        mesh.bench.event(symbolic_appraisal(late[0]))
        assert mesh.bench.refuse(mesh.b.commit(mesh.manifest)).reason is Reason.STALE_ATTEMPT
        mesh.bench.tick()
    assert mesh.bench.phase == "gathering"


def test_S3_a_seal_that_is_not_of_the_last_commitment_cannot_be_made(mesh: Mesh) -> None:
    mesh.commit(mesh.a, mesh.b)
    mesh.bench.member = replace(mesh.bench.member, last_commitment=2)
    effects = mesh.bench.quote(mesh.bench.last(Quote))
    error = mesh.bench.refuse(symbolic_appraisal(of(effects, Appraise)[0]))
    assert isinstance(error, LocalProtocolError) and error.reason is Reason.LATE_SEAL
