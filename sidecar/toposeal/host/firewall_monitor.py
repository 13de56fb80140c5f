"""Watches the applied lockdown and applies it again at once when somebody changed it.

nf_tables notifies; legacy iptables is polled. Reading all rules is needed only when the kernel's
generation number has moved, and every _FULL_CHECK seconds whatever it says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress

from toposeal.dataplane.firewall import Backend
from toposeal.errors import Mismatch, PodError, Reason
from toposeal.host import firewall, xtables
from toposeal.host.netlink import Doorbell
from toposeal.host.ruleset import NETLINK_NETFILTER, NFTABLES_EVENTS, Ruleset, Snapshot

# Seconds between looks that no notification asked for. Legacy iptables has only these.
_TICK = {Backend.NFT: 1.0, Backend.IPTABLES_NFT: 1.0, Backend.LEGACY: 0.4}
_FULL_CHECK = 30  # seconds
_RETRY = 0.2  # seconds
_COMPLAIN_AFTER = 0.5  # seconds: a repair takes 0.05; the member fences in time even if it hangs
_PIN_ATTEMPTS = 5  # another one's change may fall between two reads


class Monitor:
    """Keeps the lockdown of this network namespace standing until `run` is cancelled.

    `on_change` gets a PodError(FIREWALL_CHANGED) for each change, repaired or not; the member must fence.
    Foreign tables and chains may change as they like.
    """

    def __init__(self, backend: Backend, on_change: Callable[[PodError], None]) -> None:
        self._backend = backend
        self._on_change = on_change
        self._rung = asyncio.Event()
        self._ruleset: Ruleset | None = None
        self._mark: int | bytes = b""
        self._snapshot: Snapshot = ()

    async def run(self) -> None:
        """Watch until cancelled. Raises PodError(FIREWALL) only if watching itself is impossible."""
        async with AsyncExitStack() as stack:
            if self._backend is not Backend.LEGACY:
                self._ruleset = await stack.enter_async_context(Ruleset())
                bell = Doorbell(NETLINK_NETFILTER, self._rung.set)
                stack.callback(bell.close)
                await bell.listen(NFTABLES_EVENTS)
            await self._pin_or_repair()
            await self._watch()

    async def _watch(self) -> None:
        tick, quiet = _TICK[self._backend], 0.0
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._rung.wait(), tick)
            self._rung.clear()
            quiet += tick
            if await self._read_mark() != self._mark or quiet >= _FULL_CHECK:
                quiet = 0.0
                await self._inspect()

    async def _inspect(self) -> None:
        """Something moved: was it ours?"""
        if self._ruleset is None or self._backend is not Backend.NFT:
            await self._pin_or_repair()
            return
        for _ in range(_PIN_ATTEMPTS):
            mark = await self._ruleset.generation()
            if await self._ruleset.snapshot() == self._snapshot:
                self._mark = mark  # if it moved meanwhile, the next tick looks again
                return
            if await self._ruleset.generation() == mark:
                break  # else the dump may be torn, and proves nothing yet
        await self._repair(PodError.of(Reason.FIREWALL_CHANGED, "rules", "changed", "as applied"))

    async def _pin_or_repair(self) -> None:
        try:
            await self._pin()
        except PodError as error:
            await self._repair(error)

    async def _pin(self) -> None:
        """Remember a state that was compared with the rule files while nothing moved."""
        for _ in range(_PIN_ATTEMPTS):
            mark = await self._read_mark()
            await asyncio.to_thread(firewall.check, self._backend)
            snapshot = await self._ruleset.snapshot() if self._ruleset is not None else ()
            if await self._read_mark() == mark:
                self._mark, self._snapshot = mark, snapshot
                return
        raise PodError.of(Reason.FIREWALL, "rules", "moving all the time", "a moment of rest")

    async def _repair(self, cause: PodError) -> None:
        """Close first, then complain; what cannot be repaired is tried again soon."""
        self._mark = b""
        repair = asyncio.create_task(asyncio.to_thread(firewall.reapply, self._backend))
        await asyncio.wait({repair}, timeout=_COMPLAIN_AFTER)
        self._on_change(
            PodError(
                *(Mismatch(Reason.FIREWALL_CHANGED, m.field, m.found, m.expected) for m in cause.mismatches)
            )
        )
        try:
            await repair
            await self._pin()
        except PodError:
            await asyncio.sleep(_RETRY)  # not at once: our own attempts ring the bell too

    async def _read_mark(self) -> int | bytes:
        """Cheap, and different after every change."""
        if self._ruleset is not None:
            return await self._ruleset.generation()
        return xtables.snapshot()
