"""How some stories end: what else must hold of a mesh at rest (L2, L4)."""

from __future__ import annotations

from abc import ABC, abstractmethod

from toposeal.membership.events import Leave
from toposeal.topology.accept import SignedTopology
from toposeal_lab.simulation.data_plane import APPLY_MS
from toposeal_lab.simulation.invariants import Invariants
from toposeal_lab.simulation.network import Network, Node, sent_kind
from toposeal_lab.simulation.violation import Violation

PAIRS, PAIR = 16, 9  # of so many stories this one is of two, of whom one may leave


class Ends(ABC):
    """What a scenario looks at when it is settled; it has these."""

    network: Network
    invariants: Invariants
    topology: SignedTopology
    seed: int
    round_ms: int
    roles: dict[str, tuple[int, int]]

    @abstractmethod
    def _settled(self) -> bool: ...

    @abstractmethod
    def _latest(self) -> list[Node]: ...

    def _epilogue(self) -> None:
        """In some stories the end is looked at more closely."""
        if self.seed % 8 == 0:
            self._quiet()
        if self.seed % 4 == 2:
            self._restart_one()
        if self.seed % PAIRS == PAIR:
            self._let_go()

    def _restart_one(self) -> None:
        """L2: a pod of a mesh at rest is restarted, its place is taken, and channels of the others last."""
        network, data = self.network, self.network.data_plane
        network.run(network.now + 3_500)
        nodes = self._latest()
        if len(nodes) < 3 or not self._settled():
            return
        data.dial()
        gone = nodes[self.seed % len(nodes)]
        sealed = gone.active
        if sealed is None or 2 * (len(sealed.iids) - 1) <= len(sealed.iids):
            return  # outside; or the others are no majority and have to suspend
        kept = {ends for ends in data.channels if gone.index not in ends}
        data.closed.clear()
        others = [(node, node.suspensions) for node in nodes if node is not gone]
        network.restart(gone)
        network.run(network.now + 8 * self.round_ms + 60_000, self._settled)
        if not self._settled():
            raise Violation("L2", "nobody takes the place of who was restarted")
        network.run(network.now + APPLY_MS)
        # Of those who have a place: who has none in a newer topology suspends meanwhile, as it has to.
        if kept & set(data.closed) or any(node.suspensions > before for node, before in others):
            raise Violation("L2", "a restart elsewhere has cut a channel")

    def _let_go(self) -> None:
        """L2: of a mesh of two at rest one is to end, and the other serves on, whoever comes then."""
        network = self.network
        network.run(network.now + 3_500)
        nodes = self._latest()
        if len(nodes) != 2 or len(self.roles) > 1 or not network.agree() or not self._settled():
            return
        leaver, stays = nodes[self.seed // PAIRS % 2], nodes[1 - self.seed // PAIRS % 2]
        lineage, suspensions = self.invariants.mesh_of[stays.member.own.iid], stays.suspensions
        network.inject(leaver, Leave())
        network.run(network.now + 4 * self.round_ms + 60_000, lambda: not leaver.alive)
        network.run(network.now + 8 * self.round_ms + 60_000, self._settled)
        if leaver.alive or not self._settled():
            raise Violation("L2", "who is to end is not let go")
        if stays.suspensions > suspensions or stays.fenced or self._lineage_of(stays) != lineage:
            raise Violation("L2", "who stays does not serve on")

    def _lineage_of(self, node: Node) -> bytes:
        return self.invariants.mesh_of[node.member.own.iid] if node.active else b""

    def _quiet(self) -> None:
        """L4: while no round is due, who serves says nothing but heartbeats, whatever others say to it; and
        to who waits outside what it needs to come in.
        """
        heartbeat_ms = self.topology.topology.timers.heartbeat_ms
        # The slowest message of the troubled time has come, and who has died outside is forgotten.
        self.network.run(self.network.now + 3_500 + 18 * heartbeat_ms)
        if self._sealed_within(2 * heartbeat_ms):  # others hear of it, and may ask for it
            self.network.run(self.network.now + 2 * heartbeat_ms)
        self.network.delivered.clear()
        epochs = dict(self.invariants.highest)
        there = {n.index for n in (*self._latest(), *self.network.live())}
        self.network.run(self.network.now + 12 * heartbeat_ms)
        if self.invariants.highest != epochs:
            return
        serving = {n.index for n in self._latest() if n.active is not None and not n.suspended}
        outside = there - serving  # also who has fenced meanwhile, or whose role is no more
        allowed = {"heartbeat", "introduction", "certificate"} if outside else {"heartbeat"}
        said = {sent_kind(data) for source, _, data in self.network.delivered if source in serving}
        if not said <= allowed:
            raise Violation("L4", f"members at rest say {said}")

    def _sealed_within(self, ms: int) -> bool:
        clock = self.network.clock
        return any(node.active and clock(node) - node.member.sealed_at < ms for node in self._latest())
