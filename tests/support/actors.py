"""One member under test, step by step, and peers played by hand that can say anything, true or not."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from toposeal._wire import evidence_pb2 as wire_evidence
from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.errors import ToposealError
from toposeal.evidence.binding import ZERO_DIGEST
from toposeal.membership import machine
from toposeal.membership.certificate import Certificate
from toposeal.membership.events import (
    Announce,
    Appraise,
    Effect,
    Event,
    Quote,
    Quoted,
    Received,
    Send,
    Subject,
    Timer,
)
from toposeal.membership.hello import Hello, make_hello
from toposeal.membership.leave import leave_message, make_leave
from toposeal.membership.manifest import Manifest, build_manifest
from toposeal.membership.sealed import join_of, seal_of
from toposeal.membership.signing import Tag
from toposeal.membership.state import Committed, Member, Own, Phase, Proposed, attempt_of
from toposeal.membership.votes import (
    Heartbeat,
    Want,
    commit_message,
    make_commit,
    make_heartbeat,
    make_liveness,
    make_propose,
    make_sealed,
    make_want,
)
from toposeal.topology.accept import SignedTopology
from toposeal_lab.simulation.invariants import deep_fingerprint
from toposeal_lab.simulation.network import make_own, sent_kind
from toposeal_lab.simulation.symbolic import signed_topology, symbolic_appraisal, symbolic_evidence

E = TypeVar("E", bound=Effect)


class Actor:
    """A peer whose keys the test holds; every method gives envelope bytes ready for `Bench.receive`."""

    def __init__(self, own: Own, entropy: random.Random, measured: str | None = None) -> None:
        self.own = own
        self.measured = measured or own.identity.role
        self._entropy = entropy
        self.hello = self.new_hello(1)

    @property
    def iid(self) -> bytes:
        return self.own.iid

    def new_hello(
        self,
        epoch: int,
        nonce: bytes | None = None,
        signed: SignedTopology | None = None,
        addresses: tuple[str, ...] | None = None,
        sealed: bytes = ZERO_DIGEST,
        previous: bytes = ZERO_DIGEST,
    ) -> Hello:
        """Begin another attempt; later messages are of this one."""
        own = self.own
        self.hello = make_hello(
            own.keys,
            own.identity,
            (signed or own.topology).topology,
            epoch,
            nonce or self._entropy.randbytes(32),
            addresses or own.addresses,
            sealed=sealed,
            previous=previous,
        )
        return self.hello

    def signed_hello(self) -> wire.Signed:
        return wire.Signed(body=self.hello.body, signature=self.hello.signature)

    def introduction_message(self, evidence: wire_evidence.Evidence | None = None) -> wire.Introduction:
        signed = self.own.signed
        return wire.Introduction(
            identity=signed.identity.body,
            ik_signature=signed.ik_signature,
            ca_signature=signed.ca_signature,
            join=evidence or symbolic_evidence(join_of(self.own.identity), self.measured),
            hello=self.signed_hello(),
        )

    def introduction(self, evidence: wire_evidence.Evidence | None = None) -> bytes:
        return encode(wire.Envelope(introduction=self.introduction_message(evidence)))

    def hello_message(self) -> bytes:
        return encode(wire.Envelope(hello=self.signed_hello()))

    def ping(self, receiver: bytes, nonce: bytes = bytes([7]) * 32) -> bytes:
        return encode(wire.Envelope(ping=self._liveness(Tag.PING, receiver, nonce)))

    def pong(self, receiver: bytes, nonce: bytes, epoch: int | None = None) -> bytes:
        return encode(wire.Envelope(pong=self._liveness(Tag.PONG, receiver, nonce, epoch)))

    def propose(self, manifest: Manifest) -> bytes:
        return encode(wire.Envelope(propose=make_propose(self.own.keys, self.iid, manifest)))

    def commit_message(
        self, manifest: Manifest, evidence: wire_evidence.Evidence | None = None
    ) -> wire.Commit:
        if evidence is None:
            entry = manifest.entry(self.iid)
            assert entry is not None
            evidence = symbolic_evidence(seal_of(manifest, entry), self.measured)
        return commit_message(make_commit(self.own.keys, self.iid, manifest, evidence))

    def commit(self, manifest: Manifest, evidence: wire_evidence.Evidence | None = None) -> bytes:
        return encode(wire.Envelope(commit=self.commit_message(manifest, evidence)))

    def sealed(self, manifest: Manifest) -> bytes:
        return encode(wire.Envelope(sealed=make_sealed(self.own.keys, self.iid, manifest)))

    def release(self, manifest: Manifest) -> bytes:
        """Its PROPOSE to whoever is to leave to `manifest`."""
        proposed = make_propose(self.own.keys, self.iid, manifest)
        return encode(wire.Envelope(release=wire.Release(manifest=manifest.body, propose=proposed)))

    def leave(self, manifest: Manifest) -> bytes:
        left = make_leave(self.own.keys, self.own.identity, manifest)
        return encode(wire.Envelope(leave=leave_message(left)))

    def heartbeat(
        self,
        receiver: bytes,
        answer: bytes = bytes(32),
        head: bytes = ZERO_DIGEST,
        nonce: bytes | None = None,
        leaving: bool = False,
    ) -> bytes:
        beat = Heartbeat(self.iid, receiver, nonce or self._entropy.randbytes(32), answer, head, leaving)
        return encode(wire.Envelope(heartbeat=make_heartbeat(self.own.keys, beat)))

    def want(self, receiver: bytes, digest: bytes, first: int = 0) -> bytes:
        asked = Want(self.iid, receiver, digest, first)
        return encode(wire.Envelope(want=make_want(self.own.keys, asked)))

    def sign(self, tag: Tag, body: bytes) -> wire.Signed:
        return wire.Signed(body=body, signature=self.own.keys.sign(tag, body))

    def _liveness(self, tag: Tag, receiver: bytes, nonce: bytes, epoch: int | None = None) -> wire.Signed:
        target = epoch or self.hello.target_epoch
        return make_liveness(self.own.keys, tag, self.iid, receiver, nonce, target)


class Bench:
    """The member under test. Effects are collected; `receive` and `event` give the new ones."""

    def __init__(
        self,
        roles: dict[str, tuple[int, int]] | None = None,
        role: str = "web",
        seed: int = 1,
        **topology: Any,
    ) -> None:
        """`topology` is what `signed_topology` takes: timers, and more."""
        self.entropy = random.Random(seed)
        self.signed = signed_topology(roles or {"db": (1, 1), "web": (1, 1)}, version=7, **topology)
        self.now = 1_000
        self.own = make_own(self.entropy, role, "10.0.0.1", self.signed)
        self._addresses = 1
        self.effects: list[Effect] = []
        self.member: Member
        self.member, effects = machine.start(self.own, self.now)
        self.effects += effects

    def actor(
        self,
        role: str = "db",
        signed: SignedTopology | None = None,
        measured: str | None = None,
        owner_seed: int = 1,
    ) -> Actor:
        self._addresses += 1
        address = f"10.0.{self._addresses // 250}.{self._addresses % 250 + 1}"
        own = make_own(self.entropy, role, address, signed or self.signed, owner_seed)
        return Actor(own, self.entropy, measured)

    # Driving.

    def event(self, event: Event) -> list[Effect]:
        self.member, effects = machine.step(self.member, event, self.now)
        self.effects += effects
        return list(effects)

    def receive(self, data: bytes) -> list[Effect]:
        return self.event(Received(data))

    def refuse(self, event: Event | bytes) -> ToposealError:
        """The event must be refused, and then nothing has changed."""
        event = Received(event) if isinstance(event, bytes) else event
        before, fingerprint = self.member, deep_fingerprint(self.member)
        try:
            after, effects = machine.step(self.member, event, self.now)
        except ToposealError as error:
            assert self.member is before and deep_fingerprint(self.member) == fingerprint
            return error
        raise AssertionError(f"accepted: {after.phase}, {effects}")

    def tick(self, ms: int | None = None) -> list[Effect]:
        """A Timer, at the deadline or `ms` from now."""
        wanted = machine.deadline(self.member)
        self.now = self.now + ms if ms is not None else max(self.now, wanted or self.now)
        return self.event(Timer(self.entropy.randbytes(64)))

    def appraise(self, effects: Sequence[Effect]) -> list[Effect]:
        """Answer every appraisal among `effects` as the verifier would."""
        found: list[Effect] = []
        for effect in of(effects, Appraise):
            found += self.event(symbolic_appraisal(effect))
        return found

    def quote(self, effects: Sequence[Effect]) -> list[Effect]:
        found: list[Effect] = []
        for effect in of(effects, Quote):
            evidence = symbolic_evidence(effect.binding, self.own.identity.role)
            found += self.event(Quoted(effect.binding, evidence))
        return found

    def last_beat(self, actor: Actor) -> wire.Heartbeat:
        """The last heartbeat that `actor` was sent."""
        sent = [s.data for s in of(self.effects, Send) if s.iid == actor.iid]
        beats = [data for data in sent if sent_kind(data) == "heartbeat"]
        return wire.Heartbeat.FromString(wire.Envelope.FromString(beats[-1]).heartbeat.body)

    def beat(self, actor: Actor, head: bytes | None = None) -> list[Effect]:
        """`actor` answers its last heartbeat; it would follow what we serve, or `head`."""
        if head is None:
            head = self.member.serving.manifest.digest if self.member.serving else ZERO_DIGEST
        return self.receive(actor.heartbeat(self.own.iid, self.last_beat(actor).nonce, head))

    def hold(self, *certificates: Certificate) -> None:
        """As if they had been fetched."""
        for held in certificates:
            self.member = replace(self.member, chain={**self.member.chain, held.digest: held})

    # Whole stretches of the protocol.

    def gathering(self) -> Bench:
        self.appraise(self.quote(self.effects))
        self.tick()
        assert self.phase == "gathering"
        return self

    def meet(self, *actors: Actor) -> list[Effect]:
        """Introduce, admit, and let each answer the PING it gets."""
        found: list[Effect] = []
        for actor in actors:
            admitted = self.appraise(self.receive(actor.introduction()))
            found += admitted
            pings = [s for s in of(admitted, Send) if s.iid == actor.iid and sent_kind(s.data) == "ping"]
            for ping in pings[:1]:
                found += self.receive(self.answer(actor, ping.data))
        return found

    def answer(self, actor: Actor, ping: bytes) -> bytes:
        body = wire.Ping.FromString(wire.Envelope.FromString(ping).ping.body)
        return actor.pong(self.own.iid, body.nonce)

    def manifest(self, *actors: Actor) -> Manifest:
        """The manifest of this attempt with ourselves and `actors`."""
        attempt = attempt_of(self.member.phase)
        assert attempt is not None
        own = self.own.identity
        entries = [attempt.hello.entry(own), *(a.hello.entry(a.own.identity) for a in actors)]
        held = self.member.chain.get(attempt.previous)
        previous = held.manifest if held else None
        return build_manifest(own.mesh_id, self.signed.topology, attempt.epoch, entries, previous)

    def again(self, *actors: Actor) -> None:
        """The next round after what we have sealed: all of `actors` begin it, and answer their PINGs."""
        epoch, digest = self.member.last_epoch + 1, self.member.sealed
        for actor in actors:
            actor.new_hello(epoch, sealed=digest, previous=digest)
            self.receive(actor.hello_message())
        self.tick()
        for actor in actors:
            sent = [s.data for s in of(self.effects, Send) if s.iid == actor.iid]
            self.receive(self.answer(actor, [d for d in sent if sent_kind(d) == "ping"][-1]))

    def proposed(self, *actors: Actor) -> Manifest:
        if self.member.chain:
            self.again(*actors)
        else:
            self.meet(*actors)
        if self.phase == "gathering":
            self.tick(self.signed.topology.timers.view_ms)
        assert isinstance(self.member.phase, Proposed), self.phase
        return self.member.phase.manifest

    def committed(self, *actors: Actor) -> Manifest:
        manifest = self.proposed(*actors)
        for actor in actors:
            self.receive(actor.propose(manifest))
        assert isinstance(self.member.phase, Committed), self.phase
        return manifest

    def sealed(self, *actors: Actor) -> Manifest:
        manifest = self.committed(*actors)
        self.appraise(self.quote(self.last(Quote)))
        for actor in actors:
            self.appraise(self.receive(actor.commit(manifest)))
        assert self.phase == "sealed", self.phase
        return manifest

    def active(self, *actors: Actor) -> Manifest:
        manifest = self.sealed(*actors)
        for actor in actors:
            self.receive(actor.sealed(manifest))
        assert self.phase == "active", self.phase
        return manifest

    def last(self, kind: type[E]) -> list[E]:
        return of(self.effects, kind)[-1:]

    @property
    def phase(self) -> str:
        return machine.phase_name(self.member.phase)

    def ourselves(self) -> Actor:
        """Ourselves in the present attempt, as others see us."""
        actor, attempt = Actor(self.own, self.entropy), attempt_of(self.member.phase)
        actor.hello = attempt.hello if attempt else actor.hello
        return actor

    def put(self, phase: Phase) -> None:
        """Replace the phase by hand."""
        self.member = replace(self.member, phase=phase)


def of(effects: Sequence[Effect], kind: type[E]) -> list[E]:
    return [e for e in effects if isinstance(e, kind)]


def kinds(effects: Sequence[Effect], iid: bytes | None = None) -> list[str]:
    """The kinds of messages sent, to `iid` alone if given; an Announce counts as its content."""
    found: list[str] = []
    for effect in effects:
        if isinstance(effect, Announce) and iid is None:
            found += map(sent_kind, effect.messages)
        if isinstance(effect, Send) and iid in (None, effect.iid):
            found.append(sent_kind(effect.data))
    return found


def subjects(effects: Sequence[Effect]) -> list[Subject]:
    return [e.ticket.subject for e in of(effects, Appraise)]
