"""The machine as a whole: its two tables, its entry points, and whose fault an impossible event is."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from support.actors import Bench, kinds, of

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.errors import LocalProtocolError, Mismatch, Reason, RemoteProtocolError
from toposeal.evidence.auxiliary import aux_digest, gpu_messages
from toposeal.evidence.binding import Purpose, Status
from toposeal.evidence.gpu_certs import GpuEvidence
from toposeal.membership import machine
from toposeal.membership.events import (
    Announce,
    Appraise,
    Appraised,
    Effect,
    Fault,
    Fence,
    Quote,
    Quoted,
    QuoteFailed,
    Refused,
    Send,
    Subject,
    Ticket,
)
from toposeal.membership.machine import MESSAGES, TRANSITIONS, check_transition, live, phase_name, start
from toposeal.membership.sealed import join_of, seal_of
from toposeal.membership.state import Active, Boot, Fenced, Phase, Sealed, Waiting, attempt_of
from toposeal.verification.model import VerifiedEvidence
from toposeal_lab.simulation.network import make_own
from toposeal_lab.simulation.symbolic import signed_topology, symbolic_evidence

ROLES = {"db": (2, 2), "web": (1, 1)}
MISMATCH = Mismatch(Reason.QUOTE_SOURCE, "outblob", "EIO", "a quote")
PHASES = ("boot", "waiting", "gathering", "proposed", "committed", "sealed", "active")


class Mesh:
    def __init__(self, phase: str) -> None:
        self.bench = Bench(ROLES, ping_ms=1_000)
        self.a, self.b = self.bench.actor("db"), self.bench.actor("db")
        if phase == "waiting":
            self.bench.appraise(self.bench.quote(self.bench.effects))
        elif phase != "boot":
            self.bench.gathering()
        if phase not in ("boot", "waiting", "gathering"):
            self.manifest = getattr(self.bench, phase)(self.a, self.b)
        assert self.bench.phase == phase


# The tables.


def messages(mesh: Mesh) -> dict[str, bytes]:
    """One message of every kind, as good as one of that kind can be."""
    bench = Bench(ROLES).gathering()
    manifest = getattr(mesh, "manifest", None) or bench.manifest(bench.actor("db"), bench.actor("db"))
    newcomer = mesh.bench.actor("db")
    evidence = symbolic_evidence(join_of(mesh.a.own.identity), "db")
    nonce = bytes([1]) * 32
    return {
        "introduction": newcomer.introduction(),
        "hello": mesh.a.hello_message(),
        "ping": mesh.a.ping(mesh.bench.own.iid),
        "pong": mesh.a.pong(mesh.bench.own.iid, nonce),
        "propose": mesh.a.propose(manifest),
        "commit": mesh.a.commit(manifest, evidence),
        "sealed": mesh.a.sealed(manifest),
        "topology": encode(wire.Envelope(topology=signed_topology(ROLES, version=7).envelope)),
        "heartbeat": mesh.a.heartbeat(mesh.bench.own.iid),
        "want": mesh.a.want(mesh.bench.own.iid, manifest.digest),
        "certificate": encode(wire.Envelope(certificate=wire.CertificatePart(first=1))),
        "release": mesh.a.release(manifest),
        "leave": mesh.a.leave(manifest),
    }


@pytest.mark.parametrize(("phase", "kind"), list(itertools.product(PHASES, MESSAGES)))
def test_P4_a_message_outside_its_phases_is_stale_and_changes_nothing(phase: str, kind: str) -> None:
    mesh = Mesh(phase)
    data = messages(mesh)[kind]
    if type(mesh.bench.member.phase) not in MESSAGES[kind]:
        error = mesh.bench.refuse(data)
        assert error.reason is Reason.STALE_ATTEMPT
        assert error.mismatches[0].field == f"envelope.{kind}"
        return
    try:
        mesh.bench.receive(data)
    except RemoteProtocolError as error:
        assert error.mismatches[0].field != f"envelope.{kind}"


def test_the_tables_are_closed() -> None:
    phases = set(Phase.__args__)
    assert set(TRANSITIONS) == phases
    assert {p for after in TRANSITIONS.values() for p in after} <= phases
    assert all(Fenced not in taken for taken in MESSAGES.values())
    assert set(MESSAGES) == {f.name for f in wire.Envelope.DESCRIPTOR.fields}
    assert all(Fenced in after for before, after in TRANSITIONS.items() if before is not Fenced)
    assert TRANSITIONS[Fenced] == ()


def test_S3_no_way_leads_back_from_a_seal_only_on_to_the_next_attempt() -> None:
    assert set(TRANSITIONS[Sealed]) == {Waiting, Active, Fenced}
    assert not {Boot, Sealed} & set(TRANSITIONS[Active])


def test_S3_the_next_attempt_goes_on_from_what_was_sealed() -> None:
    mesh = Mesh("active")
    mesh.bench.again(mesh.a, mesh.b)
    attempt = attempt_of(mesh.bench.member.phase)
    assert attempt is not None and attempt.epoch > mesh.manifest.epoch
    assert attempt.previous == attempt.hello.sealed == mesh.manifest.digest
    assert mesh.bench.member.sealed == mesh.manifest.digest


@pytest.mark.parametrize("before", list(TRANSITIONS))
def test_a_change_of_phase_outside_the_table_is_our_own_fault(before: type[Phase]) -> None:
    for after in TRANSITIONS:
        legal = after is before or after in TRANSITIONS[before]
        try:
            check_transition(before.__new__(before), after.__new__(after))
        except LocalProtocolError as error:
            assert error.reason is Reason.ILLEGAL_EVENT and not legal
        else:
            assert legal


def test_step_itself_holds_to_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(ROLES).gathering()
    illegal = replace(bench.member, phase=Active(None))  # type: ignore[arg-type]
    monkeypatch.setattr("toposeal.membership.timers.on_timer", lambda *_: (illegal, ()))
    with pytest.raises(LocalProtocolError) as error:
        bench.tick()
    assert error.value.reason is Reason.ILLEGAL_EVENT


def test_phase_names_are_lower_case_words() -> None:
    assert [phase_name(p.__new__(p)) for p in TRANSITIONS] == [*PHASES, "fenced"]


# Booting.


def test_a_boot_asks_for_its_join_evidence_once_and_says_nothing_before_it_passed() -> None:
    bench = Bench(ROLES)
    assert [q.purpose for q in of(bench.effects, Quote)] == [Purpose.JOIN]
    quoted = bench.quote(bench.effects)
    assert [a.ticket.iid for a in of(quoted, Appraise)] == [bench.own.iid] and kinds(quoted) == []
    bench.appraise(quoted)
    assert bench.member.phase == Waiting(1, bench.now)


def test_the_devices_that_came_with_our_join_evidence_are_in_our_hello() -> None:
    bench = Bench(ROLES)
    binding, gpu = of(bench.effects, Quote)[0].binding, GpuEvidence(b"report", b"chain")
    evidence = symbolic_evidence(binding, bench.own.identity.role)
    evidence.gpus.extend(gpu_messages([gpu]))
    asked = of(bench.event(Quoted(binding, evidence)), Appraise)
    assert bench.member.gpus == (gpu,) and asked[0].evidence == evidence
    bench.member = replace(bench.member, phase=Waiting(1, bench.now))
    bench.tick()
    attempt = attempt_of(bench.member.phase)
    assert attempt is not None and attempt.hello.aux_digest == aux_digest([gpu])


def test_a_role_that_nobody_declared_does_not_even_boot() -> None:
    bench = Bench(ROLES)
    own = make_own(bench.entropy, "cache", "10.0.0.9", bench.signed)
    with pytest.raises(LocalProtocolError) as error:
        start(own, 0)
    assert error.value.reason is Reason.ROLE_UNKNOWN


def test_without_join_evidence_there_is_no_member() -> None:
    bench = Bench(ROLES)
    effects = bench.event(QuoteFailed(join_of(bench.own.identity), MISMATCH))
    assert effects == [Fence(MISMATCH)] and bench.phase == "fenced"


def test_join_evidence_that_does_not_pass_our_own_appraisal_fences() -> None:
    bench = Bench(ROLES)
    bench.quote(bench.effects)
    ticket = Ticket(Subject.JOIN, bench.own.iid, bench.own.identity.id_digest, bench.signed.topology.digest)
    assert bench.event(Refused(ticket, MISMATCH)) == [Fence(MISMATCH)]


def test_a_second_verdict_about_ourselves_changes_nothing() -> None:
    bench = Bench(ROLES).gathering()
    identity = bench.own.identity
    verified = VerifiedEvidence("tdx", "web", join_of(identity), "UpToDate", (), bytes(16), 0)
    before = bench.member
    assert (
        bench.event(
            Appraised(
                Ticket(Subject.JOIN, bench.own.iid, identity.id_digest, bench.signed.topology.digest),
                verified,
            )
        )
        == []
    )
    assert bench.member == before


def test_quotes_that_nobody_asked_for_are_our_own_fault() -> None:
    bench = Bench(ROLES)
    join = join_of(bench.own.identity)
    wrong: list[dict[str, Any]] = [{"epoch": 1}, {"purpose": Purpose.LIVE}, {"purpose": Purpose.KEYREL}]
    for changes in wrong:
        binding = replace(join, **changes)
        error = bench.refuse(Quoted(binding, symbolic_evidence(binding, "web")))
        assert isinstance(error, LocalProtocolError) and error.reason is Reason.ILLEGAL_EVENT
    bench.gathering()
    error = bench.refuse(Quoted(join, symbolic_evidence(join, "web")))
    assert error.reason is Reason.ILLEGAL_EVENT


def test_the_first_attempt_joins_the_one_that_others_are_in() -> None:
    bench = Bench(ROLES)
    actor = bench.actor("db")
    actor.new_hello(1_000)
    bench.appraise(bench.receive(actor.introduction()))
    bench.appraise(bench.quote(bench.effects))
    assert bench.member.phase == Waiting(64, bench.now)


# Ending.


@pytest.mark.parametrize("phase", PHASES)
def test_S9_a_fault_fences_from_every_phase(phase: str) -> None:
    bench = Mesh(phase).bench
    assert bench.event(Fault(MISMATCH)) == [Fence(MISMATCH)]
    assert bench.member.phase == Fenced(MISMATCH)
    assert bench.member.peers == {} and bench.member.by_id_digest == {}


def test_nothing_happens_after_the_fence() -> None:
    mesh = Mesh("active")
    mesh.bench.event(Fault(MISMATCH))
    before = mesh.bench.member
    for data in (*messages(mesh).values(), b"", b"\xff"):
        assert mesh.bench.receive(data) == []
    assert mesh.bench.tick(1) == [] and mesh.bench.member is before
    assert machine.deadline(before) is None


def test_a_refusal_of_anything_but_a_message_is_our_own_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(ROLES).gathering()

    def refuse(*_: object) -> None:
        raise RemoteProtocolError.of(Reason.DUPLICATE_MEMBER, "x", "y", "z")

    monkeypatch.setattr("toposeal.membership.timers.on_timer", refuse)
    with pytest.raises(LocalProtocolError) as error:
        bench.tick()
    assert error.value.reason is Reason.DUPLICATE_MEMBER


def test_an_envelope_without_a_message_and_bytes_that_are_none() -> None:
    bench = Bench(ROLES).gathering()
    assert bench.refuse(b"").reason is Reason.MALFORMED
    assert bench.refuse(b"\xff\xff").reason is Reason.MALFORMED
    assert bench.refuse(bytes(1 << 20)).reason is Reason.TOO_LARGE


# LIVE.


def test_E3_live_is_bound_to_the_challenge_and_to_being_active() -> None:
    mesh = Mesh("active")
    entry = mesh.manifest.entry(mesh.bench.own.iid)
    assert entry is not None
    binding = live(mesh.bench.member, bytes([5]) * 32)
    seal = seal_of(mesh.manifest, entry)
    assert (binding.purpose, binding.status) == (Purpose.LIVE, Status.ACTIVE)
    assert binding.challenge == bytes([5]) * 32 and binding.anchor == seal.anchor
    assert binding.report_data() != seal.report_data()


@pytest.mark.parametrize("phase", [p for p in PHASES if p != "active"])
def test_no_live_evidence_before_active(phase: str) -> None:
    with pytest.raises(RemoteProtocolError) as error:
        live(Mesh(phase).bench.member, bytes([5]) * 32)
    assert (error.value.reason, error.value.mismatches[0].found) == (Reason.NOT_ACTIVE, phase)


def test_the_manifest_that_is_active_is_answered_for_until_the_next_one_is() -> None:
    """An attempt that is under way, sealed even, says nothing about who may be believed now."""
    mesh = Mesh("active")
    following = mesh.bench.sealed(mesh.a, mesh.b)
    assert live(mesh.bench.member, bytes([5]) * 32).manifest_digest == mesh.manifest.digest
    for actor in (mesh.a, mesh.b):
        mesh.bench.receive(actor.sealed(following))
    assert live(mesh.bench.member, bytes([5]) * 32).manifest_digest == following.digest


def test_no_live_evidence_while_suspended() -> None:
    bench = Mesh("active").bench
    bench.tick(bench.signed.topology.timers.lease_ms)
    with pytest.raises(RemoteProtocolError) as error:
        live(bench.member, bytes([5]) * 32)
    assert (error.value.reason, error.value.mismatches[0].found) == (Reason.NOT_ACTIVE, "suspended")


def test_an_active_manifest_without_us_is_our_own_fault() -> None:
    bench = Mesh("active").bench
    serving = bench.member.serving
    assert serving is not None
    manifest = replace(serving.manifest, members=serving.manifest.members[:1])
    bench.member = replace(bench.member, serving=replace(serving, manifest=manifest))
    with pytest.raises(LocalProtocolError):
        live(bench.member, bytes([5]) * 32)


def test_two_members_seal_each_other_end_to_end() -> None:
    """The positive control of this whole file: both sides are production machines."""
    left, right = Bench(role="web"), Bench(role="db", seed=2)
    left.gathering()
    right.gathering()
    queue = [(right, data) for data in _announced(left)] + [(left, data) for data in _announced(right)]
    while queue:
        target, data = queue.pop(0)
        effects = _taken(target, data)
        pending = effects
        while pending:
            pending = target.appraise(pending) + target.quote(pending)
            effects = effects + pending
        other = left if target is right else right
        queue += [(other, send.data) for send in of(effects, Send)]
    assert left.phase == right.phase == "active"
    assert isinstance(left.member.phase, Active) and isinstance(right.member.phase, Active)
    assert left.member.phase.sealed.manifest == right.member.phase.sealed.manifest


def _taken(bench: Bench, data: bytes) -> list[Effect]:
    """An answer may come after it was needed; nothing else is ever refused between honest members."""
    try:
        return bench.receive(data)
    except RemoteProtocolError as error:
        assert error.reason is Reason.STALE_ATTEMPT
        return []


def _announced(bench: Bench) -> list[bytes]:
    return [a.messages[0] for a in of(bench.effects, Announce)]
