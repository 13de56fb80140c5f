"""What opens the gate, the seal, and what may change afterwards: leaves, and addresses of hosts outside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from toposeal.daemon.leaves import new_leaves
from toposeal.dataplane.from_sealed import pod_view
from toposeal.dataplane.view import PodView
from toposeal.errors import ToposealError
from toposeal.host import journal
from toposeal.host.gate import Gate
from toposeal.host.journal import clock_ms
from toposeal.membership.sealed import SealedManifest
from toposeal.membership.state import Own
from toposeal.pki.rotation import schedule


class Opening:
    """Opens `gate` for the member `own`; `publish` is told the roles that can be reached from then on."""

    def __init__(self, gate: Gate, own: Own, publish: Callable[[Collection[str]], None]) -> None:
        self._gate, self._own, self._publish = gate, own, publish
        self._opened = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()  # the gate carries one change
        self._view: PodView | None = None
        self._hosts: Mapping[str, tuple[str, ...]] = {}

    async def open(self, sealed: SealedManifest) -> None:
        """Leaves, configuration, acknowledgement, probe; then the application has its network."""
        async with self._one_at_a_time:
            view = replace(pod_view(sealed, self._own.iid, 1), resolved=self._hosts)
            await self._gate.open(lambda: (self._view or view, new_leaves(self._own)))
            self._view = view
        self._publish({member.identity.role for member in sealed.members})
        self._opened.set()
        journal.event("gate", state=self._gate.state.value, epoch=sealed.manifest.epoch)

    async def resolved(self, hosts: Mapping[str, tuple[str, ...]]) -> bool:
        """`hosts` are the addresses of the hosts outside from now on, or from the opening on. False after an
        alarm: the update failed, the old ones serve on, and the caller gives these again.
        """
        async with self._one_at_a_time:
            self._hosts = dict(hosts)
            if self._view is None:
                return True
            self._view = replace(self._view, resolved=self._hosts, generation=self._view.generation + 1)
            try:
                await self._gate.update(self._view)
            except ToposealError as error:
                journal.mismatch("alarm", error.mismatches[0])
                return False
            return True

    async def rotate(self) -> None:
        """New leaves at half life, for ever; a rotation that fails is tried again while the old serve."""
        await self._opened.wait()
        lifetime_ms = self._own.topology.topology.timers.leaf_lifetime_ms
        leaves = schedule(clock_ms(), lifetime_ms)
        while True:
            await asyncio.sleep((leaves.due_at - clock_ms()) / 1000)
            try:
                async with self._one_at_a_time:
                    await self._gate.rotate(new_leaves(self._own))
                leaves = schedule(clock_ms(), lifetime_ms)
            except ToposealError as error:
                journal.mismatch("alarm", error.mismatches[0])
                leaves = leaves.retry(clock_ms())
