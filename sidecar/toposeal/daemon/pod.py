"""The pod's parts joined around one node: peer link, gate, names, answers, watches.

The order of `run` is the argument: the peer port first, Envoy with the closed files, then keys and
evidence; the configuration that opens is written only by `_open`, which the seal alone calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

from toposeal._wire import evidence_pb2 as wire_evidence
from toposeal.daemon.answers import Answers
from toposeal.daemon.config import RunConfig
from toposeal.daemon.identity import new_boot
from toposeal.daemon.leaves import new_leaves
from toposeal.daemon.node import Node, Ports, Quotes, not_active
from toposeal.dataplane.dns import names
from toposeal.dataplane.firewall import Backend
from toposeal.dataplane.from_sealed import pod_view
from toposeal.dataplane.layout import layout_under
from toposeal.errors import Mismatch, PodError, Reason, ToposealError
from toposeal.evidence.binding import Binding
from toposeal.host import journal, netlink
from toposeal.host.attestation_server import AttestationServer
from toposeal.host.dns_server import DnsServer
from toposeal.host.entropy import random_bytes
from toposeal.host.envoy import Envoy, find_envoy
from toposeal.host.firewall_monitor import Monitor
from toposeal.host.gate import Gate, GateParts
from toposeal.host.journal import clock_ms
from toposeal.host.peer_client import PeerClient
from toposeal.host.peer_server import PeerServer
from toposeal.host.probe import Probe
from toposeal.host.renderer import Child, Renderer
from toposeal.host.throwaway import make_throwaway
from toposeal.host.xds_files import XdsDirectory
from toposeal.limits import ENVOY_UID, PEER_PORT
from toposeal.membership.sealed import SealedManifest
from toposeal.membership.state import Own
from toposeal.pki.rotation import schedule
from toposeal.verification.model import VerifiedEvidence

Appraiser = Callable[[wire_evidence.Evidence, Binding], VerifiedEvidence]
_ADDRESS_POLL_S = 0.2


class Pod:
    """Everything that runs in one pod besides the application. `run` once."""

    def __init__(
        self, config: RunConfig, backend: Backend, quotes: Quotes, appraiser: Appraiser, child: Child | None
    ) -> None:
        """`child` is a renderer that was started before everything else was imported."""
        self._config, self._backend, self._child = config, backend, child
        self._quotes, self._appraiser = quotes, appraiser
        self._layout = layout_under(config.state_dir)
        self._node: Node | None = None
        self._early_fault: Mismatch | None = None
        self._client: PeerClient | None = None

    async def run(self) -> Mismatch:
        """Until fenced; returns why. Whatever ends it, Envoy is gone and the closed files are back."""
        async with AsyncExitStack() as stack:
            server = PeerServer(self._receive, make_throwaway(), self._heard)
            await server.start(f"[::]:{PEER_PORT}")
            stack.push_async_callback(server.stop)
            gate = await self._closed_gate(stack)
            await self._name_service(stack)
            own = new_boot(self._config, await self._addresses())
            client = self._client = PeerClient(own.addresses, PEER_PORT)
            stack.push_async_callback(client.close)
            opening = Opening(gate, own)
            link = _Link(client, self._config.peers)
            ports = Ports(self._quotes, link, self._appraiser, random_bytes, clock_ms, opening.open)
            node = self._node = Node(own, ports)
            await self._attestation(stack, Answers(node, own, self._config.collateral))
            if self._early_fault is not None:
                raise PodError(self._early_fault)
            return await self._watched(node, link, opening)

    async def _closed_gate(self, stack: AsyncExitStack) -> Gate:
        directory = XdsDirectory(self._layout.xds, group=ENVOY_UID)
        stack.callback(directory.close)
        renderer = Renderer(self._child)
        stack.push_async_callback(renderer.close)
        probe = await Probe.start(self._layout.probe)
        stack.push_async_callback(probe.close)
        await renderer.prepare()
        gate = Gate(GateParts(directory, self._start_envoy, renderer, probe), self._fault)
        stack.push_async_callback(gate.fence)
        await gate.start()
        journal.event("gate", state="closed")
        return gate

    async def _start_envoy(self) -> Envoy:
        return await Envoy.start(find_envoy(None), self._layout)

    async def _name_service(self, stack: AsyncExitStack) -> None:
        await netlink.route_synthetic_addresses()
        netlink.reuse_time_wait()
        server = DnsServer()
        await server.start()
        stack.callback(server.close)
        topology = self._config.topology.topology
        server.names = names(topology, topology.roles)

    async def _addresses(self) -> tuple[str, ...]:
        """The pod's own addresses; the network may still be on its way."""
        while not (found := await netlink.own_addresses()):
            await asyncio.sleep(_ADDRESS_POLL_S)
        return found

    async def _attestation(self, stack: AsyncExitStack, answers: Answers) -> None:
        server = AttestationServer(answers.answer)
        await server.start(self._layout.attestation, ENVOY_UID)
        stack.callback(server.close)

    async def _watched(self, node: Node, link: _Link, opening: Opening) -> Mismatch:
        """Run the node with its watches; the first to end ends all."""
        monitor = Monitor(self._backend, lambda error: self._fault(error.mismatches[0]))
        async with asyncio.TaskGroup() as tasks:
            watches = [
                tasks.create_task(monitor.run()),
                tasks.create_task(netlink.watch_addresses(_tell_addresses)),
                tasks.create_task(link.run()),
                tasks.create_task(opening.rotate()),
            ]
            mismatch = await node.run()
            for watch in watches:
                watch.cancel()
        return mismatch

    def _receive(self, data: bytes) -> None:
        if self._node is None:
            raise not_active(None)
        self._node.receive(data)

    def _heard(self, address: str) -> None:
        if self._client is not None:
            self._client.heard(address)

    def _fault(self, mismatch: Mismatch) -> None:
        """Whatever fails before the node runs ends the pod when it would begin to."""
        if self._node is None or self._node.member is None:
            self._early_fault = mismatch
        else:
            self._node.fault(mismatch)


class Opening:
    """The gate's two occasions: the seal, and half of a leaf's life."""

    def __init__(self, gate: Gate, own: Own) -> None:
        self._gate, self._own = gate, own
        self._opened = asyncio.Event()

    async def open(self, sealed: SealedManifest) -> None:
        """Leaves, configuration, acknowledgement, probe; then the application has its network."""
        await self._gate.open(pod_view(sealed, self._own.iid, 1), new_leaves(self._own))
        self._opened.set()
        journal.event("gate", state=self._gate.state.value, epoch=sealed.manifest.epoch)

    async def rotate(self) -> None:
        """New leaves at half life, for ever; a rotation that fails is tried again while the old serve."""
        await self._opened.wait()
        lifetime_ms = self._own.topology.topology.timers.leaf_lifetime_ms
        leaves = schedule(clock_ms(), lifetime_ms)
        while True:
            await asyncio.sleep((leaves.due_at - clock_ms()) / 1000)
            try:
                await self._gate.rotate(new_leaves(self._own))
                leaves = schedule(clock_ms(), lifetime_ms)
            except ToposealError as error:
                journal.mismatch("alarm", error.mismatches[0])
                leaves = leaves.retry(clock_ms())


class _Link:
    """The node's link: sends at once, resolves the configured names in its own task."""

    def __init__(self, client: PeerClient, seeds: tuple[tuple[str, int], ...]) -> None:
        self._client, self._seeds = client, seeds
        self._announcements: asyncio.Queue[bytes] = asyncio.Queue()

    def send(self, addresses: tuple[str, ...], data: bytes) -> None:
        self._client.send(addresses, data)

    def announce(self, data: bytes) -> None:
        self._announcements.put_nowait(data)

    async def run(self) -> None:
        while True:
            data = await self._announcements.get()
            while not self._announcements.empty():
                data = self._announcements.get_nowait()
            await self._client.announce(self._seeds, data)


def _tell_addresses(addresses: tuple[str, ...]) -> None:
    """The sealed HELLO names the old ones; peers keep using them until the next round."""
    change = Mismatch(Reason.ADDRESS_REFUSED, "addresses", ", ".join(addresses), "those of the sealed HELLO")
    journal.mismatch("alarm", change)
