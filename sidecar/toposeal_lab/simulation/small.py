"""A few members as one immutable value, so that a search can go on from it in every direction."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.errors import LocalProtocolError, ToposealError
from toposeal.evidence.binding import ZERO_DIGEST, Binding, Purpose
from toposeal.membership import machine
from toposeal.membership.events import (
    Activate,
    Announce,
    Appraise,
    Effect,
    Event,
    Fence,
    Leave,
    Left,
    Quote,
    Quoted,
    Received,
    Send,
    Timer,
)
from toposeal.membership.manifest import Manifest, bounds_mismatches
from toposeal.membership.state import Member
from toposeal.topology.accept import SignedTopology
from toposeal.topology.model import Topology
from toposeal_lab.simulation.dice import Dice
from toposeal_lab.simulation.keys import own_of, pooled
from toposeal_lab.simulation.leaves import own_leave
from toposeal_lab.simulation.parts import sent_kind
from toposeal_lab.simulation.symbolic import signed_topology, symbolic_appraisal, symbolic_evidence
from toposeal_lab.simulation.violation import Violation

ROLE = "web"
PARTING = "db"  # of the last member, where a newer topology has no place for it
_TIMERS: dict[str, Any] = {
    "view_ms": 200,
    "quote_ms": 1_000,
    "ping_ms": 1_000,
    "attempt_ms": 2_000,
    "heartbeat_ms": 1_000,
    "lease_ms": 3_000,
    "reattest_ms": 600_000,
    "quorum_ms": 600_000,
}
_START_MS = 10_000
_TURNS = 10_000  # events after one action; more would never end


class Message(NamedTuple):
    """One that is held back."""

    kind: str
    source: int
    target: int
    data: bytes


@dataclass(frozen=True)
class Pod:
    """One boot; its clock is its own."""

    index: int
    member: Member
    clock: int
    alive: bool = True


class Facts(NamedTuple):
    """What has happened, whoever still knows of it."""

    commitments: frozenset[tuple[bytes, int, bytes]] = frozenset()  # iid, epoch, D
    seals: frozenset[tuple[bytes, bytes]] = frozenset()  # iid, D
    active: frozenset[bytes] = frozenset()  # D
    leaves: frozenset[tuple[bytes, bytes]] = frozenset()  # iid, D


_NOTHING = Facts()
_MANIFESTS: dict[bytes, Manifest] = {}  # by D, which says all of it


_TOPOLOGIES: dict[bytes, Topology] = {}  # by topo_digest, of all that the owner has signed


@dataclass(frozen=True)
class World:
    """Its methods give the world after something has happened. Raises Violation."""

    pods: tuple[Pod, ...]
    signed: SignedTopology  # under which members start
    keeps: frozenset[str]  # kinds of messages that are held back
    held: frozenset[Message] = frozenset()
    alone: int | None = None  # who is cut off
    facts: Facts = _NOTHING

    def reaches(self, source: int, target: int) -> bool:
        return source == target or self.alone not in (source, target)

    @property
    def living(self) -> tuple[int, ...]:
        return tuple(pod.index for pod in self.pods if pod.alive)

    def deliver(self, message: Message) -> World:
        """One of those held back; it is not said again by itself."""
        return _Turn(replace(self, held=self.held - {message})).events(
            [(message.target, Received(message.data))]
        )

    def wait(self, indices: Sequence[int], ms: int) -> World:
        """The clocks of these members go on by `ms`, and their timers end on the way, in order."""
        turn, starts = _Turn(self), {index: self.pods[index].clock for index in indices}
        while True:
            wanted = [(at - starts[i], i) for i in indices if (at := turn.deadline(i)) is not None]
            if not wanted or min(wanted)[0] > ms:
                return turn.at({index: start + ms for index, start in starts.items()})
            after, index = min(wanted)
            turn.timer(index, starts[index] + after)

    def restart(self, index: int) -> World:
        """The pod dies, whatever it has said, and starts again as another instance."""
        turn = _Turn(self)
        turn.pods[index] = replace(turn.pods[index], alive=False)
        own = turn.pods[index].member.own
        return turn.boot(own.identity.role, own.addresses[0], turn.pods[index].clock)

    def leave(self, index: int) -> World:
        """The pod is to end."""
        return _Turn(self).events([(index, Leave())])

    def show(self, index: int, signed: SignedTopology) -> World:
        """Somebody shows this member a topology."""
        envelope = encode(wire.Envelope(topology=signed.envelope))
        return _Turn(self).events([(index, Received(envelope))])


def declared(roles: Mapping[str, tuple[int, int]], version: int) -> SignedTopology:
    """What the owner signs; `roles` gives (min, max) by name."""
    signed = signed_topology(dict(roles), version, **_TIMERS)
    _TOPOLOGIES[signed.topology.digest] = signed.topology
    return signed


def first(signed: SignedTopology, roles: Sequence[str], sealed: bool, keeps: frozenset[str]) -> World:
    """Members of these roles that serve their first manifest, or have just met."""
    world, members = World((), signed, frozenset() if sealed else keeps), len(roles)
    for number, role in enumerate(roles):
        world = _Turn(world).boot(role, f"10.0.0.{number + 1}", _START_MS)
    world = world.wait(range(members), _START_MS if sealed else _TIMERS["view_ms"] + 50)
    if sealed and (len(world.facts.active) != 1 or len(world.facts.seals) != members):
        raise Violation("L1", "they do not meet although nothing goes wrong")
    return replace(world, keeps=keeps)


class _Turn:
    """What follows from one action, until nothing is left to be said at once."""

    def __init__(self, world: World) -> None:
        self.pods = list(world.pods)
        self._world, self._held = world, set(world.held)
        self._commitments, self._seals = set(world.facts.commitments), set(world.facts.seals)
        self._active, self._leaves = set(world.facts.active), set(world.facts.leaves)
        self._queue: deque[tuple[int, Event]] = deque()

    def boot(self, role: str, address: str, clock: int) -> World:
        index, boot = len(self.pods), pooled(len(self.pods))
        own = own_of(boot, boot.symbolic, role, address, self._world.signed)
        member, effects = machine.start(own, clock)
        self.pods.append(Pod(index, member, clock))
        self._perform(index, effects)
        return self.events([])

    def events(self, events: Iterable[tuple[int, Event]]) -> World:
        self._queue.extend(events)
        turns = 0
        while self._queue:
            index, event = self._queue.popleft()
            self._step(index, event)
            turns += 1
            if turns > _TURNS:
                raise Violation("L4", "they never stop talking")
        return self._done()

    def deadline(self, index: int) -> int | None:
        pod = self.pods[index]
        return machine.deadline(pod.member) if pod.alive else None

    def timer(self, index: int, wanted: int) -> None:
        pod = self.pods[index]
        self.pods[index] = replace(pod, clock=max(pod.clock, wanted))
        # A HELLO has the nonce of its epoch, along every path.
        entropy = Dice("explore", index, pod.member.last_epoch).randbytes(64)
        self.events([(index, Timer(entropy))])

    def at(self, clocks: Mapping[int, int]) -> World:
        for index, clock in clocks.items():
            self.pods[index] = replace(self.pods[index], clock=clock)
        return self._done()

    def _done(self) -> World:
        facts = Facts(
            frozenset(self._commitments),
            frozenset(self._seals),
            frozenset(self._active),
            frozenset(self._leaves),
        )
        held = frozenset(m for m in self._held if self._matters(m))
        return replace(self._world, pods=tuple(self.pods), held=held, facts=facts)

    def _matters(self, message: Message) -> bool:
        """Nobody hears it, or who has begun a higher attempt: to that one it says nothing any more."""
        pod = self.pods[message.target]
        if not pod.alive or message.kind == "sealed":
            return pod.alive
        envelope = wire.Envelope.FromString(message.data)
        said = getattr(envelope, message.kind)
        body = said.propose.body if message.kind == "release" else said.body
        return wire.Decision.FromString(body).epoch >= pod.member.last_epoch

    def _step(self, index: int, event: Event) -> None:
        pod = self.pods[index]
        if not pod.alive:
            return
        try:
            member, effects = machine.step(pod.member, event, pod.clock)
        except LocalProtocolError as error:
            raise Violation("S9", str(error)) from error
        except ToposealError:
            return
        self.pods[index] = replace(pod, member=member)
        if member.topology.version < pod.member.topology.version:
            raise Violation("S8", "an older topology")
        self._sealed(pod.member, member)
        self._perform(index, effects)

    def _perform(self, index: int, effects: tuple[Effect, ...]) -> None:
        self._left(index, effects)
        for effect in effects:
            match effect:
                case Quote(binding):
                    if binding.purpose is Purpose.SEAL:
                        self._committed(self.pods[index].member, binding)
                    role = self.pods[index].member.own.identity.role
                    self._queue.append((index, Quoted(binding, symbolic_evidence(binding, role))))
                case Appraise():
                    self._queue.append((index, symbolic_appraisal(effect)))
                case Send(_, addresses, data):
                    self._send(index, data, addresses)
                case Announce(messages, known):
                    places = [pod.member.own.addresses[0] for pod in self.pods]
                    for data in messages:
                        self._send(index, data, tuple(place for place in places if place not in known))
                case Activate(sealed):
                    self._activated(sealed.manifest)
                case Fence():
                    self.pods[index] = replace(self.pods[index], alive=False)
                case Left(_, farewell):
                    for each in farewell:
                        self._send(index, each.data, each.addresses)
                    self.pods[index] = replace(self.pods[index], alive=False)
                case _:
                    pass

    def _send(self, source: int, data: bytes, addresses: tuple[str, ...]) -> None:
        kind = sent_kind(data)
        for pod in self.pods:
            wanted = pod.member.own.addresses[0] in addresses
            if pod.index == source or not pod.alive or not wanted:
                continue
            if kind in self._world.keeps:
                self._held.add(Message(kind, source, pod.index, data))
            elif self._world.reaches(source, pod.index):
                self._queue.append((pod.index, Received(data)))

    def _left(self, index: int, effects: tuple[Effect, ...]) -> None:
        """S3: one LEAVE."""
        iid = self.pods[index].member.own.iid
        said = own_leave(effects, iid)
        if said is not None:
            if any(who == iid and d != said.manifest_digest for who, d in self._leaves):
                raise Violation("S3", "a second LEAVE")
            self._leaves.add((iid, said.manifest_digest))

    def _committed(self, member: Member, binding: Binding) -> None:
        """S3: one commitment for an epoch, and epochs only rise. T4: under the newest topology."""
        iid, epoch, d = member.own.iid, binding.epoch, binding.manifest_digest
        if binding.topology_digest != member.topology.digest:
            raise Violation("T4", "a commitment under another topology than the newest")
        if any(who == iid for who, _ in self._leaves):
            raise Violation("S3", "a commitment after its LEAVE")
        if any(who == iid and at >= epoch for who, at, _ in self._commitments):
            raise Violation("S3", f"a second commitment at or below epoch {epoch}")
        self._commitments.add((iid, epoch, d))

    def _sealed(self, before: Member, after: Member) -> None:
        """S2: all of them have committed to it. S3: on one branch. S6: in one lineage. S8: versions rise."""
        if after.sealed == before.sealed:
            return
        manifest, iid = after.chain[after.sealed].manifest, after.own.iid
        _MANIFESTS[manifest.digest] = manifest
        committed = {who for who, _, d in self._commitments if d == manifest.digest}
        if not {entry.iid for entry in manifest.members} <= committed:
            raise Violation("S2", "sealed without everybody's commitment")
        if any(who == iid for who, _ in self._leaves):
            raise Violation("S3", "sealed after its LEAVE")
        for d in [d for who, d in self._seals if who == iid]:
            if _lineage(d) != _lineage(manifest.digest):
                raise Violation("S6", "sealed in two lineages")
            if not _follows(manifest.digest, d):
                raise Violation("S3", "sealed on two branches")
            if _MANIFESTS[d].topology_version > manifest.topology_version:
                raise Violation("S8", "sealed under an older topology than before")
        self._seals.add((iid, manifest.digest))

    def _activated(self, manifest: Manifest) -> None:
        """S5: all have sealed it, and active manifests of a lineage form one chain. T4: whom its topology
        refuses is not in it.
        """
        d = manifest.digest
        if bounds_mismatches(manifest.members, _TOPOLOGIES[manifest.topology_digest]):
            raise Violation("T4", "active with a member that its topology has no place for")
        if not {(entry.iid, d) for entry in manifest.members} <= self._seals:
            raise Violation("S5", "active before every member has sealed")
        for other in self._active:
            if _lineage(other) != _lineage(d):
                continue
            if not (_follows(d, other) or _follows(other, d)):
                raise Violation("S5", "two active manifests side by side")
            older, newer = (other, d) if _follows(d, other) else (d, other)
            if _MANIFESTS[older].topology_version > _MANIFESTS[newer].topology_version:
                raise Violation("S8", "active under an older topology than before")
        self._active.add(d)


def version_of(d: bytes) -> int:
    """Of the topology that an active manifest is under."""
    return _MANIFESTS[d].topology_version


def _follows(d: bytes, ancestor: bytes) -> bool:
    while d != ancestor and d in _MANIFESTS:
        d = _MANIFESTS[d].previous
    return d == ancestor


def _lineage(d: bytes) -> bytes:
    while _MANIFESTS[d].previous != ZERO_DIGEST:
        d = _MANIFESTS[d].previous
    return d
