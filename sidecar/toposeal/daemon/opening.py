"""What opens the gate, the seal, and what may change afterwards: members, leaves, addresses of hosts outside,
and whether the pod may serve at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from toposeal.daemon.leaves import new_leaves
from toposeal.dataplane.discovery import Update
from toposeal.dataplane.from_sealed import mesh_member, pod_view
from toposeal.dataplane.view import PodView
from toposeal.dataplane.vips import Places
from toposeal.errors import PodError, ToposealError
from toposeal.gate.machine import State
from toposeal.host import journal
from toposeal.host.gate import Gate, Leaves
from toposeal.host.journal import clock_ms
from toposeal.membership.sealed import SealedManifest
from toposeal.membership.state import Own
from toposeal.pki.rotation import schedule
from toposeal.topology.model import Topology


class Opening:
    """Opens `gate` for the member `own`; `publish` is told what the pod goes by from then on, `entitle` what
    its application may be known by: from a suspension on, by nothing.

    Calls take effect in their order. While suspended, whatever changes is remembered for `resume`.
    """

    def __init__(
        self,
        gate: Gate,
        own: Own,
        publish: Callable[[PodView], None],
        entitle: Callable[[PodView | None], None],
    ) -> None:
        self._gate, self._own, self._publish, self._entitle = gate, own, publish, entitle
        self._opened = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()  # the gate carries one change
        self._suspended = False
        self._view: PodView | None = None
        self._generation = 0
        self._epoch = 0
        self._hosts: Mapping[str, tuple[str, ...]] = {}
        self._places = Places.of(own.topology.topology)

    async def open(self, sealed: SealedManifest) -> None:
        """At first leaves, configuration, acknowledgement, probe; then the application has its network. Later
        what another manifest and its topology say, without cutting what stays.

        Raises ToposealError; the gate is fenced then. A later manifest that takes no trust away and that
        Envoy does not take is an alarm, and the one before serves on.
        """
        async with self._one_at_a_time:
            made = replace(pod_view(sealed, self._own.iid, 1), kept=self._places)
            self._places = made.places  # also of a view that Envoy refuses: DNS has told nobody otherwise
            before, view = self._view, self._following(made)
            self._view = view  # also for an Envoy that has to be replaced before this one has it
            if self._suspended:
                self._epoch = sealed.manifest.epoch
            elif await self._take(view):
                self._epoch = sealed.manifest.epoch
                self._announce(view)
            else:
                self._view = before

    async def expect(self, topology: Topology) -> None:
        """Do now what opening with a manifest of `topology` waits for; nothing, without a place in it."""
        own = mesh_member(self._own.identity, self._own.addresses)
        if own.role in topology.roles:
            await self._gate.expect(PodView(topology, own, (own,), 1, kept=self._places))

    async def suspend(self) -> None:
        """From then on the pod neither serves nor is served, as before the seal, until `resume`. Raises
        ToposealError; the gate is fenced then.
        """
        self._suspended = True  # before its turn: an Envoy that is replaced meanwhile stays closed
        self._entitle(None)
        async with self._one_at_a_time:
            self._suspended = True
            if self._opened.is_set():
                try:
                    await self._gate.suspend()
                except ToposealError as error:
                    self._tell(error)
            journal.event("gate", state=self._gate.state.value, epoch=self._epoch)

    async def resume(self) -> None:
        """Open again, with what holds now and fresh leaves. Raises ToposealError; the gate is fenced then."""
        async with self._one_at_a_time:
            view, was_suspended = self._view, self._suspended
            self._suspended = False
            if view is None or not was_suspended:
                return
            if self._opened.is_set():
                await self._gate.resume()
            else:
                await self._gate.open(self._contents)
            self._announce(view)

    async def resolved(self, hosts: Mapping[str, tuple[str, ...]]) -> bool:
        """`hosts` are the addresses of the hosts outside from now on, or from the opening on. False after an
        alarm: the update failed, the old ones serve on, and the caller gives these again.
        """
        async with self._one_at_a_time:
            self._hosts = dict(hosts)
            if self._view is None:
                return True
            self._view = self._following(self._view)
            if self._suspended:
                return True
            try:
                await self._gate.update(self._view)
            except ToposealError as error:
                journal.mismatch("alarm", error.mismatches[0])
                return False
            return True

    async def rotate(self) -> None:
        """New leaves at half life, for ever; a rotation that fails is tried again while the old serve. A
        suspended gate has none, and resumes with new ones.
        """
        await self._opened.wait()
        leaves = schedule(clock_ms(), self._leaf_ms)
        while True:
            await asyncio.sleep((leaves.due_at - clock_ms()) / 1000)
            try:
                async with self._one_at_a_time:
                    if not self._suspended:
                        await self._gate.rotate(self._leaves)
                leaves = schedule(clock_ms(), self._leaf_ms)
            except ToposealError as error:
                journal.mismatch("alarm", error.mismatches[0])
                leaves = leaves.retry(clock_ms())

    @property
    def _leaf_ms(self) -> int:
        topology = self._own.topology.topology if self._view is None else self._view.topology
        return topology.timers.leaf_lifetime_ms

    def _following(self, view: PodView) -> PodView:
        """`view` as the next update. No number is used twice: Envoy is not offered again what it refused."""
        self._generation += 1
        return replace(view, resolved=self._hosts, generation=self._generation)

    def _contents(self) -> tuple[PodView, Leaves] | None:
        """What the gate opens with now, if it may."""
        if self._suspended or self._view is None:
            return None
        return self._view, self._leaves

    def _leaves(self) -> Update:
        return new_leaves(self._own, self._leaf_ms)

    async def _take(self, view: PodView) -> bool:
        """Whether Envoy has it. Raises ToposealError when the gate is fenced."""
        if not self._opened.is_set():
            await self._gate.open(self._contents)
            return True
        try:
            await self._gate.change_members(view)
        except PodError as error:
            self._tell(error)
            return False
        return True

    def _announce(self, view: PodView) -> None:
        self._publish(view)
        if not self._suspended:  # meanwhile
            self._entitle(view)
        self._opened.set()
        journal.event("gate", state=self._gate.state.value, epoch=self._epoch)

    def _tell(self, error: ToposealError) -> None:
        """An alarm; raised again where it has fenced the gate."""
        if self._gate.state is State.FENCED:
            raise error
        journal.mismatch("alarm", error.mismatches[0])
