"""CERTIFICATE: what of it is taken, which verdicts count, and what is held (PROTOCOL.md 4.9)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support.actors import Bench, of, subjects
from support.certificates import envelope, link, part
from support.fetched import MISMATCH, ONE, PING, ROLES, Mesh, answered, wanted

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.errors import LocalProtocolError, Reason
from toposeal.limits import MAX_GPU_CHAIN_SIZE, MAX_TRAIL
from toposeal.membership.certificate import Certificate
from toposeal.membership.events import Alarm, Appraise, Appraised, Refused, Subject
from toposeal.membership.fetching import hold
from toposeal.membership.manifest import parse_manifest
from toposeal_lab.simulation.symbolic import signed_topology, symbolic_appraisal


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


# Taking.


def test_a_certificate_is_held_once_the_evidence_of_every_member_is_verified(mesh: Mesh) -> None:
    mesh.asking()
    effects = mesh.takes(part(mesh.held))
    assert subjects(effects) == [Subject.RECORD] * 3 and wanted(effects) == []
    for count, appraise in enumerate(of(effects, Appraise), 1):
        assert mesh.held.digest not in mesh.bench.member.chain
        mesh.bench.event(symbolic_appraisal(appraise))
        assert (mesh.bench.member.fetch is None) is (count == 3)
    assert mesh.bench.member.chain[mesh.held.digest] == mesh.held


def test_several_parts_are_asked_for_one_after_the_other(mesh: Mesh) -> None:
    mesh.asking()
    for first, more in ((0, [(mesh.dbs[0].iid, mesh.held.digest, 2)]), (2, [])):
        effects = mesh.takes(part(mesh.held, first, 2))
        assert wanted(effects) == more
        mesh.bench.appraise(effects)
    assert mesh.bench.member.chain[mesh.held.digest] == mesh.held


def test_9_a_certificate_comes_with_the_leave_that_it_rests_on(mesh: Mesh) -> None:
    """In the first part alone; and so we give it to others."""
    gone = mesh.bench.actor("db")
    held = link(None, 1, mesh.dbs, mesh.dbs, left=gone)
    mesh.asking(held)
    effects = mesh.takes(part(held, count=1))
    late = part(held, 1)
    late.leave.CopyFrom(part(held).leave)
    assert mesh.refused(late) is Reason.MALFORMED
    mesh.bench.appraise([*effects, *mesh.takes(part(held, 1))])
    found = mesh.bench.member.chain[held.digest]
    assert found == held and found.leave is not None and found.leave.sender == gone.iid
    for first in (0, 1):
        given = answered(mesh.bench.receive(mesh.dbs[0].want(mesh.bench.own.iid, held.digest, first)))
        assert given.HasField("leave") is (first == 0)


def test_9_a_leave_for_another_manifest_comes_with_no_certificate(mesh: Mesh) -> None:
    held = link(None, 1, mesh.dbs, mesh.dbs)
    other = link(None, 2, mesh.dbs[:1], left=mesh.bench.actor("db"))
    mesh.asking(held)
    message = part(held)
    message.leave.CopyFrom(part(other).leave)
    assert mesh.refused(message) is Reason.MANIFEST_MISMATCH


def test_seals_that_are_not_known_yet_may_be_missing(mesh: Mesh) -> None:
    held = link(None, 1, mesh.dbs, mesh.dbs[1:])
    mesh.asking(held)
    mesh.bench.appraise(mesh.takes(part(held)))
    found = mesh.bench.member.chain[held.digest]
    assert set(found.seals) == {actor.iid for actor in mesh.dbs[1:]} and not found.proven


def test_P4_what_nobody_asked_for_is_stale(mesh: Mesh) -> None:
    assert mesh.refused(part(mesh.held)) is Reason.STALE_ATTEMPT
    mesh.asking()
    assert mesh.refused(part(link(None, 1, mesh.dbs))) is Reason.STALE_ATTEMPT


def test_P4_parts_out_of_order_or_twice_are_stale(mesh: Mesh) -> None:
    mesh.asking()
    assert mesh.refused(part(mesh.held, 1)) is Reason.STALE_ATTEMPT
    mesh.takes(part(mesh.held, 0, 1))
    assert mesh.refused(part(mesh.held, 0, 1)) is Reason.STALE_ATTEMPT
    assert mesh.refused(part(mesh.held, 2, 1)) is Reason.STALE_ATTEMPT
    mesh.takes(part(mesh.held, 1))
    assert mesh.refused(part(mesh.held, 0)) is Reason.STALE_ATTEMPT
    assert mesh.refused(part(mesh.held, 3)) is Reason.MEMBERS_INCOMPLETE


def without_records(message: wire.CertificatePart) -> None:
    del message.members[:]
    del message.seals[:]


def one_record_too_many(message: wire.CertificatePart) -> None:
    message.members.append(message.members[0])
    message.seals.append(message.seals[0])


def one_seal_too_few(message: wire.CertificatePart) -> None:
    del message.seals[-1]


def swapped(message: wire.CertificatePart) -> None:
    first, second = message.members[0], message.members[1]
    kept = wire.MemberRecord.FromString(first.SerializeToString())
    first.CopyFrom(second)
    second.CopyFrom(kept)


def another_members_commit(message: wire.CertificatePart) -> None:
    message.members[0].commit.CopyFrom(message.members[1].commit)


def a_seal_of_another(message: wire.CertificatePart) -> None:
    message.seals[0] = message.seals[1]


def a_seal_that_is_none(message: wire.CertificatePart) -> None:
    message.seals[0] = b"\1"


def another_manifest(message: wire.CertificatePart) -> None:
    body = wire.Manifest.FromString(message.manifest)
    body.epoch += 1
    message.manifest = encode(body)


def gpus_that_were_not_offered(message: wire.CertificatePart) -> None:
    message.members[0].gpus.add(report=b"r", chain=b"c")


def gpus_beyond_their_limits(message: wire.CertificatePart) -> None:
    message.members[0].gpus.add(report=b"r", chain=bytes(MAX_GPU_CHAIN_SIZE + 1))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without_records, Reason.MEMBERS_INCOMPLETE),
        (one_record_too_many, Reason.MEMBERS_INCOMPLETE),
        (one_seal_too_few, Reason.MEMBERS_INCOMPLETE),
        (swapped, Reason.MEMBERS_INCOMPLETE),
        (another_members_commit, Reason.IDENTITY_MISMATCH),
        (a_seal_of_another, Reason.SIGNATURE_INVALID),
        (a_seal_that_is_none, Reason.SIGNATURE_INVALID),
        (another_manifest, Reason.MANIFEST_MISMATCH),
        (gpus_that_were_not_offered, Reason.MANIFEST_MISMATCH),
        (gpus_beyond_their_limits, Reason.TOO_LARGE),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_S2_a_part_is_true_in_everything_or_refused(
    mesh: Mesh, change: Callable[[wire.CertificatePart], None], reason: Reason
) -> None:
    mesh.asking()
    message = part(mesh.held)
    change(message)
    assert mesh.refused(message) is reason
    mesh.takes(part(mesh.held))  # the positive control: the true one is still awaited


def test_P4_the_record_of_another_manifest_is_none_of_this_one(mesh: Mesh) -> None:
    other = link(None, 1, mesh.dbs)
    held = link(None, 1, mesh.dbs)
    mesh.asking(held)
    message = part(held)
    message.members[0].CopyFrom(part(other).members[0])
    assert mesh.refused(message) is Reason.MANIFEST_MISMATCH


def test_E2_the_commit_of_a_record_is_to_this_manifest_before_its_evidence_is_looked_at(mesh: Mesh) -> None:
    other, held = link(None, 1, mesh.dbs), link(None, 1, mesh.dbs)
    mesh.asking(held)
    message = part(held)
    message.members[0].commit.CopyFrom(part(other).members[0].commit)
    error = mesh.bench.refuse(envelope(message))
    assert (error.reason, error.mismatches[0].field) == (
        Reason.MANIFEST_MISMATCH,
        "commit.manifest_digest",
    )


def foreign(mesh: Mesh, **topology: Any) -> Certificate:
    """A true certificate of members under another topology, or of another owner's mesh."""
    seed = topology.pop("owner_seed", 1)
    signed = signed_topology(ROLES, version=7, owner_seed=seed, **topology)
    return link(None, 1, [mesh.bench.actor("db", signed=signed, owner_seed=seed) for _ in range(2)])


def lying(mesh: Mesh) -> Certificate:
    """Of a manifest that gives our topology another version."""
    true = link(None, 1, [mesh.bench.actor("db")])
    body = wire.Manifest.FromString(true.manifest.body)
    body.topology_version += 1
    return replace(true, sealed=replace(true.sealed, manifest=parse_manifest(encode(body))))


def test_P10_T4_certificates_of_other_meshes_and_topologies_are_refused(mesh: Mesh) -> None:
    for held, reason in (
        (foreign(mesh, owner_seed=2), Reason.MESH_MISMATCH),
        (lying(mesh), Reason.TOPOLOGY_MISMATCH),
    ):
        mesh.bench.member = replace(mesh.bench.member, fetch=None)
        assert mesh.asking(held).refused(part(held)) is reason


def test_T4_a_version_that_the_topology_does_not_have_is_refused_whoever_says_so(mesh: Mesh) -> None:
    signed = mesh.bench.signed
    odd = replace(signed, topology=replace(signed.topology, version=signed.topology.version + 1))
    held = link(None, 1, [mesh.bench.actor("db", signed=odd) for _ in range(3)])
    error = mesh.asking(held).bench.refuse(envelope(part(held)))
    assert (error.reason, error.mismatches[0].field) == (
        Reason.TOPOLOGY_MISMATCH,
        "manifest.topology_version",
    )


def test_a_certificate_out_of_bounds_is_refused() -> None:
    mesh = Mesh()
    six = link(None, 1, [mesh.bench.actor("db") for _ in range(6)])
    assert mesh.asking(six).refused(part(six)) is Reason.MANIFEST_BOUNDS


# Verdicts.


def test_E1_a_record_whose_evidence_is_refused_ends_the_question(mesh: Mesh) -> None:
    """COMMIT evidence is under no signature: whoever holds the true one can be asked again."""
    mesh.asking()
    message = part(mesh.held)
    message.members[1].commit.evidence.CopyFrom(message.members[0].commit.evidence)
    effects = mesh.bench.appraise(mesh.takes(message))
    assert [a.mismatch.reason for a in of(effects, Alarm)] == [Reason.REPORT_DATA]
    assert mesh.bench.member.fetch is None and mesh.bench.member.chain == {}
    mesh.asking().bench.appraise(mesh.takes(part(mesh.held)))
    assert mesh.held.digest in mesh.bench.member.chain


def test_E6_a_record_that_is_measured_as_another_role_is_refused(mesh: Mesh) -> None:
    liar = mesh.bench.actor("db", measured="web")
    held = link(None, 1, [liar, *mesh.dbs[1:]])
    effects = mesh.asking(held).bench.appraise(mesh.takes(part(held)))
    assert [a.mismatch.reason for a in of(effects, Alarm)] == [Reason.ROLE_MISMATCH]
    assert held.digest not in mesh.bench.member.chain


def test_verdicts_about_what_is_not_being_fetched_change_nothing(mesh: Mesh) -> None:
    mesh.asking()
    appraise = of(mesh.takes(part(mesh.held)), Appraise)[0]
    verdict = symbolic_appraisal(appraise)
    assert isinstance(verdict, Appraised)
    for ticket in (replace(verdict.ticket, digest=ONE), replace(verdict.ticket, iid=ONE)):
        before = mesh.bench.member
        assert mesh.bench.event(replace(verdict, ticket=ticket)) == []
        assert mesh.bench.member == before
    assert mesh.bench.event(Refused(replace(verdict.ticket, digest=ONE), MISMATCH)) == []
    assert mesh.bench.member == before
    mesh.bench.member = before = replace(before, fetch=None)
    assert mesh.bench.event(verdict) == mesh.bench.event(Refused(verdict.ticket, MISMATCH)) == []
    assert mesh.bench.member == before


def test_a_verdict_about_another_binding_is_our_own_fault(mesh: Mesh) -> None:
    mesh.asking()
    one, two, _ = of(mesh.takes(part(mesh.held)), Appraise)
    verdict = symbolic_appraisal(two)
    assert isinstance(verdict, Appraised)
    error = mesh.bench.refuse(replace(verdict, ticket=one.ticket))
    assert isinstance(error, LocalProtocolError) and error.reason is Reason.REPORT_DATA


def test_S2_a_verdict_counts_only_for_a_record_that_is_at_hand(mesh: Mesh) -> None:
    """Late verdicts of a question that was given up complete no certificate without its records."""
    mesh.asking()
    late = [symbolic_appraisal(a) for a in of(mesh.takes(part(mesh.held)), Appraise)]
    mesh.bench.member = replace(mesh.bench.member, fetch=None)
    mesh.asking().takes(part(mesh.held, 0, 1))
    for verdict in late:
        mesh.bench.event(verdict)
    assert mesh.held.digest not in mesh.bench.member.chain
    mesh.bench.appraise(mesh.takes(part(mesh.held, 1)))
    assert mesh.bench.member.chain[mesh.held.digest] == mesh.held


def test_nothing_more_is_asked_for_while_the_last_records_are_appraised(mesh: Mesh) -> None:
    mesh.asking()
    mesh.takes(part(mesh.held))
    assert wanted(mesh.bench.tick(PING)) == []


# Holding.


def test_L4_the_number_of_certificates_is_bounded_and_the_oldest_go(mesh: Mesh) -> None:
    member = mesh.bench.member
    for epoch in range(1, 2 * MAX_TRAIL + 4):
        member = hold(member, link(None, epoch, mesh.dbs))
    epochs = sorted(held.manifest.epoch for held in member.chain.values())
    assert epochs == list(range(4, 2 * MAX_TRAIL + 4))


@pytest.mark.parametrize("ours", [0, 1, 2, 3])
@pytest.mark.parametrize("theirs", [0, 1, 3])
def test_L1_the_same_certificate_from_another_takes_no_seal_away(mesh: Mesh, ours: int, theirs: int) -> None:
    """What was sealed while it was being fetched stays proven: nothing could follow it otherwise."""
    held = link(None, 1, mesh.dbs, mesh.dbs[:ours])
    sealed = link(None, 1, mesh.dbs, mesh.dbs[::-1][:theirs])
    known = hold(mesh.bench.member, held)
    fetched = replace(held, seals={iid: bytes(64) for iid in sealed.seals})
    chain = hold(known, fetched).chain
    assert {iid for iid, seal in chain[held.digest].seals.items() if any(seal)} == set(held.seals)
    assert chain[held.digest].seals.keys() == held.seals.keys() | sealed.seals.keys()


def line(mesh: Mesh, length: int) -> list[Certificate]:
    found: list[Certificate] = []
    for epoch in range(1, length + 1):
        found.append(link(found[-1] if found else None, epoch, mesh.dbs))
    return found


@pytest.mark.parametrize("length", [3, MAX_TRAIL, MAX_TRAIL + 1])
def test_nothing_is_forgotten_that_our_own_seal_rests_on(mesh: Mesh, length: int) -> None:
    """However many others come after it; with a trail that is too long our own at least."""
    ours = line(mesh, length)
    mesh.bench.hold(*ours)
    member = replace(mesh.bench.member, sealed=ours[-1].digest)
    for epoch in range(100, 100 + 2 * MAX_TRAIL):
        member = hold(member, link(None, epoch, mesh.dbs))
    kept = ours if length <= MAX_TRAIL else ours[-1:]
    assert {held.digest for held in kept} <= set(member.chain)


def test_what_we_serve_is_never_forgotten() -> None:
    """Although a later manifest, which we sealed too, was proven active since: leases are judged by it."""
    bench = Bench(ROLES, ping_ms=PING).gathering()
    dbs = [bench.actor("db") for _ in range(3)]
    serving = bench.active(*dbs)
    everybody = [bench.ourselves(), *dbs]
    middle = link(bench.member.chain[serving.digest], 2, everybody, everybody)
    last = link(middle, 3, everybody)
    bench.hold(middle, last)
    member = replace(bench.member, sealed=last.digest)
    for epoch in range(100, 100 + 2 * MAX_TRAIL):
        member = hold(member, link(None, epoch, dbs))
    assert serving.digest in member.chain


def test_one_that_has_just_come_is_kept_however_old(mesh: Mesh) -> None:
    member = mesh.bench.member
    for epoch in range(100, 100 + 2 * MAX_TRAIL):
        member = hold(member, link(None, epoch, mesh.dbs))
    assert mesh.held.digest in hold(member, mesh.held).chain
