"""A seeded network of production state machines: real parsers, transcripts and checks.

Time is virtual, and every chance is a function of the seed and of what it is about: the same seed gives the
same run, and a run without one of its faults has all the others. Every step of every member is shown to
`observers`, which decide what was allowed.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection
from functools import partial
from itertools import count

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.errors import Mismatch, Reason, ToposealError
from toposeal.evidence.binding import Binding, Purpose
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
from toposeal.topology.accept import SignedTopology
from toposeal_lab.simulation.data_plane import DataPlane
from toposeal_lab.simulation.dice import Dice, draws
from toposeal_lab.simulation.keys import POOL, make_own, own_of, pooled
from toposeal_lab.simulation.parts import Blow, Faults, Node, Step, sent_kind
from toposeal_lab.simulation.symbolic import (
    MESH,
    WALL,
    owner,
    role_document,
    signed_topology,
    symbolic_appraisal,
    symbolic_evidence,
)

__all__ = [
    "MESH",
    "WALL",
    "Blow",
    "Faults",
    "Network",
    "Node",
    "Step",
    "make_own",
    "owner",
    "role_document",
    "sent_kind",
    "signed_topology",
    "symbolic_appraisal",
    "symbolic_evidence",
]

_TRACE_LENGTH = 200
_RECORDED = 20_000
_APPRAISAL_MS = 1
_FAREWELLS, _FAREWELL_MS = 4, 5  # how often it is said, and how long after the gate is closed
_PROMPT_MS = 3  # a message that takes longer is delayed


class Network:
    """n members, virtual time in ms, one heap of what happens next."""

    def __init__(
        self,
        signed: SignedTopology,
        seed: int = 0,
        faults: Faults | None = None,
        symbolic: bool = False,
        permitted: Collection[Blow] | None = None,
    ) -> None:
        """`symbolic`: inside `symbolic_signatures`. `permitted`: no fault but these happens."""
        self.signed, self.seed, self.now = signed, seed, 0
        self.random = Dice("network", seed)
        self.faults = faults or Faults()
        self.nodes: list[Node] = []
        self._at: defaultdict[str, list[Node]] = defaultdict(list)  # by address, the dead ones too
        self.observers: list[Callable[[Step], None]] = []
        self.reviewers: list[Callable[[], None]] = []  # who looks at steps together, whenever `run` ends
        self.topologies = {signed.topology.digest: signed}  # all that the owner has signed
        self.delivered: deque[tuple[int, int, bytes]] = deque(maxlen=_RECORDED)  # (from, to, envelope)
        self.happened: Counter[str] = Counter()  # faults, by kind
        self.struck: list[Blow] = []
        self.permitted = permitted
        self.trace: deque[str] = deque(maxlen=_TRACE_LENGTH)
        self.data_plane = DataPlane(self)
        self._symbolic = symbolic
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()
        self._said: Counter[tuple[int, int]] = Counter()  # messages from one to another
        self._arrives: dict[tuple[int, int], int] = {}  # the latest of them, in ms

    def boot(
        self,
        role: str,
        signed: SignedTopology | None = None,
        measured: str | None = None,
        address: str | None = None,
        crash_on: tuple[str, bool] | None = None,
    ) -> Node:
        """Start one more instance of `role` now; `measured` is what its evidence shows."""
        index = len(self.nodes)
        address = address or f"10.0.{index // 250}.{index % 250 + 1}"
        signed = signed or self.signed
        self.topologies[signed.topology.digest] = signed
        boot = pooled((self.seed * 97 + index) % POOL)
        own = own_of(boot, boot.symbolic if self._symbolic else boot.real, role, address, signed)
        member, effects = machine.start(own, self.now)
        dice = Dice("entropy", self.seed, index)
        node = Node(index, address, measured or role, member, signed, boot, dice, crash_on=crash_on)
        self.nodes.append(node)
        self._at[address].append(node)
        self.data_plane.boot(node)
        self._note(node, f"boots as {role}")
        self._perform(node, effects)
        return node

    def strike(self, kind: str, *which: object) -> bool:
        """Whether this very fault may happen; then it is counted, and told where few are left."""
        blow = (kind, *which)
        if self.permitted is not None and blow not in self.permitted:
            return False
        self.happened[kind] += 1
        self.struck.append(blow)
        if self.permitted is not None:
            self.trace.append(f"{self.now:>8} ms  fault: {' '.join(map(str, blow))}")
        return True

    def passable(self, client: int, server: int) -> bool:
        """Whether the data plane's packets get from one to the other."""
        cut = self.faults.data_cut is not None and self.faults.data_cut(self.now, client, server)
        self.happened["no route"] += cut
        return not cut

    def clock(self, node: Node) -> int:
        """What the clock of `node` shows, in ms."""
        return max(self.now + node.offset, node.floor)

    def jump(self, node: Node, ms: int) -> None:
        """The clock of `node` leaps ahead; or, below zero, stands still for so long."""
        node.floor = self.clock(node)
        node.offset += ms
        self._note(node, f"clock jumps by {ms} ms")
        self._schedule(node)

    def kill(self, node: Node) -> None:
        node.alive = False
        self.data_plane.end(node)
        self._note(node, "dies")

    def restart(self, node: Node, signed: SignedTopology | None = None) -> Node:
        """The pod of `node` again, as a new instance at the same address."""
        node.alive = False
        self.data_plane.end(node)
        return self.boot(node.role, signed or node.signed, address=node.address)

    def pause(self, node: Node, duration: int) -> None:
        """Nothing happens at `node` for `duration` ms; its clock goes on."""
        node.paused_until = max(node.paused_until, self.now + duration)
        self.at(node.paused_until, lambda: self._resume(node))
        self._note(node, f"pauses for {duration} ms")

    def resume(self, node: Node) -> None:
        """End every pause now."""
        node.paused_until = self.now
        self._resume(node)

    def inject(self, node: Node, event: Event) -> None:
        """Let `event` happen at `node` now."""
        self._after(0, node, event)

    def push(self, node: Node, signed: SignedTopology) -> None:
        """The owner gives `node` another topology."""
        self.topologies[signed.topology.digest] = signed
        self.inject(node, Received(encode(wire.Envelope(topology=signed.envelope))))

    def at(self, time: int, action: Callable[[], None]) -> None:
        """Do something at virtual time `time`."""
        heapq.heappush(self._heap, (max(time, self.now), next(self._order), action))

    def run(self, until: int, stop: Callable[[], bool] = lambda: False) -> None:
        """Let time pass until `until` ms or until `stop()`."""
        heap = self._heap
        while heap and heap[0][0] <= until and not stop():
            self.now, _, action = heapq.heappop(heap)
            action()
        if not stop():
            self.now = max(self.now, until)
        for review in self.reviewers:
            review()

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

    def _schedule(self, node: Node) -> None:
        """One wake-up is on its way for each member, no later than it wants."""
        wanted = node.deadline
        if wanted is None or not node.alive:
            return
        at = max(wanted - node.offset, node.paused_until, self.now)
        if node.wake_at is None or at < node.wake_at:
            node.wake_at = at
            self.at(at, lambda: self._wake(node, at))

    def _wake(self, node: Node, at: int) -> None:
        if node.wake_at != at:
            return
        node.wake_at = None
        wanted = node.deadline
        if node.alive and wanted is not None and wanted <= self.clock(node):
            self._happen(node, Timer(node.dice.randbytes(64)))
        else:
            self._schedule(node)

    def _resume(self, node: Node) -> None:
        if node.paused_until <= self.now:
            missed, node.missed = node.missed, []
            for event in missed:
                self._after(0, node, event)
            self._schedule(node)

    def _happen(self, node: Node, event: Event) -> None:
        if not node.alive:
            return
        if node.paused_until > self.now:
            node.missed.append(event)
            return
        before, error, clock = node.member, None, self.clock(node)
        effects: tuple[Effect, ...] = ()
        try:
            node.member, effects = machine.step(before, event, clock)
        except ToposealError as raised:
            error = raised
        except Exception as raised:
            self._observe(Step(node, before, event, before, (), raised, self.now, clock))
            raise
        self._observe(Step(node, before, event, node.member, effects, error, self.now, clock))
        if error is not None:
            node.refusals += error.mismatches  # and it waits for what it has waited for
        else:
            self._perform(node, effects)

    def _observe(self, step: Step) -> None:
        for observe in self.observers:
            observe(step)

    def _perform(self, node: Node, effects: tuple[Effect, ...]) -> None:
        crash = node.entered is not type(node.member.phase) and self._enter(node)
        if not crash or (node.crash_on is not None and node.crash_on[1]):
            for effect in effects:
                self._effect(node, effect)
        if crash:
            self.kill(node)
        self._schedule(node)

    def _enter(self, node: Node) -> bool:
        """Another phase; whether it crashes there."""
        node.entered, phase = type(node.member.phase), node.phase
        node.phases.append(phase)
        self._note(node, f"is {phase}")
        crash = node.crash_on is not None and node.crash_on[0] == phase
        return crash and self.strike(f"crash {phase}", node.index)

    def _effect(self, node: Node, effect: Effect) -> None:
        if isinstance(effect, Send):  # most are
            for address in effect.addresses:
                for peer in self._at[address]:
                    self._send(node, peer, effect.data)
            return
        match effect:
            case Quote(binding):
                self._quote(node, binding)
            case Appraise():
                self._after(_APPRAISAL_MS, node, symbolic_appraisal(effect))
            case Announce(messages, known):
                for peer in [n for n in self.nodes if n is not node and n.address not in known]:
                    for data in messages:
                        self._send(node, peer, data)
            case Alarm(mismatch):
                node.alarms.append(mismatch)
                self._note(node, f"alarm: {mismatch}")
            case Activate(sealed):
                node.active = sealed
                self.data_plane.activate(node, sealed)
                self._note(node, f"serves epoch {sealed.manifest.epoch}")
            case Suspend(mismatch):
                node.suspended = True
                node.suspensions += 1
                self.data_plane.suspend(node)
                self.happened["suspend"] += 1
                self._note(node, f"suspends: {mismatch}")
            case Resume():
                node.suspended = False
                self.data_plane.resume(node)
                self.happened["resume"] += 1
                self._note(node, "resumes")
            case Left(_, farewell):
                self.happened["left by LEAVE" if farewell else "left"] += 1
                self.kill(node)
                for said in farewell * _FAREWELLS:
                    self.at(self.now + _FAREWELL_MS, partial(self._effect, node, said))
            case Fence(mismatch):
                node.fenced = mismatch
                self.data_plane.end(node)
                self._note(node, f"fences: {mismatch}")

    def _quote(self, node: Node, binding: Binding) -> None:
        node.quotes.append(binding)
        which, faults = (node.index, len(node.quotes)), self.faults
        slow, fails, *_ = draws("quote", self.seed, *which)
        delay = faults.quote_ms
        if slow < faults.quote_slow and self.strike("quote slow", *which):
            delay = faults.quote_slow_ms
        if node.quoteless or (fails < faults.quote_failure and self.strike("quote failure", *which)):
            failed = Mismatch(Reason.QUOTE_SOURCE, "outblob", "EIO", "a quote")
            self._after(0 if node.quoteless else delay, node, QuoteFailed(binding, failed))
            return
        self.at(self.now + delay, lambda: self._quoted(node, binding))

    def _quoted(self, node: Node, binding: Binding) -> None:
        """The quote is made; a member that crashes now has used it up and told nobody."""
        crash = node.alive and node.crash_on is not None and node.crash_on[0] == "quoted"
        if crash and binding.purpose is Purpose.SEAL and self.strike("crash quoted", node.index):
            self.kill(node)
        self._happen(node, Quoted(binding, symbolic_evidence(binding, node.role)))

    def _send(self, source: Node, target: Node, data: bytes) -> None:
        source.sent += 1
        pair, faults = (source.index, target.index), self.faults
        self.delivered.append((*pair, data))
        if not target.alive:
            return
        self._said[pair] = number = self._said[pair] + 1
        which = (*pair, number)
        if faults.cut is not None and faults.cut(self.now, *pair):
            self.happened["partition"] += 1
            return
        lost, twice, flipped, place, again, old, first, second = draws(self.seed, *which)
        if lost < faults.loss and self.strike("loss", *which):
            return
        if flipped < faults.corrupt and self.strike("corruption", *which):
            data = _flipped(data, int(place * len(data) * 8))
        self._deliver(target, data, first, which)
        if twice < faults.duplicate and self.strike("duplication", *which):
            self._deliver(target, data, second, which)
        if again < faults.replay and self.strike("replay", *which):
            _, to, said = self.delivered[int(old * len(self.delivered))]
            self._deliver(self.nodes[to], said, second, (source.index, to, -which[2]))

    def _deliver(self, target: Node, data: bytes, chance: float, which: tuple[int, int, int]) -> None:
        low, high = self.faults.delay
        delay = low + int(chance * (high - low + 1))
        if delay > _PROMPT_MS and not self.strike("delay", *which):
            delay = 1
        arrives, pair = self.now + delay, which[:2]
        if arrives < self._arrives.get(pair, 0):
            self.happened["reorder"] += 1
        else:
            self._arrives[pair] = arrives
        self._after(delay, target, Received(data))

    def _after(self, delay: int, node: Node, event: Event) -> None:
        happen: Callable[[], None] = partial(self._happen, node, event)
        heapq.heappush(self._heap, (self.now + delay, next(self._order), happen))

    def _note(self, node: Node, text: str) -> None:
        self.trace.append(f"{self.now:>8} ms  {node.index} {node.address} {text}")


def _flipped(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)
