"""A seeded network of production state machines: real parsers, transcripts, signatures and checks.

Time is virtual, and every chance comes from one generator: the same seed gives the same run.
Every step of every member is shown to `observers`, which decide what was allowed.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    derive_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from support.symbolic import (
    MESH,
    WALL,
    owner,
    role_document,
    signed_topology,
    symbolic_appraisal,
    symbolic_evidence,
)
from toposeal.errors import Mismatch, Reason, ToposealError
from toposeal.evidence.binding import Binding
from toposeal.membership import machine
from toposeal.membership.events import (
    Activate,
    Alarm,
    Announce,
    Appraise,
    Effect,
    Event,
    Fence,
    Left,
    Quote,
    Quoted,
    QuoteFailed,
    Received,
    Resume,
    Send,
    Suspend,
    Timer,
)
from toposeal.membership.identity import make_identity
from toposeal.membership.sealed import SealedManifest
from toposeal.membership.signing import SigningKeys
from toposeal.membership.state import Member, Own
from toposeal.names import mesh_id
from toposeal.pki.mint import mint_ca, serial_number
from toposeal.topology.accept import SignedTopology

__all__ = [
    "MESH",
    "WALL",
    "Faults",
    "Network",
    "Node",
    "Step",
    "make_own",
    "owner",
    "role_document",
    "signed_topology",
    "symbolic_appraisal",
    "symbolic_evidence",
]

_TRACE_LENGTH = 200
_RECORDED = 20_000
_APPRAISAL_MS = 1


@dataclass
class Faults:
    """Chances per message, and what happens to quotes. All zero: a perfect network."""

    loss: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    replay: float = 0.0  # of any message that anybody sent before, to anybody
    delay: tuple[int, int] = (1, 3)  # ms, each message on its own: what differs is reordered
    quote_ms: int = 40
    quote_failure: float = 0.0
    quote_slow: float = 0.0
    quote_slow_ms: int = 60_000
    cut: Callable[[int, int, int], bool] = lambda now, a, b: False  # partition: (now, from, to)


@dataclass
class Node:
    """One boot of one pod. A restart is another Node with the same address."""

    index: int
    address: str
    role: str  # what its evidence shows
    member: Member
    signed: SignedTopology
    alive: bool = True
    paused_until: int = 0
    missed: list[Event] = field(default_factory=list)  # while paused
    crash_on: tuple[str, bool] | None = None  # on entering this phase; True: with its messages sent
    active: SealedManifest | None = None  # of the last Activate
    suspended: bool = False
    fenced: Mismatch | None = None
    alarms: list[Mismatch] = field(default_factory=list)
    refusals: list[Mismatch] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    quotes: list[Binding] = field(default_factory=list)
    sent: int = 0

    @property
    def phase(self) -> str:
        return machine.phase_name(self.member.phase)


@dataclass(frozen=True)
class Step:
    """What happened at one member: `after` is `before` itself if `error` refused the event."""

    node: Node
    before: Member
    event: Event
    after: Member
    effects: tuple[Effect, ...]
    error: Exception | None
    now: int


def make_own(
    entropy: random.Random, role: str, address: str, signed: SignedTopology, owner_seed: int = 1
) -> Own:
    """Keys, identity and configuration of one boot."""
    keys = SigningKeys(Ed25519PrivateKey.from_private_bytes(entropy.randbytes(32)), p256(entropy))
    mesh = signed.topology.mesh
    ca_der = mint_ca(keys.ca, mesh, serial_number(entropy.randbytes(20)), WALL)
    root, _ = owner(owner_seed)
    identity = make_identity(keys, mesh_id(root.canonical, mesh), mesh, role, ca_der)
    return Own(identity, keys, root, signed, (address,))


def p256(entropy: random.Random) -> EllipticCurvePrivateKey:
    return derive_private_key(int.from_bytes(entropy.randbytes(31), "big") + 1, SECP256R1())


class Network:
    """n members, virtual time in ms, one heap of what happens next."""

    def __init__(self, signed: SignedTopology, seed: int = 0, faults: Faults | None = None) -> None:
        self.signed = signed
        self.random = random.Random(seed)
        self.faults = faults or Faults()
        self.now = 0
        self.nodes: list[Node] = []
        self.observers: list[Callable[[Step], None]] = []
        self.delivered: deque[tuple[int, int, bytes]] = deque(
            maxlen=_RECORDED
        )  # (from, to, envelope), as sent
        self.happened: Counter[str] = Counter()  # faults, by kind
        self.trace: deque[str] = deque(maxlen=_TRACE_LENGTH)
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()

    def boot(
        self,
        role: str,
        signed: SignedTopology | None = None,
        measured: str | None = None,
        address: str | None = None,
    ) -> Node:
        """Start one more instance of `role` now; `measured` is what its evidence shows."""
        index = len(self.nodes)
        address = address or f"10.0.{index // 250}.{index % 250 + 1}"
        signed = signed or self.signed
        member, effects = machine.start(make_own(self.random, role, address, signed), self.now)
        node = Node(index, address, measured or role, member, signed)
        self.nodes.append(node)
        self._note(node, f"boots as {role}")
        self._perform(node, effects)
        return node

    def kill(self, node: Node) -> None:
        node.alive = False
        self._note(node, "dies")

    def restart(self, node: Node, signed: SignedTopology | None = None) -> Node:
        """The pod of `node` again, as a new instance at the same address."""
        node.alive = False
        return self.boot(node.role, signed or node.signed, address=node.address)

    def pause(self, node: Node, duration: int) -> None:
        """Nothing happens at `node` for `duration` ms; its clock goes on."""
        node.paused_until = max(node.paused_until, self.now + duration)
        self.at(node.paused_until, lambda: self._resume(node))
        self.happened["pause"] += 1
        self._note(node, f"pauses for {duration} ms")

    def resume(self, node: Node) -> None:
        """End every pause now."""
        node.paused_until = self.now
        self._resume(node)

    def inject(self, node: Node, event: Event) -> None:
        """Let `event` happen at `node` now."""
        self._after(0, node, event)

    def at(self, time: int, action: Callable[[], None]) -> None:
        """Do something at virtual time `time`."""
        heapq.heappush(self._heap, (max(time, self.now), next(self._order), action))

    def run(self, until: int, stop: Callable[[], bool] = lambda: False) -> None:
        """Let time pass until `until` ms or until `stop()`."""
        while self._heap and self._heap[0][0] <= until and not stop():
            self.now, _, action = heapq.heappop(self._heap)
            action()
        if not stop():
            self.now = max(self.now, until)

    def agree(self) -> bool:
        """Whether all that live serve one manifest, which lists them and nobody else."""
        live = self.live()
        digests = {n.active.manifest.digest for n in live if n.active and not n.suspended}
        iids = {n.member.own.iid for n in live}
        return len(digests) == 1 and all(n.active and n.active.iids == iids and not n.suspended for n in live)

    def live(self) -> list[Node]:
        return [n for n in self.nodes if n.alive and n.fenced is None]

    def all_active(self) -> bool:
        return all(n.active is not None for n in self.nodes if n.alive)

    def _wake(self, node: Node) -> None:
        wanted = machine.deadline(node.member)
        if node.alive and wanted is not None and wanted <= self.now:
            self._happen(node, Timer(self.random.randbytes(64)))

    def _resume(self, node: Node) -> None:
        if node.paused_until <= self.now:
            missed, node.missed = node.missed, []
            for event in missed:
                self._after(0, node, event)
            self.at(self.now, lambda: self._wake(node))

    def _happen(self, node: Node, event: Event) -> None:
        if not node.alive:
            return
        if node.paused_until > self.now:
            node.missed.append(event)
            return
        before, error = node.member, None
        effects: tuple[Effect, ...] = ()
        try:
            node.member, effects = machine.step(before, event, self.now)
        except Exception as raised:
            error = raised
        for observe in self.observers:
            observe(Step(node, before, event, node.member, effects, error, self.now))
        if isinstance(error, ToposealError):
            node.refusals += error.mismatches
        elif error is not None:
            raise error
        else:
            self._perform(node, effects)

    def _perform(self, node: Node, effects: tuple[Effect, ...]) -> None:
        entered = not node.phases or node.phases[-1] != node.phase
        if entered:
            node.phases.append(node.phase)
            self._note(node, f"is {node.phase}")
        crash = entered and node.crash_on is not None and node.crash_on[0] == node.phase
        if crash:
            self.happened[f"crash {node.phase}"] += 1
        if not crash or (node.crash_on is not None and node.crash_on[1]):
            for effect in effects:
                self._effect(node, effect)
        if crash:
            self.kill(node)
        wanted = machine.deadline(node.member)
        if wanted is not None and node.alive:
            self.at(max(wanted, node.paused_until), lambda: self._wake(node))

    def _effect(self, node: Node, effect: Effect) -> None:
        match effect:
            case Quote(binding):
                self._quote(node, binding)
            case Appraise():
                self._after(_APPRAISAL_MS, node, symbolic_appraisal(effect))
            case Send(_, addresses, data):
                for peer in [n for n in self.nodes if n.address in addresses]:
                    self._send(node, peer, data)
            case Announce(data):
                for peer in [n for n in self.nodes if n is not node]:
                    self._send(node, peer, data)
            case Alarm(mismatch):
                node.alarms.append(mismatch)
                self._note(node, f"alarm: {mismatch}")
            case Activate(sealed):
                node.active = sealed
                self._note(node, f"serves epoch {sealed.manifest.epoch}")
            case Suspend(mismatch):
                node.suspended = True
                self.happened["suspend"] += 1
                self._note(node, f"suspends: {mismatch}")
            case Resume():
                node.suspended = False
                self.happened["resume"] += 1
                self._note(node, "resumes")
            case Left(_):
                self.happened["left"] += 1
                self.kill(node)
            case Fence(mismatch):
                node.fenced = mismatch
                self._note(node, f"fences: {mismatch}")

    def _quote(self, node: Node, binding: Binding) -> None:
        node.quotes.append(binding)
        delay = self.faults.quote_ms
        if self._chance("quote slow", self.faults.quote_slow):
            delay = self.faults.quote_slow_ms
        if self._chance("quote failure", self.faults.quote_failure):
            failed = Mismatch(Reason.QUOTE_SOURCE, "outblob", "EIO", "a quote")
            self._after(delay, node, QuoteFailed(binding, failed))
            return
        self._after(delay, node, Quoted(binding, symbolic_evidence(binding, node.role)))

    def _send(self, source: Node, target: Node, data: bytes) -> None:
        source.sent += 1
        self.delivered.append((source.index, target.index, data))
        if not target.alive:
            return
        if self.faults.cut(self.now, source.index, target.index):
            self.happened["partition"] += 1
            return
        if self._chance("loss", self.faults.loss):
            return
        if self._chance("corruption", self.faults.corrupt):
            place = self.random.randrange(len(data) * 8)
            data = bytes(b ^ (1 << place % 8 if i == place // 8 else 0) for i, b in enumerate(data))
        for _ in range(1 + self._chance("duplication", self.faults.duplicate)):
            self._after(self.random.randint(*self.faults.delay), target, Received(data))
        if self._chance("replay", self.faults.replay):
            _, to, old = self.random.choice(self.delivered)
            self._after(self.random.randint(*self.faults.delay), self.nodes[to], Received(old))

    def _chance(self, kind: str, probability: float) -> bool:
        """Whether a fault happens; no entropy is used for faults that cannot."""
        happens = probability > 0 and self.random.random() < probability
        self.happened[kind] += happens
        return happens

    def _after(self, delay: int, node: Node, event: Event) -> None:
        self.at(self.now + delay, lambda: self._happen(node, event))

    def _note(self, node: Node, text: str) -> None:
        self.trace.append(f"{self.now:>8} ms  {node.index} {node.address} {text}")
