"""The pod's parts joined around one node: peer link, gate, names, answers, watches.

The order of `_live` is the argument: the peer port first, the watch of the rules, Envoy with the closed
configuration, then keys and evidence; what opens is offered only by `Opening`, and only after the seal.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any

from toposeal._wire import evidence_pb2 as wire_evidence
from toposeal.daemon.answers import Answers
from toposeal.daemon.app_identity import AppIdentity
from toposeal.daemon.config import RunConfig
from toposeal.daemon.failure import cause
from toposeal.daemon.identity import new_boot
from toposeal.daemon.metrics import Metrics
from toposeal.daemon.node import Node, Ports, not_active
from toposeal.daemon.opening import Opening
from toposeal.daemon.outside_hosts import OutsideHosts
from toposeal.daemon.pod_evidence import PodEvidence
from toposeal.dataplane.dns import host_names, names
from toposeal.dataplane.dns_client import Kind
from toposeal.dataplane.firewall import Backend
from toposeal.dataplane.layout import layout_under, workload_socket
from toposeal.dataplane.view import PodView
from toposeal.dataplane.vips import Places, is_taken
from toposeal.errors import Mismatch, PodError, Reason
from toposeal.evidence.binding import Binding
from toposeal.host import journal, netlink
from toposeal.host.attestation_server import AttestationServer
from toposeal.host.collateral_source import CollateralSource
from toposeal.host.connections import destroy_sockets
from toposeal.host.discovery_server import DiscoveryServer
from toposeal.host.dns_server import DnsServer
from toposeal.host.entropy import random_bytes
from toposeal.host.envoy import Envoy, find_envoy
from toposeal.host.firewall_monitor import Monitor
from toposeal.host.gate import Gate, GateParts
from toposeal.host.host_resolver import HostResolver, nameservers
from toposeal.host.journal import clock_ms
from toposeal.host.metrics_server import MetricsServer
from toposeal.host.operator_calls import operator_calls
from toposeal.host.pace import Pace
from toposeal.host.peer_client import PeerClient
from toposeal.host.peer_server import PeerServer
from toposeal.host.probe import Probe
from toposeal.host.renderer import Child, Renderer
from toposeal.host.tasks import watched
from toposeal.host.throwaway import make_throwaway
from toposeal.host.xds_files import XdsDirectory
from toposeal.limits import ENVOY_UID, LEAVE_LINGER, LEAVE_TIMEOUT, PEER_PORT
from toposeal.membership.events import Send
from toposeal.outside.pushed import Pushed
from toposeal.outside.status import Status
from toposeal.topology.model import Topology
from toposeal.verification.model import VerifiedEvidence

Appraiser = Callable[[wire_evidence.Evidence, Binding, Topology], VerifiedEvidence]
_ADDRESS_POLL_S = 0.2
_FAREWELL_MS = 1_000


class Pod:
    """Everything that runs in one pod besides the application. `run` once."""

    def __init__(
        self,
        config: RunConfig,
        backend: Backend,
        quotes: PodEvidence,
        appraiser: Appraiser,
        child: Child | None,
        collateral: CollateralSource,
    ) -> None:
        """`child` is a renderer that was started before everything else was imported."""
        self._config, self._backend, self._child = config, backend, child
        self._quotes, self._appraiser, self._collateral = quotes, appraiser, collateral
        self._layout = layout_under(config.state_dir)
        self._node: Node | None = None
        self._names = DnsServer()
        self._answers: Answers | None = None
        self._client: PeerClient | None = None
        self._topology = config.topology.topology  # what the gate is, or will be, open under
        self._hosts: OutsideHosts | None = None
        self._kinds: list[Kind] = []
        self._local: Collection[str] = ()
        self._leaving: asyncio.Task[None] | None = None
        self._farewell: tuple[Send, ...] = ()
        self._ended: asyncio.Future[Mismatch | None] = asyncio.get_running_loop().create_future()

    async def run(self) -> Mismatch | None:
        """Until fenced (why) or stopped (None). Whatever ends it, Envoy is gone and nothing is left to serve
        another. An exception of any part ends all others and is raised here. Only then our LEAVE is said, if
        there is one: whoever hears it counts on us for nothing any more (PROTOCOL.md 4.10).
        """
        ended = await self._until_ended()
        self._node = self._answers = None
        await _say(self._farewell)
        return ended

    async def _until_ended(self) -> Mismatch | None:
        async with AsyncExitStack() as stack:
            life = asyncio.create_task(self._live(stack))
            either: set[asyncio.Future[Any]] = {life, self._ended}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            life.cancel()
            await asyncio.wait({life})
            # What has ended the pod may have failed its life too; that is no second reason.
            return self._ended.result() if self._ended.done() else life.result()

    def stop(self) -> None:
        """End without a reason, once the others can do without us or LEAVE_TIMEOUT has passed; at once when
        asked again.
        """
        if self._leaving is None and self._node is not None and self._node.member is not None:
            self._leaving = watched(self._leave(self._node))
        elif not self._ended.done():
            self._ended.set_result(None)

    async def _leave(self, node: Node) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_TIMEOUT / 1000):
                left = await node.leave()
                self._farewell = left.farewell
                if left.replaced and not left.farewell:
                    await asyncio.sleep(LEAVE_LINGER / 1000)
        if not self._ended.done():
            self._ended.set_result(None)

    def unhandled(self, context: Mapping[str, Any]) -> None:
        """asyncio's exception handler. What no task of ours has taken ends the pod (S9); what the kernel
        says of one connection does not: a stranger can have it said.
        """
        error = context.get("exception")
        if isinstance(error, BaseException) and not isinstance(error, OSError):
            self._fault(cause(error))
        else:
            found = type(error).__name__ if error else str(context.get("message"))
            journal.mismatch("alarm", Mismatch(Reason.INTERNAL, "event loop", found, "nothing unhandled"))

    async def _live(self, stack: AsyncExitStack) -> Mismatch:
        """Start everything, then run the node with its watches; the first to end ends all."""
        calls = operator_calls(self._status, self._push)
        server = PeerServer(self._receive, make_throwaway(), self._heard, calls)
        await server.start(f"[::]:{PEER_PORT}")
        stack.push_async_callback(server.stop)
        async with asyncio.TaskGroup() as tasks:
            alone = tasks.create_task(asyncio.to_thread(self._quotes.check_access))
            monitor = Monitor(self._backend, lambda error: self._fault(error.mismatches[0]))
            watches = [tasks.create_task(_for_ever("firewall", monitor.run()))]
            gate = await self._closed_gate(stack)
            await self._name_service(stack)
            own = new_boot(self._config, await self._addresses())
            role = self._config.topology.topology.roles[self._config.role]
            journal.event("member", member=own.identity.ca.domain)
            await alone
            await asyncio.to_thread(self._quotes.prepare, own.iid, role)
            pace = Pace(lambda: gate.state.serves, time.monotonic)
            client = self._client = PeerClient(own.addresses, PEER_PORT, pace)
            stack.push_async_callback(client.close)
            identity = AppIdentity(own, workload_socket(self._config.state_dir))
            stack.push_async_callback(identity.close)
            opening = Opening(gate, own, self._publish, identity.entitle)
            link = _Link(client, self._config.peers)
            ports = Ports(
                self._quotes,
                link,
                self._appraiser,
                random_bytes,
                clock_ms,
                opening.open,
                opening.expect,
                opening.suspend,
                opening.resume,
            )
            node = self._node = Node(own, ports)
            self._answers = Answers(node, own, self._collateral)
            await self._attestation(stack, self._answers)
            await self._metrics(stack, Metrics(gate, node))  # a later topology may ask for a port of them
            stack.push_async_callback(gate.fence)  # once more, so that at the end it comes first,
            stack.callback(identity.entitle, None)  # but for this, which waits for nothing
            watches += [
                tasks.create_task(opening.expect(self._config.topology.topology)),
                tasks.create_task(
                    _for_ever("addresses", netlink.watch_addresses(own.addresses, _tell_addresses))
                ),
                tasks.create_task(
                    _for_ever("local addresses", netlink.watch_local_addresses(self._check_local))
                ),
                tasks.create_task(_for_ever("names", link.run())),
                tasks.create_task(_for_ever("leaves", opening.rotate())),
                tasks.create_task(_for_ever("application's identity", identity.run())),
                tasks.create_task(_for_ever("egress", self._outside_hosts(own.addresses, opening).run())),
            ]
            mismatch = await node.run()
            for watch in watches:
                watch.cancel()
        return mismatch

    async def _closed_gate(self, stack: AsyncExitStack) -> Gate:
        directory = XdsDirectory(self._layout.xds, group=ENVOY_UID)
        stack.callback(directory.close)
        discovery = DiscoveryServer()
        await discovery.start(self._layout.discovery, ENVOY_UID)
        stack.push_async_callback(discovery.stop)
        renderer = Renderer(self._child)
        stack.push_async_callback(renderer.close)
        probe = await Probe.start(self._layout.probe)
        stack.push_async_callback(probe.close)
        await renderer.prepare()
        parts = GateParts(directory, discovery, self._start_envoy, renderer, probe, _cut)
        gate = Gate(parts, self._fault)
        stack.push_async_callback(gate.fence)
        await gate.start()
        journal.event("gate", state="closed")
        return gate

    async def _start_envoy(self) -> Envoy:
        return await Envoy.start(find_envoy(None), self._layout)

    async def _name_service(self, stack: AsyncExitStack) -> None:
        await netlink.route_synthetic_addresses()
        netlink.reuse_time_wait()
        await self._names.start()
        stack.callback(self._names.close)
        topology = self._config.topology.topology
        self._name(topology, topology.roles, Places.of(topology))

    def _name(self, topology: Topology, roles: Collection[str], places: Places) -> None:
        """What the pod's DNS knows: every role before the seal, then those with members (N4)."""
        own = self._config.role
        self._names.names = {**names(topology, roles, places), **host_names(topology, own, places)}

    def _publish(self, view: PodView) -> None:
        """What the gate is open for; a newer topology comes with another view."""
        self._name(view.topology, {member.role for member in view.members}, view.places)
        if view.topology.digest != self._topology.digest:
            self._topology = view.topology
            self._check_local(self._local)
            if self._hosts is not None:
                self._hosts.follow(view.topology.roles[self._config.role].egress, self._resolver())

    def _outside_hosts(self, addresses: Collection[str], opening: Opening) -> OutsideHosts:
        """Asked for from the start, so that they are known when the gate opens."""
        versions = {ipaddress.ip_address(address).version for address in addresses}
        self._kinds = [kind for version, kind in ((4, Kind.A), (6, Kind.AAAA)) if version in versions]
        egress = self._topology.roles[self._config.role].egress
        self._hosts = OutsideHosts(egress, self._resolver(), opening.resolved)
        return self._hosts

    def _resolver(self) -> HostResolver:
        resolver = self._topology.resolver
        return HostResolver(nameservers() if resolver is None else (resolver,), self._kinds)

    async def _addresses(self) -> tuple[str, ...]:
        """The pod's own addresses; the network may still be on its way."""
        while not (found := await netlink.own_addresses()):
            await asyncio.sleep(_ADDRESS_POLL_S)
        return found

    async def _attestation(self, stack: AsyncExitStack, answers: Answers) -> None:
        server = AttestationServer(answers.answer, answers.push, answers.status, answers.history)
        await server.start(self._layout.attestation, ENVOY_UID)
        stack.callback(server.close)

    async def _metrics(self, stack: AsyncExitStack, metrics: Metrics) -> None:
        server = MetricsServer(metrics.text, metrics.healthy)
        await server.start(self._layout.metrics, ENVOY_UID)
        stack.callback(server.close)

    def _receive(self, data: bytes) -> None:
        if self._node is None:
            raise not_active(None)
        self._node.receive(data)

    def _status(self) -> Status:
        if self._answers is None:
            raise not_active(None)
        return self._answers.status()

    def _push(self, envelope: bytes) -> Pushed:
        if self._answers is None:
            raise not_active(None)
        return self._answers.push(envelope)

    def _heard(self, address: str) -> None:
        if self._client is not None:
            self._client.heard(address)

    def _check_local(self, addresses: Collection[str]) -> None:
        """The host gives a pod its addresses: none may be one that the application calls somebody else by."""
        self._local = addresses
        taken = sorted(address for address in addresses if is_taken(self._topology, address))
        if taken:
            found, expected = ", ".join(taken), "no address that stands for a role or a host outside"
            self._fault(Mismatch(Reason.ADDRESS_REFUSED, "pod.addresses", found, expected))

    def _fault(self, mismatch: Mismatch) -> None:
        if self._node is not None and self._node.member is not None:
            self._node.fault(mismatch)
        elif not self._ended.done():
            journal.mismatch("fence", mismatch)
            self._ended.set_result(mismatch)


class _Link:
    """The node's link: sends at once, resolves the configured names in its own task."""

    def __init__(self, client: PeerClient, seeds: tuple[tuple[str, int], ...]) -> None:
        self._client, self._seeds = client, seeds
        self._announcements: asyncio.Queue[tuple[tuple[bytes, ...], Collection[str]]] = asyncio.Queue()

    def send(self, addresses: tuple[str, ...], data: bytes) -> None:
        self._client.send(addresses, data)

    def announce(self, messages: tuple[bytes, ...], known: Collection[str]) -> None:
        self._announcements.put_nowait((messages, known))

    async def run(self) -> None:
        while True:
            messages, known = await self._announcements.get()
            while not self._announcements.empty():
                messages, known = self._announcements.get_nowait()
            await self._client.announce(self._seeds, messages, known)


async def _say(farewell: Collection[Send]) -> None:
    """Again and again, since nobody answers, until the last second that there is."""
    if not farewell:
        return
    journal.event("leave", to=len(farewell))
    client = PeerClient((), PEER_PORT, Pace(lambda: False, time.monotonic))
    for _ in range(LEAVE_LINGER // _FAREWELL_MS):
        for each in farewell:
            client.send(each.addresses, each.data)
        await asyncio.sleep(_FAREWELL_MS / 1000)
    await client.close()


def _cut(addresses: Collection[str]) -> None:
    """What members have with Envoy. The daemons' link stays: who is at an address now may be a newcomer."""
    destroy_sockets(addresses, spared=os.geteuid())


async def _for_ever(name: str, work: Coroutine[Any, Any, None]) -> None:
    """A watch that ends by itself watches no more."""
    await work
    raise PodError.of(Reason.INTERNAL, f"watch of {name}", "ended", "as long as the daemon")


def _tell_addresses(addresses: tuple[str, ...]) -> None:
    """The sealed HELLO names the old ones; peers keep using them until the next round."""
    change = Mismatch(Reason.ADDRESS_REFUSED, "addresses", ", ".join(addresses), "those of the sealed HELLO")
    journal.mismatch("alarm", change)
