"""Phase 1: introductions, HELLO and topologies, true and otherwise (4.1, 4.2, 4.7)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography import x509
from support.actors import Actor, Bench, kinds, of, subjects
from support.certificates import link
from support.forge import forge_ca, new_key

from toposeal._wire import evidence_pb2 as wire_evidence
from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.errors import LocalProtocolError, Mismatch, Reason
from toposeal.limits import (
    MAX_ENVELOPE_SIZE,
    MAX_QUOTE_SIZE,
)
from toposeal.membership.events import Alarm, Appraise, Appraised, Refused, Subject, Ticket
from toposeal.membership.hello import make_hello
from toposeal.membership.identity import verify_identity
from toposeal.membership.sealed import join_of
from toposeal.membership.signing import Tag
from toposeal.membership.state import Boot, Committed, Waiting, attempt_of, mesh_iids
from toposeal.verification.model import VerifiedEvidence
from toposeal_lab.simulation.symbolic import signed_topology, symbolic_evidence

ROLES = {"db": (1, 2), "web": (1, 2)}
AUX = bytes([6]) * 48  # no digest of anything
MISMATCH = Mismatch(Reason.MEASUREMENT, "mrtd", "another", "one of the topology's")


@pytest.fixture
def bench() -> Bench:
    return Bench(ROLES, ping_ms=1_000).gathering()


# Introductions.


def test_an_introduction_is_appraised_and_then_answered(bench: Bench) -> None:
    actor = bench.actor("db")
    first = bench.receive(actor.introduction())
    assert subjects(first) == [Subject.JOIN] and kinds(first) == []
    assert of(first, Appraise)[0].binding == join_of(actor.own.identity)
    assert bench.member.peers[actor.iid].admitted is None
    admitted = bench.appraise(first)
    assert kinds(admitted) == ["introduction", "ping"]
    assert bench.member.peers[actor.iid].admitted is not None


def test_P4_a_repeated_introduction_changes_nothing(bench: Bench) -> None:
    actor = bench.actor("db")
    bench.meet(actor)
    before = bench.member
    assert bench.receive(actor.introduction()) == []
    assert bench.member == before


def test_P1_ca_certificates_of_two_peers_swapped_in_their_introductions(bench: Bench) -> None:
    a, b = bench.actor("db"), bench.actor("db")
    for one, other in ((a, b), (b, a)):
        message = one.introduction_message()
        identity = wire.Identity.FromString(message.identity)
        identity.ca_certificate = other.own.identity.ca.der
        message.identity = encode(identity)
        error = bench.refuse(encode(wire.Envelope(introduction=message)))
        assert error.reason is Reason.SIGNATURE_INVALID
    bench.meet(a, b)
    assert set(bench.member.peers) == {a.iid, b.iid}


def test_S9_a_stranger_with_an_unreadable_ca_certificate_is_refused(bench: Bench) -> None:
    """An x400Address among its names: the refusal is the stranger's, never an error of our own."""
    names = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), b"\x30\x04\xa3\x02\x05\x00")
    message = bench.actor("db").introduction_message()
    identity = wire.Identity.FromString(message.identity)
    identity.ca_certificate = forge_ca(new_key(), extra=(names, False))
    message.identity = encode(identity)
    before = bench.member
    assert bench.refuse(encode(wire.Envelope(introduction=message))).reason is Reason.CA_PROFILE
    assert bench.member == before


def test_P3_a_peer_that_shows_the_ca_key_of_another_is_refused(bench: Bench) -> None:
    """Even with that key's own signature, which only its owner can make."""
    a = bench.actor("db")
    bench.meet(a)
    thief = bench.actor("db")
    thief = Actor(replace(thief.own, keys=replace(thief.own.keys, ca=a.own.keys.ca)), bench.entropy)
    identity = wire.Identity.FromString(thief.own.identity.body)
    identity.ca_certificate = a.own.identity.ca.der
    body = encode(identity)
    message = wire.Introduction(
        identity=body,
        ik_signature=thief.own.keys.sign(Tag.IDENTITY, body),
        ca_signature=thief.own.keys.sign_ca(Tag.IDENTITY, body),
        join=symbolic_evidence(join_of(thief.own.identity), "db"),
        hello=thief.signed_hello(),
    )
    error = bench.refuse(encode(wire.Envelope(introduction=message)))
    assert error.reason is Reason.DUPLICATE_MEMBER


def test_P8_a_valid_quote_does_not_cover_another_ca_than_its_own(bench: Bench) -> None:
    """All signatures are right, the quote is genuine; only the identity that it names is another."""
    actor, spare = bench.actor("db"), bench.actor("db")
    evidence = symbolic_evidence(join_of(actor.own.identity), "db")
    identity = wire.Identity.FromString(actor.own.identity.body)
    identity.ca_certificate = spare.own.identity.ca.der
    body = encode(identity)
    keys = replace(actor.own.keys, ca=spare.own.keys.ca)
    signatures = keys.sign(Tag.IDENTITY, body), keys.sign_ca(Tag.IDENTITY, body)
    signed = verify_identity(body, *signatures, actor.own.identity.mesh_id, "shop")
    liar = Actor(replace(actor.own, signed=signed, keys=keys), bench.entropy)
    effects = bench.appraise(bench.receive(liar.introduction(evidence)))
    assert [a.mismatch.reason for a in of(effects, Alarm)] == [Reason.REPORT_DATA]
    bench.meet(liar)  # the positive control: with the quote over this very identity
    assert liar.iid in bench.member.peers


def test_K7_a_peer_with_our_own_ca_key_is_refused(bench: Bench) -> None:
    twin = bench.actor("db")
    own = replace(twin.own, keys=replace(twin.own.keys, ca=bench.own.keys.ca))
    identity = wire.Identity.FromString(own.identity.body)
    identity.ca_certificate = bench.own.identity.ca.der
    body = encode(identity)
    message = wire.Introduction(
        identity=body,
        ik_signature=own.keys.sign(Tag.IDENTITY, body),
        ca_signature=own.keys.sign_ca(Tag.IDENTITY, body),
        hello=twin.signed_hello(),
    )
    assert bench.refuse(encode(wire.Envelope(introduction=message))).reason is Reason.DUPLICATE_MEMBER


def test_P7_our_own_introduction_reflected(bench: Bench) -> None:
    own = Actor(bench.own, bench.entropy)
    assert bench.refuse(own.introduction()).reason is Reason.REFLECTED


def test_one_identity_per_boot(bench: Bench) -> None:
    actor = bench.actor("db")
    bench.meet(actor)
    identity = wire.Identity.FromString(actor.own.identity.body)
    identity.role = "web"
    body = encode(identity)
    message = wire.Introduction(
        identity=body,
        ik_signature=actor.own.keys.sign(Tag.IDENTITY, body),
        ca_signature=actor.own.keys.sign_ca(Tag.IDENTITY, body),
        hello=actor.signed_hello(),
    )
    error = bench.refuse(encode(wire.Envelope(introduction=message)))
    assert error.reason is Reason.IDENTITY_MISMATCH


def test_a_role_that_the_topology_does_not_know(bench: Bench) -> None:
    other = signed_topology({"cache": (1, 1), "db": (1, 1)})
    stranger = bench.actor("cache", signed=other)
    assert bench.refuse(stranger.introduction()).reason is Reason.ROLE_UNKNOWN


def test_P10_members_of_another_mesh_and_of_another_owner(bench: Bench) -> None:
    staging = bench.actor("db", signed=signed_topology(ROLES, mesh="staging"))
    other_owner = bench.actor("db", signed=signed_topology(ROLES, owner_seed=2), owner_seed=2)
    for foreign in (staging, other_owner):
        assert bench.refuse(foreign.introduction()).reason is Reason.MESH_MISMATCH


def test_oversized_join_evidence_is_refused_before_it_is_appraised(bench: Bench) -> None:
    actor = bench.actor("db")
    largest = wire_evidence.Evidence(quote=bytes(MAX_QUOTE_SIZE))
    huge = wire_evidence.Evidence(quote=bytes(MAX_QUOTE_SIZE + 1))
    assert bench.refuse(actor.introduction(huge)).reason is Reason.TOO_LARGE
    assert subjects(bench.receive(actor.introduction(largest))) == [Subject.JOIN]


def test_E6_the_role_is_the_measured_one_never_the_claimed_one(bench: Bench) -> None:
    impostor = bench.actor("db", measured="web")
    effects = bench.appraise(bench.receive(impostor.introduction()))
    assert [a.mismatch.reason for a in of(effects, Alarm)] == [Reason.ROLE_MISMATCH]
    assert impostor.iid not in bench.member.peers and len(effects) == 1


def test_E3_evidence_of_another_purpose_does_not_admit(bench: Bench) -> None:
    actor = bench.actor("db")
    entry = actor.hello.entry(actor.own.identity)
    manifest = bench.manifest(actor)
    for evidence in (
        actor.commit_message(manifest).evidence,
        symbolic_evidence(replace(join_of(actor.own.identity), anchor=entry.hello_digest), "db"),
    ):
        effects = bench.appraise(bench.receive(actor.introduction(evidence)))
        assert [a.mismatch.reason for a in of(effects, Alarm)] == [Reason.REPORT_DATA]
        assert actor.iid not in bench.member.peers


def test_a_refused_instance_can_introduce_itself_again(bench: Bench) -> None:
    """A host that replaces the evidence of a good peer delays it, no more."""
    actor = bench.actor("db")
    garbage = wire_evidence.Evidence(tee=wire_evidence.TDX, quote=bytes(100))
    bench.appraise(bench.receive(actor.introduction(garbage)))
    assert actor.iid not in bench.member.peers
    bench.meet(actor)
    assert bench.member.peers[actor.iid].pong_at is not None


@pytest.mark.parametrize("event", ["appraised", "refused"])
def test_a_verdict_about_somebody_unknown_or_already_admitted_is_ignored(bench: Bench, event: str) -> None:
    actor = bench.actor("db")
    identity = actor.own.identity
    verified = VerifiedEvidence("tdx", "db", join_of(identity), "UpToDate", (), bytes(16), 0)
    mismatch = Mismatch(Reason.REPORT_DATA, "x", "y", "z")

    def verdict(digest: bytes = identity.id_digest) -> Appraised | Refused:
        ticket = Ticket(Subject.JOIN, actor.iid, digest, bench.signed.topology.digest)
        return Appraised(ticket, verified) if event == "appraised" else Refused(ticket, mismatch)

    def ignored(verdict: Appraised | Refused) -> bool:
        before = bench.member
        return bench.event(verdict) == [] and bench.member == before

    assert ignored(verdict())
    asked = bench.receive(actor.introduction())
    assert ignored(verdict(bytes(48)))
    bench.appraise(asked)
    assert ignored(verdict())


@pytest.mark.parametrize("wrong", ["binding", "role"])
def test_a_verifier_that_answers_something_else_is_our_own_fault(bench: Bench, wrong: str) -> None:
    actor = bench.actor("db")
    appraise = of(bench.receive(actor.introduction()), Appraise)[0]
    binding = join_of(actor.own.identity)
    if wrong == "binding":
        binding = replace(binding, anchor=bytes(48))
    role = "web" if wrong == "role" else "db"
    verified = VerifiedEvidence("tdx", role, binding, "UpToDate", (), bytes(16), 0)
    error = bench.refuse(Appraised(appraise.ticket, verified))
    assert isinstance(error, LocalProtocolError)


def test_P4_evidence_is_appraised_once_however_often_it_is_shown_meanwhile(bench: Bench) -> None:
    actor = bench.actor("db")
    first = bench.receive(actor.introduction())
    assert subjects(first) == [Subject.JOIN] and bench.receive(actor.introduction()) == []


def test_a_stranger_that_is_refused_is_forgotten_though_a_certificate_lists_it(bench: Bench) -> None:
    """Its keys are in what others have shown us; its evidence we have accepted never."""
    actor = bench.actor("db")
    asked = bench.receive(actor.introduction())
    bench.hold(link(None, 1, [bench.ourselves(), actor]))
    assert actor.iid in mesh_iids(bench.member)
    refused = Refused(of(asked, Appraise)[0].ticket, MISMATCH)
    assert of(bench.event(refused), Alarm) and actor.iid not in bench.member.peers


def test_a_ping_that_waited_is_not_answered_between_attempts(bench: Bench) -> None:
    actor = bench.actor("db")
    asked = bench.receive(actor.introduction())
    bench.receive(actor.ping(bench.own.iid))
    assert bench.member.peers[actor.iid].asked is not None
    bench.put(Waiting(2, bench.now + 1))
    assert "pong" not in kinds(bench.appraise(asked), actor.iid)


# HELLO.


def test_a_hello_of_somebody_not_admitted_asks_nothing_of_us(bench: Bench) -> None:
    """It is kept for when it is; until then it says what any stranger may say."""
    known, stranger = bench.actor("db"), bench.actor("db")
    bench.meet(known)
    bench.receive(stranger.introduction())
    stranger.new_hello(2, nonce=known.hello.nonce, previous=bytes([5]) * 48)
    assert bench.receive(stranger.hello_message()) == []
    assert bench.member.peers[stranger.iid].hello == stranger.hello


def test_the_auxiliary_evidence_of_a_later_hello_is_that_of_join(bench: Bench) -> None:
    actor = bench.actor("db")
    bench.meet(actor)
    own = actor.own
    other = make_hello(own.keys, own.identity, own.topology.topology, 2, bytes(range(32)), own.addresses, AUX)
    actor.hello = other
    for message in (actor.hello_message(), actor.introduction()):
        error = bench.refuse(message)
        assert (error.reason, error.mismatches[0].field) == (Reason.IDENTITY_MISMATCH, "hello.aux_digest")


@pytest.mark.parametrize("phase", ["gathering", "committed"])
def test_a_hello_asks_for_what_it_follows_and_alarms_whatever_we_do(bench: Bench, phase: str) -> None:
    known, actor = bench.actor("db"), bench.actor("db")
    known.new_hello(3)
    bench.meet(known, actor)
    bench.tick()
    if phase == "committed":
        current = attempt_of(bench.member.phase)
        assert current is not None
        bench.put(Committed(current, bench.manifest(known), bench.now + 1, None, {}, bench.now))
    actor.new_hello(3, nonce=known.hello.nonce, previous=bytes([5]) * 48)
    effects = bench.receive(actor.hello_message())
    assert [a.mismatch.reason for a in of(effects, Alarm)] == [Reason.ENTROPY]
    assert bench.phase == phase and "want" in kinds(effects, actor.iid)


def test_a_hello_of_somebody_unknown(bench: Bench) -> None:
    assert bench.refuse(bench.actor("db").hello_message()).reason is Reason.UNKNOWN_MEMBER


def test_P2_a_second_hello_for_the_same_epoch_is_refused(bench: Bench) -> None:
    actor = bench.actor("db")
    bench.meet(actor)
    first = bench.member.peers[actor.iid].hello
    actor.new_hello(1)
    assert bench.refuse(actor.hello_message()).reason is Reason.STALE_ATTEMPT
    assert bench.refuse(actor.introduction()).reason is Reason.STALE_ATTEMPT
    assert bench.member.peers[actor.iid].hello == first
    actor.new_hello(2)
    bench.receive(actor.hello_message())
    assert bench.member.peers[actor.iid].hello == actor.hello


def test_P1_a_hello_signed_by_another_peer(bench: Bench) -> None:
    a, b = bench.actor("db"), bench.actor("db")
    bench.meet(a, b)
    a.new_hello(2)
    message = wire.Signed(body=a.hello.body, signature=b.own.keys.sign(Tag.HELLO, a.hello.body))
    assert bench.refuse(encode(wire.Envelope(hello=message))).reason is Reason.SIGNATURE_INVALID


def test_a_new_hello_forgets_what_belonged_to_the_old_attempt(bench: Bench) -> None:
    actor = bench.actor("db")
    manifest = bench.proposed(actor)
    bench.receive(actor.propose(bench.manifest()))
    bench.receive(actor.commit(manifest))
    actor.new_hello(2)
    bench.receive(actor.hello_message())
    peer = bench.member.peers[actor.iid]
    assert (peer.pong_at, peer.proposed, peer.commit, peer.silent) == (None, None, None, 0)


def test_K7_a_nonce_shown_twice_is_an_alarm(bench: Bench) -> None:
    a, b = bench.actor("db"), bench.actor("db")
    assert of(bench.meet(a), Alarm) == []
    b.new_hello(1, nonce=a.hello.nonce)
    alarms = of(bench.meet(b), Alarm)
    assert [m.mismatch.reason for m in alarms] == [Reason.ENTROPY]


def test_K7_our_own_nonce_shown_by_a_peer_is_an_alarm_and_a_strangers_is_none(bench: Bench) -> None:
    """Whoever is not admitted can show what it has heard."""
    actor, stranger = bench.actor("db"), bench.actor("db")
    stranger.new_hello(1, nonce=actor.hello.nonce)
    bench.receive(stranger.introduction())
    assert of(bench.meet(actor), Alarm) == []
    mirror = bench.actor("db")
    mirror.new_hello(1, nonce=bench.ourselves().hello.nonce)
    assert [m.mismatch.reason for m in of(bench.meet(mirror), Alarm)] == [Reason.ENTROPY]


def test_a_peer_heard_of_before_our_first_attempt_raises_no_alarm_and_no_ping() -> None:
    bench = Bench(ROLES)
    actor = bench.actor("db")
    actor.new_hello(3)
    effects = bench.appraise(bench.receive(actor.introduction()))
    assert effects == [] and isinstance(bench.member.phase, Boot)
    bench.gathering()
    assert bench.member.last_epoch == 3
    assert kinds(bench.effects, actor.iid) == ["introduction", "ping"]
    actor.new_hello(4)
    bench.receive(actor.hello_message())
    assert kinds(bench.tick(), actor.iid) == ["hello", "ping"]


def test_a_hello_goes_to_admitted_peers_alone(bench: Bench) -> None:
    known, stranger = bench.actor("db"), bench.actor("db")
    bench.meet(known)
    bench.receive(stranger.introduction())
    known.new_hello(2)
    bench.receive(known.hello_message())
    effects = bench.tick()
    assert kinds(effects, known.iid) == ["hello", "ping"] and kinds(effects, stranger.iid) == []


# Topologies.


def test_M9_a_peer_with_another_topology_is_shown_ours_and_is_no_candidate(bench: Bench) -> None:
    actor = bench.actor("db", signed=signed_topology(ROLES, version=7, issued_at=1))
    effects = bench.appraise(bench.receive(actor.introduction()))
    assert kinds(effects) == ["introduction", "topology"]
    assert [a.mismatch.reason for a in of(effects, Alarm)] == [Reason.TOPOLOGY_MISMATCH]
    assert kinds(bench.tick(), actor.iid) == []


def test_a_topology_larger_than_any_envelope_is_not_shown(bench: Bench) -> None:
    """Its digest differs all the same, so nothing is sealed; the operator hears why."""
    own = replace(bench.own, topology=replace(bench.signed, envelope=bytes(MAX_ENVELOPE_SIZE)))
    bench.member = replace(bench.member, own=own)
    actor = bench.actor("db", signed=signed_topology(ROLES, version=6))
    effects = bench.appraise(bench.receive(actor.introduction()))
    assert kinds(effects) == ["introduction"]
    assert [a.mismatch.reason for a in of(effects, Alarm)] == [Reason.TOPOLOGY_MISMATCH]


def test_who_has_an_older_topology_is_shown_ours_without_an_alarm(bench: Bench) -> None:
    actor = bench.actor("db", signed=signed_topology(ROLES, version=6))
    effects = bench.appraise(bench.receive(actor.introduction()))
    assert kinds(effects) == ["introduction", "topology"] and of(effects, Alarm) == []


def test_another_topology_of_our_version_is_one_alarm_however_long_it_stays(bench: Bench) -> None:
    actor = bench.actor("db", signed=signed_topology(ROLES, version=7, issued_at=1))
    bench.appraise(bench.receive(actor.introduction()))
    assert bench.receive(actor.introduction()) == []
    bench.now += 1_000
    effects = bench.receive(actor.introduction())
    assert kinds(effects) == ["topology"] and of(effects, Alarm) == []


def test_who_is_not_admitted_is_shown_no_topology(bench: Bench) -> None:
    actor = bench.actor("db", signed=signed_topology(ROLES, version=6))
    bench.receive(actor.introduction())
    assert bench.receive(actor.introduction()) == []


def test_a_verdict_by_a_newer_topology_heeds_the_hello_of_who_has_said_that_it_has_it(bench: Bench) -> None:
    """The others see it in our next HELLO, and ask for it."""
    quick, slow = bench.actor("db"), bench.actor("db")
    bench.meet(quick, slow)
    newer = signed_topology(ROLES, version=8, ping_ms=1_000)
    quick.new_hello(4, signed=newer, previous=bytes([5]) * 48)
    assert kinds(bench.receive(quick.hello_message())) == ["want"], "of the topology"
    asked = bench.receive(encode(wire.Envelope(topology=newer.envelope)))
    effects = bench.appraise(asked)
    assert kinds(effects, quick.iid) == ["want"] and kinds(effects, slow.iid) == []
