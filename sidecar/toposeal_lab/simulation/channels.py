"""S1 and S4 of channels between pods, judged by what the pods were told, apart from what their Envoys did."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict

from toposeal.membership.events import Activate, Fence, Left, Resume, Suspend
from toposeal.membership.sealed import SealedManifest
from toposeal_lab.simulation.data_plane import DRAIN_MS, Ends
from toposeal_lab.simulation.network import Network, Node, Step
from toposeal_lab.simulation.violation import Violation


class Channels:
    """Every open channel, whenever something has changed; `note` after `check`, as effects follow a step."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._served: defaultdict[int, list[tuple[int, SealedManifest]]] = defaultdict(list)
        self._closed: set[int] = set()  # nodes that may not serve
        self._seen: frozenset[Ends] | None = None  # what was found in order
        self._until = 0  # ms: when the first of those has to have ended

    def check(self, now: int) -> None:
        """S1: who may not serve has no channel. S4: each end of a channel serves a manifest that lists the
        other's CA key for its role, or did no longer than the drain time ago.
        """
        channels = self._network.data_plane.channels
        if self._seen is not None and channels == self._seen and now <= self._until:
            return
        self._until = now + (1 << 40)
        for ends in channels:
            for own, other in (ends, ends[::-1]):
                self._end(self._network.nodes[own], self._network.nodes[other], now)
        self._seen = frozenset(channels)

    def note(self, step: Step) -> None:
        """What the member was told to do."""
        index = step.node.index
        for effect in step.effects:
            match effect:
                case Activate(sealed):
                    self._served[index].append((step.now, sealed))
                case Suspend() | Fence() | Left():
                    self._closed.add(index)
                case Resume():
                    self._closed.discard(index)
                case _:
                    continue
            self._seen = None

    def _end(self, node: Node, other: Node, now: int) -> None:
        served = self._served[node.index]
        if not served or node.index in self._closed or not node.alive:
            raise Violation("S1", f"{node.index} has a channel and may not serve")
        times = [since for since, _ in served]
        for number in range(max(0, bisect_right(times, now - DRAIN_MS) - 1), len(served))[::-1]:
            if _lists(served[number][1], other):
                if number + 1 < len(served):
                    self._until = min(self._until, times[number + 1] + DRAIN_MS)
                return
        raise Violation("S4", f"{node.index} has a channel with {other.index}, which it does not list")


def _lists(sealed: SealedManifest, node: Node) -> bool:
    identity = node.member.own.identity
    return any(
        entry.ca_digest == identity.ca.ca_digest and entry.role == identity.role
        for entry in sealed.manifest.members
    )
