"""One seed, one story: a topology, members, faults for a while, then peace; and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from toposeal.errors import Mismatch, Reason
from toposeal.limits import LEAVE_TIMEOUT
from toposeal.membership.events import Fault, Leave
from toposeal.membership.state import Waiting
from toposeal.topology.accept import SignedTopology
from toposeal_lab.simulation.dice import Dice
from toposeal_lab.simulation.ends import PAIR, PAIRS, Ends
from toposeal_lab.simulation.invariants import Invariants
from toposeal_lab.simulation.keys import symbolic_signatures
from toposeal_lab.simulation.network import Blow, Faults, Network, Node, Step
from toposeal_lab.simulation.settled import is_settled, may_settle
from toposeal_lab.simulation.updates import Updates
from toposeal_lab.simulation.violation import Violation

_BOUNDS = ((1, 1), (1, 1), (1, 1), (2, 2), (3, 3), (1, 2), (1, 3), (2, 3))
BRISK: dict[str, Any] = {
    "view_ms": 200,
    "quote_ms": 1_000,
    "ping_ms": 200,
    "attempt_ms": 2_000,
    "heartbeat_ms": 300,
    "lease_ms": 1_500,
    "reattest_ms": 20_000,
    "quorum_ms": 10_000,
    "topology_ms": 8_000,
}
_TIMERS: tuple[dict[str, Any], ...] = (
    BRISK,
    {
        "view_ms": 1_000,
        "quote_ms": 5_000,
        "ping_ms": 500,
        "attempt_ms": 5_000,
        "heartbeat_ms": 1_000,
        "lease_ms": 5_000,
        "reattest_ms": 60_000,
        "quorum_ms": 30_000,
        "topology_ms": 20_000,
    },
    {},
)
_PACE = (0,) * 9 + (1,) * 2 + (2,)  # stories are short where time passes quickly
_CRASHES = ("boot", "waiting", "gathering", "proposed", "committed", "quoted", "sealed", "active")
_PARTITIONS = ("symmetric", "one-way", "flapping", "asymmetric")
_PLANES = ("both", "peer link", "data plane")
KINDS = (
    *("loss", "duplication", "reorder", "delay", "corruption", "replay"),
    *(f"partition {kind} of {plane}" for kind in _PARTITIONS for plane in _PLANES),
    *(f"crash {phase}" for phase in _CRASHES),
    *("death", "pause", "clock jump", "clock stall", "defect", "leave", "quote failure", "quote slow"),
    *("surplus instance", "versions", "equivocation", "wrong reference", "epoch jump"),
    "left by LEAVE",
)
_MOST_MEMBERS = 6  # more are only slower
_ATTEMPTS = 6  # L1: after peace, at most so many further epochs, and one for each pod that starts only then


@dataclass
class Outcome:
    """What came of one story that broke nothing."""

    seed: int
    network: Network
    invariants: Invariants
    active: bool  # some manifest became active
    settled_ms: int  # after peace
    happened: Counter[str] = field(default_factory=Counter)


class Scenario(Updates, Ends):
    """Everything that chance decides is decided here, or is a function of what it is about."""

    def __init__(self, seed: int, real: bool = False, permitted: Collection[Blow] | None = None) -> None:
        """`real`: signatures and keys as in production, at several times the cost. `permitted`: of the faults
        of this seed only these happen."""
        self.seed, self.real = seed, real
        self.random = Dice("scenario", seed)
        self.updates = Dice("updates", seed)
        self.timers = _TIMERS[self.random.choice(_PACE)]
        names = ("web", "api", "db")[: self.random.choice((1, 2, 2, 2, 3))]
        self.roles = {name: self.random.choice(_BOUNDS) for name in names}
        if seed % PAIRS == PAIR:  # the last but one may leave
            names, self.roles = ("web",), {"web": (1, 2)}
        self._misdeclare(names)
        self.topology = self._signed(version=7)
        timers = self.topology.topology.timers
        self.round_ms = timers.quote_ms + timers.attempt_ms
        self.peace_at = self.random.choice((1, 1, 1, 2, 4)) * min(self.round_ms, 10_000)
        self.network = Network(self.topology, seed, self._faults(), not real, permitted)
        self.invariants = Invariants(self.network)
        self.epochs: dict[int, int] = {}  # node -> the epoch that it begins with
        self.network.observers.append(self._jump)
        self.peaceful = False
        self._moves = 0  # steps that may settle anything
        self._known: tuple[tuple[object, ...], bool] = ((), False)  # whether it was settled, and when

    def run(self) -> Outcome:
        """Raises Violation with the seed and the last steps."""
        try:
            with nullcontext() if self.real else symbolic_signatures():
                return self._run()
        except Violation as violation:
            trace = "\n".join(self.network.trace)
            raise Violation(violation.name, f"{violation}\nseed {self.seed}, {self.roles}\n{trace}") from None

    def _run(self) -> Outcome:
        for number, role in enumerate(self._population()):
            self.network.at(self._start_time(), self._booting(role, number))
        self._schedule_trouble()
        self._schedule_updates()
        self._schedule_correction()
        self.network.at(0, self._kubelet)
        self.network.run(self.peace_at)
        if any(node.alive and node.member.leaving for node in self.network.nodes):
            self.network.run(self.network.now + LEAVE_TIMEOUT)  # that is trouble too
        epoch, pods = self._make_peace(), len(self.network.nodes)
        since = self.network.now
        limit = since + 8 * self.round_ms + 1_200_000
        self.network.run(limit, self._settled)
        if not self._settled():
            raise Violation("L1", f"not settled {limit - since} ms after the last fault")
        settled_at = self.network.now
        grown = max(self.invariants.highest.values(), default=0) - epoch
        if grown > _ATTEMPTS + len(self.network.nodes) - pods:
            raise Violation("L1", f"{grown} further attempts after the last fault")
        self._epilogue()
        return Outcome(
            self.seed,
            self.network,
            self.invariants,
            active=any(n.active for n in self.network.nodes),
            settled_ms=settled_at - since,
            happened=self.network.happened,
        )

    # Population.

    def _population(self) -> list[str]:
        members: list[str] = []
        for name, (low, high) in self.roles.items():
            number = self.random.randint(low, high)
            if self.random.random() < 0.15:
                more = high + 1
                number = more if self._strike("surplus instance", name) else number
            members += [name] * number
        return members[:_MOST_MEMBERS] if self._possible(members[:_MOST_MEMBERS]) else members

    def _possible(self, members: list[str]) -> bool:
        return all(members.count(name) >= low for name, (low, _) in self.roles.items())

    def _start_time(self) -> int:
        return self.random.choice((0, self.random.randint(0, 500), self.random.randint(0, 8_000)))

    def _booting(self, role: str, number: int) -> Callable[[], None]:
        signed, crash, epoch = self._choose_topology(number), self._choose_crash(), self._choose_epoch()

        def boot() -> None:
            if self.peaceful and role not in self.topology.topology.roles:
                return
            if self.peaceful:
                self.network.boot(role, self.topology)
            else:
                self.epochs[len(self.network.nodes)] = epoch
                self.network.boot(role, signed, crash_on=crash)

        return boot

    def _choose_topology(self, number: int) -> SignedTopology:
        kind = Dice("topology", self.seed).choice(("one",) * 6 + ("versions", "equivocation"))
        if kind == "one" or self.random.random() < 0.5 or not self._strike(kind, number):
            return self.topology
        return (
            self._signed(version=6)
            if kind == "versions"
            else self._signed(version=7, issued_at=1_700_000_000)
        )

    def _choose_crash(self) -> tuple[str, bool] | None:
        if self.random.random() >= 0.2:
            return None
        return self.random.choice(_CRASHES), self.random.random() < 0.5

    def _choose_epoch(self) -> int:
        if self.random.random() >= 0.1:
            return 0
        return self.random.choice((2, 30, 64, 65, 66, 200, 1000))

    def _jump(self, step: Step) -> None:
        """As if it had failed so many attempts already."""
        phase, node = step.after.phase, step.node.index
        self._moves += self.peaceful and may_settle(step)
        if not self.epochs.get(node) or not isinstance(phase, Waiting) or self.peaceful:
            return
        epoch = max(phase.epoch, self.epochs.pop(node))
        if self._strike("epoch jump", node):
            step.node.member = replace(step.after, phase=Waiting(epoch, phase.until))

    def _strike(self, kind: str, *which: object) -> bool:
        return self.network.strike(kind, *which)

    # Trouble.

    def _faults(self) -> Faults:
        chance = self.random.random
        return Faults(
            loss=self.random.choice((0, 0, 0.05, 0.2, 0.4)),
            duplicate=self.random.choice((0, 0.2)),
            corrupt=self.random.choice((0, 0, 0.05)),
            replay=self.random.choice((0, 0, 0.05)),
            delay=self.random.choice(((1, 3), (1, 30), (5, 300), (1, 3_000))),
            quote_ms=self.random.choice((1, 40, 400)),
            quote_failure=0.15 if chance() < 0.3 else 0,
            quote_slow=0.2 if chance() < 0.3 else 0,
            quote_slow_ms=self.random.choice((1_000, self.round_ms, self.round_ms + 5_000)),
        )

    def _schedule_trouble(self) -> None:
        if self.random.random() < 0.5:
            self._partition()
        kinds: tuple[tuple[str, Callable[[Node, float], None], tuple[int, ...]], ...] = (
            ("pause", self._pause, (0, 0, 1, 3)),
            ("death", self._die, (0, 0, 1, 2, 5)),
            ("leave", self._leave, (0, 0, 1, 2)),
            ("clock jump", self._clock_ahead, (0, 0, 0, 2)),
            ("clock stall", self._clock_stands, (0, 0, 0, 2)),
            ("defect", self._defect, (0, 0, 0, 0, 0, 1)),
        )
        for kind, action, numbers in kinds:
            for number in range(self.random.choice(numbers)):
                at, who, how = (
                    self.random.randint(0, self.peace_at),
                    self.random.random(),
                    self.random.random(),
                )
                self.network.at(at, self._blow(kind, number, action, who, how))

    def _blow(
        self, kind: str, number: int, action: Callable[[Node, float], None], who: float, how: float
    ) -> Callable[[], None]:
        """One fault of one pod: whichever stands at `who` among the living then."""

        def strike() -> None:
            live = self.network.live()
            if live and self._strike(kind, number):
                action(live[int(who * len(live))], how)

        return strike

    def _partition(self) -> None:
        """A cut between two halves, both ways or one way, steady or flapping, or of any links; of the peer
        link, the data plane, or both.
        """
        kind = self.random.choice(_PARTITIONS)
        planes = self.random.choice(_PLANES)
        start = self.random.randint(0, self.peace_at)
        end = self.random.randint(start, self.peace_at)
        salt = self.random.randint(2, 5)

        def cut(now: int, source: int, target: int) -> bool:
            if not start <= now < end or (kind == "flapping" and now // 700 % 2):
                return False
            if kind == "asymmetric":
                return (source * 7 + target * 3 + salt) % 4 == 0
            crosses = (source * salt // 3 + source) % 2 != (target * salt // 3 + target) % 2
            return crosses and not (kind == "one-way" and source > target)

        if self._strike(f"partition {kind} of {planes}"):
            faults = self.network.faults
            faults.cut = cut if planes != "data plane" else faults.cut
            faults.data_cut = cut if planes != "peer link" else faults.data_cut

    def _pause(self, node: Node, how: float) -> None:
        self.network.pause(node, _of((100, 3_000, 30_000, 200_000), how))

    def _leave(self, node: Node, how: float) -> None:
        """Its daemon ends it after a while, whatever the others do (`Pod.stop`)."""
        self.network.inject(node, Leave())
        self.network.at(self.network.now + LEAVE_TIMEOUT, lambda: self._end_of_grace(node))

    def _end_of_grace(self, node: Node) -> None:
        if node.alive:
            self.network.kill(node)

    def _die(self, node: Node, how: float) -> None:
        self.network.kill(node)

    def _clock_ahead(self, node: Node, how: float) -> None:
        """As after a migration."""
        self.network.jump(node, _of((500, 10_000, 3_600_000), how))

    def _clock_stands(self, node: Node, how: float) -> None:
        """The host withholds time."""
        self.network.jump(node, -_of((100, 1_000, 5_000), how))

    def _defect(self, node: Node, how: float) -> None:
        """Something in the pod fails that the protocol cannot explain."""
        self.network.inject(node, Fault(Mismatch(Reason.INTERNAL, "pod", "a defect", "none")))

    # Life goes on.

    def _kubelet(self) -> None:
        """What died or fenced comes back after a while, as a new instance at the same address. Pods of a role
        that is no more do not.

        In peace, the owner sees to it that somebody has the newest topology.
        """
        if self.peaceful:
            self._see_to_it()
        for node in self._latest():
            if node.alive and node.fenced is None:
                continue
            if self.peaceful or Dice("kubelet", self.seed, node.index, self.network.now).random() < 0.5:
                self.network.happened["restart"] += 1
                self.network.restart(node, self.topology if self.peaceful else node.signed)
        self.network.at(self.network.now + 1_000, self._kubelet)

    def _latest(self) -> list[Node]:
        nodes = {n.address: n for n in self.network.nodes}.values()
        return [n for n in nodes if n.role in self.roles]

    def _make_peace(self) -> int:
        """No more faults. Returns the highest epoch of an attempt so far, or one that is to begin."""
        self.peaceful = True
        self.network.faults = Faults()
        for node in self.network.nodes:
            node.crash_on = None
            node.offset = self.network.clock(node) - self.network.now  # clocks that stood still go on
            self.network.resume(node)
        phases = [node.member.phase for node in self.network.nodes]
        awaited = [phase.epoch - 1 for phase in phases if isinstance(phase, Waiting)]
        return max([*self.invariants.highest.values(), *awaited], default=0)

    def _settled(self) -> bool:
        """L1; looked at again when something of it has changed."""
        state = (self._moves, len(self.network.nodes), id(self.topology))
        if self._known[0] != state:
            self._known = state, is_settled(self._latest(), self.topology.topology)
        return self._known[1]


def _of(values: tuple[int, ...], chance: float) -> int:
    return values[int(chance * len(values))]
