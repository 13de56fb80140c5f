"""WANT: who is asked for what, and what is answered (PROTOCOL.md 4.9)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.actors import of
from support.certificates import link, part
from support.fetched import ONE, PING, Mesh, answered, wanted

from toposeal._wire import evidence_pb2 as wire_evidence
from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.errors import Reason
from toposeal.limits import CERTIFICATE_PART, MAX_ENVELOPE_SIZE, MAX_PARTS, MAX_QUOTE_SIZE, MAX_REPLICAS
from toposeal.membership.certificate import Certificate
from toposeal.membership.events import Appraise, Send
from toposeal.membership.leave import make_leave
from toposeal.membership.machine import deadline
from toposeal.membership.manifest import Entry, build_manifest
from toposeal.membership.sealed import SealedManifest
from toposeal.membership.signing import Tag
from toposeal_lab.simulation.symbolic import symbolic_appraisal


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


# Asking.


def test_whoever_would_follow_what_we_do_not_hold_is_asked_for_it(mesh: Mesh) -> None:
    effects = mesh.told(mesh.dbs[1], mesh.held.digest)
    assert wanted(effects) == [(mesh.dbs[1].iid, mesh.held.digest, 0)]


def test_the_predecessor_of_an_attempt_is_asked_for_as_well(mesh: Mesh) -> None:
    mesh.dbs[0].new_hello(2, sealed=mesh.held.digest, previous=mesh.held.digest)
    effects = mesh.bench.receive(mesh.dbs[0].hello_message())
    assert wanted(effects) == [(mesh.dbs[0].iid, mesh.held.digest, 0)]


def test_L4_one_certificate_is_asked_for_at_a_time(mesh: Mesh) -> None:
    mesh.asking()
    assert wanted(mesh.told(mesh.dbs[1], ONE)) == []
    assert mesh.bench.member.fetch is not None and mesh.bench.member.fetch.source == mesh.dbs[0].iid


def test_what_nobody_may_hold_any_more_keeps_nobody_waiting(mesh: Mesh) -> None:
    """A HELLO lasts until its sender's next attempt, and names what the manifest that came of it followed."""
    mesh.dbs[0].new_hello(2, sealed=ONE, previous=ONE)
    assert wanted(mesh.bench.receive(mesh.dbs[0].hello_message())) == [(mesh.dbs[0].iid, ONE, 0)]
    assert wanted(mesh.told(mesh.dbs[0], mesh.held.digest)) == [(mesh.dbs[0].iid, mesh.held.digest, 0)]
    mesh.dbs[1].new_hello(2, sealed=ONE, previous=ONE)
    assert wanted(mesh.bench.receive(mesh.dbs[1].hello_message())) == []
    assert wanted(mesh.told(mesh.dbs[1], ONE)) == []


def test_one_hello_does_not_take_the_place_of_another(mesh: Mesh) -> None:
    for actor, asks in ((mesh.dbs[0], True), (mesh.dbs[1], False)):
        actor.new_hello(2, sealed=ONE, previous=actor.iid)
        assert bool(wanted(mesh.bench.receive(actor.hello_message()))) is asks


def test_what_has_begun_to_come_is_waited_for(mesh: Mesh) -> None:
    mesh.dbs[0].new_hello(2, sealed=mesh.held.digest, previous=mesh.held.digest)
    mesh.bench.receive(mesh.dbs[0].hello_message())
    mesh.takes(part(mesh.held, 0, 1))
    assert wanted(mesh.told(mesh.dbs[1], ONE)) == []


def test_nothing_is_asked_for_that_we_hold_or_that_is_no_manifest(mesh: Mesh) -> None:
    mesh.bench.hold(mesh.held)
    assert wanted(mesh.told(mesh.dbs[0], mesh.held.digest)) == []
    assert wanted(mesh.told(mesh.dbs[1], bytes(48))) == []


def test_what_a_certificate_rests_on_is_asked_for(mesh: Mesh) -> None:
    genesis = link(None, 1, mesh.dbs)
    child = link(genesis, 2, mesh.dbs)
    mesh.bench.hold(child)
    assert wanted(mesh.told(mesh.dbs[0], child.digest)) == [(mesh.dbs[0].iid, genesis.digest, 0)]


def test_P4_a_question_that_is_not_answered_is_repeated_and_then_somebody_else_is_asked(mesh: Mesh) -> None:
    mesh.asking()
    for _ in range(2):
        assert wanted(mesh.bench.tick(PING)) == [(mesh.dbs[0].iid, mesh.held.digest, 0)]
        assert wanted(mesh.bench.tick(PING - 1)) == []
        mesh.bench.now -= PING - 1
    assert wanted(mesh.bench.tick(PING)) == [] and mesh.bench.member.fetch is None
    assert wanted(mesh.told(mesh.dbs[1], mesh.held.digest)) == [(mesh.dbs[1].iid, mesh.held.digest, 0)]


def test_each_part_that_comes_renews_our_patience(mesh: Mesh) -> None:
    mesh.asking()
    for _ in range(2):
        mesh.bench.tick(PING)
    mesh.bench.now += 1
    mesh.takes(part(mesh.held, 0, 1))
    assert wanted(mesh.bench.tick(PING - 1)) == []
    for wait in (1, PING):
        assert wanted(mesh.bench.tick(wait)) == [(mesh.dbs[0].iid, mesh.held.digest, 1)]
    assert wanted(mesh.bench.tick(PING)) == [] and mesh.bench.member.fetch is None


def test_P9_a_question_has_a_deadline(mesh: Mesh) -> None:
    mesh.asking()
    mesh.bench.member = replace(mesh.bench.member, resend_at=1 << 40)
    assert deadline(mesh.bench.member) == mesh.bench.now + PING


def test_each_verdict_renews_our_patience(mesh: Mesh) -> None:
    """A verifier that is slow, or has much to do, does not make us begin again."""
    mesh.asking()
    appraised = mesh.takes(part(mesh.held))
    for effect in of(appraised, Appraise)[:-1]:
        for _ in range(2):
            mesh.bench.tick(PING)
        mesh.bench.event(symbolic_appraisal(effect))
    assert mesh.bench.member.fetch is not None
    mesh.bench.event(symbolic_appraisal(of(appraised, Appraise)[-1]))
    assert mesh.held.digest in mesh.bench.member.chain


def test_patience_with_a_verifier_ends_too(mesh: Mesh) -> None:
    mesh.asking()
    first = of(mesh.takes(part(mesh.held)), Appraise)[0]
    mesh.bench.now += PING - 1
    mesh.bench.event(symbolic_appraisal(first))
    for pause, asked in ((PING - 1, 1), (1, 2), (PING, 3)):
        mesh.bench.tick(pause)
        assert mesh.bench.member.fetch is not None and mesh.bench.member.fetch.asked == asked
    mesh.bench.tick(PING)
    assert mesh.bench.member.fetch is None


def test_nobody_asks_a_member_that_is_forgotten(mesh: Mesh) -> None:
    mesh.asking()
    mesh.bench.member = mesh.bench.member.without_peer(mesh.dbs[0].iid)
    assert wanted(mesh.bench.tick(PING)) == [] and mesh.bench.member.fetch is None


def test_nobody_is_asked_for_more_once_the_one_who_was_asked_is_forgotten(mesh: Mesh) -> None:
    mesh.asking()
    mesh.bench.member = mesh.bench.member.without_peer(mesh.dbs[0].iid)
    assert wanted(mesh.takes(part(mesh.held, 0, 1))) == []


# Answering.


def test_who_asks_gets_manifest_records_and_the_seals_that_we_know(mesh: Mesh) -> None:
    held = link(None, 1, mesh.dbs, mesh.dbs[:1])
    mesh.bench.hold(held)
    asker = mesh.dbs[2]
    effects = mesh.bench.receive(asker.want(mesh.bench.own.iid, held.digest))
    assert of(effects, Send)[0].iid == asker.iid
    assert answered(effects) == part(held)
    assert sorted(map(len, answered(effects).seals)) == [0, 0, 64]


def test_records_are_given_from_the_one_that_is_asked_for(mesh: Mesh) -> None:
    mesh.bench.hold(mesh.held)
    effects = mesh.bench.receive(mesh.dbs[0].want(mesh.bench.own.iid, mesh.held.digest, 2))
    assert answered(effects) == part(mesh.held, 2)


def large(mesh: Mesh, size: int) -> Certificate:
    """A certificate whose evidence takes `size` bytes for each member."""
    members = []
    for member in mesh.held.sealed.members:
        evidence = wire_evidence.Evidence(tee=wire_evidence.TDX, quote=bytes(size))
        members.append(replace(member, commit=replace(member.commit, evidence=evidence)))
    return replace(mesh.held, sealed=replace(mesh.held.sealed, members=tuple(members)))


def test_L4_a_part_has_a_bounded_size_and_one_record_at_least(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh.bench.hold(large(mesh, 20 << 10))
    for limit, counts in ((1, [1, 1, 1]), (46 << 10, [2, 1]), (CERTIFICATE_PART, [3])):
        monkeypatch.setattr("toposeal.membership.fetching.CERTIFICATE_PART", limit)
        found: list[int] = []
        while sum(found) < 3:
            want = mesh.dbs[0].want(mesh.bench.own.iid, mesh.held.digest, sum(found))
            found.append(len(answered(mesh.bench.receive(want)).members))
        assert found == counts


def test_R3_the_first_part_of_the_largest_manifest_is_no_larger_than_an_envelope(mesh: Mesh) -> None:
    def digests(n: int) -> list[bytes]:
        return [n.to_bytes(2, "big") + bytes([kind]) * 46 for kind in range(1, 6)]

    entries = []
    for n in range(MAX_REPLICAS):
        iid, identity, hello, ca, aux = digests(n)
        entries.append(Entry("r" * 40, iid, identity, hello, ca, iid[:32], aux))
    own, topology = mesh.bench.own.identity, mesh.bench.signed.topology
    manifest = build_manifest(own.mesh_id, topology, 1, entries)
    member = large(mesh, MAX_QUOTE_SIZE).sealed.members[0]
    sealed = SealedManifest(manifest, topology, (member,) * MAX_REPLICAS)
    leave = make_leave(mesh.bench.own.keys, mesh.bench.own.identity, manifest)
    mesh.bench.hold(Certificate(sealed, {}, leave))
    effects = mesh.bench.receive(mesh.dbs[0].want(mesh.bench.own.iid, manifest.digest))
    assert len(answered(effects).members) == 1 and answered(effects).HasField("leave")
    assert len(of(effects, Send)[0].data) <= MAX_ENVELOPE_SIZE


def test_P7_a_want_of_ourselves_of_strangers_and_for_others(mesh: Mesh) -> None:
    mesh.bench.hold(mesh.held)
    own, asker, digest = mesh.bench.own.iid, mesh.dbs[0], mesh.held.digest
    stranger, pending = mesh.bench.actor("db"), mesh.bench.actor("db")
    mesh.bench.receive(pending.introduction())
    ourselves = mesh.bench.ourselves()
    assert mesh.bench.refuse(ourselves.want(asker.iid, digest)).reason is Reason.REFLECTED
    for actor in (stranger, pending):
        assert mesh.bench.refuse(actor.want(own, digest)).reason is Reason.UNKNOWN_MEMBER
    assert mesh.bench.refuse(asker.want(mesh.dbs[1].iid, digest)).reason is Reason.IDENTITY_MISMATCH
    forged = wire.Envelope.FromString(asker.want(own, digest))
    forged.want.signature = mesh.dbs[1].sign(Tag.WANT, forged.want.body).signature
    assert mesh.bench.refuse(encode(forged)).reason is Reason.SIGNATURE_INVALID


def test_R3_P4_a_question_that_is_replayed_is_answered_so_often_and_no_more(mesh: Mesh) -> None:
    mesh.bench.hold(mesh.held)
    question = mesh.dbs[0].want(mesh.bench.own.iid, mesh.held.digest, 0)
    mesh.bench.now += PING
    for _ in range(MAX_PARTS):
        answered(mesh.bench.receive(question))
    assert mesh.bench.refuse(question).reason is Reason.RATE_LIMITED
    answered(mesh.bench.receive(mesh.dbs[1].want(mesh.bench.own.iid, mesh.held.digest, 0)))
    mesh.bench.now += PING - 1
    assert mesh.bench.refuse(question).reason is Reason.RATE_LIMITED
    mesh.bench.now += 1
    answered(mesh.bench.receive(question))


@pytest.mark.parametrize(("known", "first"), [(False, 0), (True, 3), (True, 1 << 31)])
def test_nobody_is_given_what_we_do_not_hold(mesh: Mesh, known: bool, first: int) -> None:
    mesh.bench.hold(mesh.held)
    want = mesh.dbs[0].want(mesh.bench.own.iid, mesh.held.digest if known else ONE, first)
    assert mesh.bench.refuse(want).reason is Reason.CERTIFICATE_UNKNOWN
