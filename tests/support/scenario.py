"""One seed, one story: a topology, members, faults for a while, then peace; and what came of it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from support.actors import sent_kind
from support.invariants import Invariants, Violation
from support.network import Faults, Network, Node, Step, signed_topology
from toposeal.membership.events import Leave
from toposeal.membership.sealed import SealedManifest
from toposeal.membership.state import Waiting
from toposeal.topology.accept import SignedTopology

_BOUNDS = ((1, 1), (1, 1), (2, 2), (3, 3), (1, 2), (1, 3), (2, 3))
_TIMERS: tuple[dict[str, Any], ...] = (
    {
        "view_ms": 200,
        "quote_ms": 1_000,
        "ping_ms": 200,
        "attempt_ms": 2_000,
        "heartbeat_ms": 300,
        "lease_ms": 1_500,
        "reattest_ms": 20_000,
        "quorum_ms": 10_000,
    },
    {
        "view_ms": 1_000,
        "quote_ms": 5_000,
        "ping_ms": 500,
        "attempt_ms": 5_000,
        "heartbeat_ms": 1_000,
        "lease_ms": 5_000,
        "reattest_ms": 60_000,
        "quorum_ms": 30_000,
    },
    {},
)
_CRASHES = ("boot", "waiting", "gathering", "proposed", "committed", "sealed", "active")
_MOST_MEMBERS = 8  # more are only slower
_ATTEMPTS = 6  # L1: after peace, at most so many further epochs


@dataclass
class Outcome:
    seed: int
    network: Network
    invariants: Invariants
    active: bool  # some manifest became active
    settled_ms: int  # after peace
    happened: Counter[str] = field(default_factory=Counter)


class Scenario:
    """Everything that chance decides is decided here, before the run or from its own generator."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(f"scenario {seed}")
        self.timers = self.random.choice(_TIMERS)
        names = ("web", "api", "db")[: self.random.randint(1, 3)]
        self.roles = {name: self.random.choice(_BOUNDS) for name in names}
        self.topology = signed_topology(self.roles, version=7, **self.timers)
        timers = self.topology.topology.timers
        self.round_ms = timers.quote_ms + timers.attempt_ms
        self.peace_at = self.random.choice((2, 3, 4, 6, 12)) * min(self.round_ms, 10_000)
        self.network = Network(self.topology, seed, self._faults())
        self.invariants = Invariants(self.network)
        self.epochs: dict[int, int] = {}  # node -> the epoch that it begins with
        self.network.observers.append(self._jump)
        self.peaceful = False

    def run(self) -> Outcome:
        """Raises Violation with the seed and the last steps."""
        try:
            return self._run()
        except Violation as violation:
            trace = "\n".join(self.network.trace)
            raise Violation(violation.name, f"{violation}\nseed {self.seed}, {self.roles}\n{trace}") from None

    def _run(self) -> Outcome:
        for role in self._population():
            self.network.at(self._start_time(), self._booting(role))
        self._schedule_trouble()
        self.network.at(0, self._kubelet)
        self.network.run(self.peace_at)
        epoch = self._make_peace()
        limit = self.peace_at + 8 * self.round_ms + 600_000
        self.network.run(limit, self._settled)
        if not self._settled():
            raise Violation("L1", f"not settled {limit - self.peace_at} ms after the last fault")
        settled_at = self.network.now
        grown = max(self.invariants.highest.values(), default=0) - epoch
        if grown > _ATTEMPTS:
            raise Violation("L1", f"{grown} further attempts after the last fault")
        self._quiet()
        return Outcome(
            self.seed,
            self.network,
            self.invariants,
            active=any(n.active for n in self.network.nodes),
            settled_ms=settled_at - self.peace_at,
            happened=self.network.happened,
        )

    def _quiet(self) -> None:
        """L4: while no round is due, who serves says nothing but heartbeats, whatever others say to it; and
        to who waits outside what it needs to come in.
        """
        heartbeat_ms = self.topology.topology.timers.heartbeat_ms
        # The slowest message of the troubled time has come, and who has died outside is forgotten.
        self.network.run(self.network.now + 3_500 + 18 * heartbeat_ms)
        self.network.delivered.clear()
        epochs = dict(self.invariants.highest)
        self.network.run(self.network.now + 10_000)
        if self.invariants.highest != epochs:
            return
        serving = {n.index for n in self._latest() if n.active is not None and not n.suspended}
        outside = len(serving) < len(self._latest())
        allowed = {"heartbeat", "introduction", "certificate"} if outside else {"heartbeat"}
        said = {sent_kind(data) for source, _, data in self.network.delivered if source in serving}
        if not said <= allowed:
            raise Violation("L4", f"members at rest say {said}")

    # Population.

    def _population(self) -> list[str]:
        members: list[str] = []
        for name, (low, high) in self.roles.items():
            number = self.random.randint(low, high)
            if self.random.random() < 0.15:
                number = high + self.random.randint(1, 2)
                self.network.happened["surplus instance"] += 1
            members += [name] * number
        return members[:_MOST_MEMBERS] if self._possible(members[:_MOST_MEMBERS]) else members

    def _possible(self, members: list[str]) -> bool:
        return all(members.count(name) >= low for name, (low, _) in self.roles.items())

    def _start_time(self) -> int:
        return self.random.choice((0, self.random.randint(0, 500), self.random.randint(0, 8_000)))

    def _booting(self, role: str) -> Callable[[], None]:
        signed, crash, epoch = self._choose_topology(), self._choose_crash(), self._choose_epoch()

        def boot() -> None:
            node = self.network.boot(role, self.topology if self.peaceful else signed)
            if self.peaceful:
                return
            node.crash_on = crash
            if epoch:
                self.epochs[node.index] = epoch

        return boot

    def _choose_topology(self) -> SignedTopology:
        kind = random.Random(f"topology {self.seed}").choice(("one",) * 6 + ("versions", "equivocation"))
        if kind == "one" or self.random.random() < 0.5:
            return self.topology
        self.network.happened[kind] += 1
        if kind == "versions":
            return signed_topology(self.roles, version=6, **self.timers)
        return signed_topology(self.roles, version=7, issued_at=1_700_000_000, **self.timers)

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
        phase = step.after.phase
        if isinstance(phase, Waiting) and step.node.index in self.epochs and not self.peaceful:
            epoch = max(phase.epoch, self.epochs.pop(step.node.index))
            step.node.member = replace(step.after, phase=Waiting(epoch, phase.until))
            self.network.happened["epoch jump"] += 1

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
        if self.random.random() < 0.4:
            self._partition()
        for _ in range(self.random.choice((0, 0, 1, 3))):
            self.network.at(self.random.randint(0, self.peace_at), self._pause)
        for _ in range(self.random.choice((0, 0, 1, 2, 5))):
            self.network.at(self.random.randint(0, self.peace_at), self._die)
        for _ in range(self.random.choice((0, 0, 1, 2))):
            self.network.at(self.random.randint(0, self.peace_at), self._leave)

    def _partition(self) -> None:
        """A cut between two halves, both ways or one way, steady or flapping."""
        one_way, flapping = self.random.random() < 0.3, self.random.random() < 0.3
        start = self.random.randint(0, self.peace_at)
        end = self.random.randint(start, self.peace_at)
        salt = self.random.randint(2, 5)

        def cut(now: int, source: int, target: int) -> bool:
            crosses = (source * salt // 3 + source) % 2 != (target * salt // 3 + target) % 2
            if one_way and source > target:
                return False
            return start <= now < end and crosses and not (flapping and now // 700 % 2)

        self.network.faults.cut = cut

    def _pause(self) -> None:
        live = self.network.live()
        if live:
            node = self.random.choice(live)
            self.network.pause(node, self.random.choice((100, 3_000, 30_000, 200_000)))

    def _leave(self) -> None:
        live = self.network.live()
        if live:
            self.network.happened["leave"] += 1
            self.network.inject(self.random.choice(live), Leave())

    def _die(self) -> None:
        live = self.network.live()
        if live:
            self.network.happened["death"] += 1
            self.network.kill(self.random.choice(live))

    # Life goes on.

    def _kubelet(self) -> None:
        """What died or fenced comes back after a while, as a new instance at the same address.

        In peace, whoever cannot take part under the newest topology is restarted with it.
        """
        for node in self._latest():
            if node.alive and node.fenced is None:
                if self.peaceful and self._outdated(node):
                    self.network.happened["rollout"] += 1
                    self.network.restart(node, self.topology)
            elif self.peaceful or self.random.random() < 0.5:
                self.network.happened["restart"] += 1
                self.network.restart(node, self.topology if self.peaceful else node.signed)
        self.network.at(self.network.now + 1_000, self._kubelet)

    def _latest(self) -> list[Node]:
        return list({n.address: n for n in self.network.nodes}.values())

    def _make_peace(self) -> int:
        """No more faults."""
        self.peaceful = True
        self.network.faults = Faults()
        for node in self._latest():
            node.crash_on = None
            self.network.resume(node)
        return max(self.invariants.highest.values(), default=0)

    def _outdated(self, node: Node) -> bool:
        return node.signed is not self.topology or node.member.blocked is not None

    def _settled(self) -> bool:
        """L1: all members of what is served live and serve it too, and who is outside has no place in it."""
        nodes = self._latest()
        if any(not n.alive or n.fenced or n.phase in ("committed", "sealed", "proposed") for n in nodes):
            return False
        serving = {n.member.own.iid: n.active for n in nodes if n.active is not None and not n.suspended}
        for sealed in serving.values():
            for iid in sealed.iids:
                theirs = serving.get(iid)
                if theirs is None or theirs.manifest.digest != sealed.manifest.digest:
                    return False
        spare = [n for n in nodes if n.member.own.iid not in serving]
        return bool(serving) and not any(self._has_place(n, s) for n in spare for s in serving.values())

    def _has_place(self, node: Node, sealed: SealedManifest) -> bool:
        role = sealed.topology.roles[node.role]
        return sum(e.role == node.role for e in sealed.manifest.members) < role.max_replicas
