"""The Envoys of a simulated network: what the shipped plan lets through, and channels that stay open.

Applications dial whatever the topology allows and hold on to it. A new configuration takes a while, and then
cuts whoever it does not list; a gate that closes cuts everybody at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from toposeal.dataplane.envoy_plan import PodPlan, plan
from toposeal.dataplane.from_sealed import pod_view
from toposeal.membership.sealed import SealedManifest
from toposeal.membership.state import Member
from toposeal_lab.simulation.dice import draws

DRAIN_MS = 10_000  # a channel outlives its peer's listing by no more
APPLY_MS = 2_000  # a configuration takes at most so long

Ends = tuple[int, int]  # indices of client and server


class Pod(Protocol):
    """What the data plane knows of a member."""

    index: int
    address: str
    alive: bool
    member: Member


class World(Protocol):
    """What it needs of the network."""

    now: int
    seed: int

    def at(self, time: int, action: Callable[[], None]) -> None: ...

    def passable(self, client: int, server: int) -> bool: ...


@dataclass(frozen=True)
class Rules:
    """What one pod's Envoy lets through: its plan, as names."""

    clients: frozenset[str]
    servers: frozenset[tuple[str, str]]  # (role, domain)

    @classmethod
    def of(cls, planned: PodPlan) -> Rules:
        clients = frozenset(peer.domain for way in planned.inbound for peer in way.clients)
        servers = frozenset((call.role, peer.domain) for call in planned.outbound for peer in call.servers)
        return cls(clients, servers)


class DataPlane:
    """All channels of one network."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._pods: dict[int, Pod] = {}
        self._current: dict[str, Pod] = {}  # by address: whoever lives there now
        self._sealed: dict[int, SealedManifest] = {}  # of the last Activate
        self._rules: dict[int, Rules] = {}  # of open gates
        self.channels: set[Ends] = set()
        self.closed: list[Ends] = []

    def boot(self, pod: Pod) -> None:
        self._pods[pod.index] = self._current[pod.address] = pod

    def activate(self, pod: Pod, sealed: SealedManifest) -> None:
        """The gate opens on `sealed`, or goes on with it, as soon as Envoy has it."""
        self._sealed[pod.index] = sealed
        chance, *_ = draws("apply", self._world.seed, pod.index, sealed.manifest.epoch)
        self._world.at(self._world.now + 1 + int(chance * APPLY_MS), lambda: self._apply(pod, sealed))

    def suspend(self, pod: Pod) -> None:
        """The gate closes: every channel ends now."""
        self._rules.pop(pod.index, None)
        self._cut(pod, lambda _: True)

    def resume(self, pod: Pod) -> None:
        """It opens again, on what was activated last."""
        if pod.index in self._sealed:
            self._open(pod, self._sealed[pod.index])

    def end(self, pod: Pod) -> None:
        """The pod is fenced or dead."""
        self._sealed.pop(pod.index, None)
        self.suspend(pod)

    def dial(self) -> None:
        """Every application tries again what it may."""
        for index in list(self._rules):
            self._knock(self._pods[index])

    def _apply(self, pod: Pod, sealed: SealedManifest) -> None:
        """What is newer by now, or not to be served, is not applied."""
        if self._sealed.get(pod.index) is sealed and pod.member.suspended_at is None:
            self._open(pod, sealed)

    def _open(self, pod: Pod, sealed: SealedManifest) -> None:
        view = pod_view(sealed, pod.member.own.iid, 1)
        self._rules[pod.index] = Rules.of(plan(view))
        self._cut(pod, lambda ends: not self._allowed(pod, ends))
        self._knock(pod)

    def _cut(self, pod: Pod, gone: Callable[[Ends], bool]) -> None:
        for ends in [ends for ends in self.channels if pod.index in ends and gone(ends)]:
            self.channels.remove(ends)
            self.closed.append(ends)

    def _knock(self, pod: Pod) -> None:
        for other in [p for p in self._current.values() if p is not pod and p.alive]:
            for client, server in ((pod, other), (other, pod)):
                ends = (client.index, server.index)
                passable = self._world.passable(*ends) and self._world.passable(*ends[::-1])
                if passable and self._allowed(client, ends) and self._allowed(server, ends):
                    self.channels.add(ends)

    def _allowed(self, pod: Pod, ends: Ends) -> bool:
        """Whether this end, by its own configuration, has this channel."""
        rules = self._rules.get(pod.index)
        if rules is None:
            return False
        client, server = (self._pods[index].member.own.identity for index in ends)
        if pod.index == ends[0]:
            return (server.role, server.ca.domain) in rules.servers
        return client.ca.domain in rules.clients

    def of(self, index: int) -> Iterator[Ends]:
        """The channels of one pod."""
        return (ends for ends in self.channels if index in ends)
