"""Which addresses the role's egress hosts stand for now; asked for again for as long as the pod lives."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from toposeal.dataplane.dns_client import Answer
from toposeal.host import journal
from toposeal.host.journal import clock_ms
from toposeal.limits import EGRESS_RETRY, EGRESS_TTL, MAX_EGRESS_ADDRESSES
from toposeal.topology.egress import Egress, is_destination

Changed = Callable[[Mapping[str, tuple[str, ...]]], Awaitable[bool]]


class Resolves(Protocol):
    async def resolve(self, host: str) -> Answer | None: ...


class OutsideHosts:
    """`resolved` holds what was answered last; `changed` is told after each change of it, and says whether it
    took: if not it is told again, later and later.
    """

    def __init__(self, egress: Sequence[Egress], resolver: Resolves, changed: Changed) -> None:
        self.resolved: dict[str, tuple[str, ...]] = {}
        self._resolver, self._changed = resolver, changed
        self._within = _within(egress)
        self._due = dict.fromkeys(self._within, clock_ms())
        self._owed_at: int | None = None  # when `changed` is told again of what did not take
        self._pause = EGRESS_RETRY
        self._asking: asyncio.Task[None] | None = None
        self._moved = False

    def follow(self, egress: Sequence[Egress], resolver: Resolves) -> None:
        """From now on these, asked of `resolver`. What is known of those that stay is kept."""
        self._resolver, self._within = resolver, _within(egress)
        self._due = {host: self._due.get(host, clock_ms()) for host in self._within}
        self.resolved = {host: found for host, found in self.resolved.items() if host in self._within}
        self._owed_at = clock_ms()  # what was under way is said again
        if self._asking is not None:
            self._moved = True
            self._asking.cancel()

    async def run(self) -> None:
        """For ever, also without any host."""
        while True:
            self._asking = asyncio.create_task(self._ask_for_ever())
            try:
                await self._asking
            except asyncio.CancelledError:
                ours = asyncio.current_task()
                if not self._moved or (ours is not None and ours.cancelling()):
                    raise
            self._moved = False

    async def _ask_for_ever(self) -> None:
        while True:
            due = [host for host, at in self._due.items() if at <= clock_ms()]
            changed = any(await asyncio.gather(*(self._ask(host) for host in due)))
            if changed or (self._owed_at is not None and self._owed_at <= clock_ms()):
                await self._tell()
            if not self._due and self._owed_at is None:
                await asyncio.Event().wait()
            owed = () if self._owed_at is None else (self._owed_at,)
            await asyncio.sleep(max(0, min((*self._due.values(), *owed)) - clock_ms()) / 1000)

    async def _tell(self) -> None:
        if await self._changed(self.resolved):
            self._owed_at, self._pause = None, EGRESS_RETRY
        else:
            self._owed_at = clock_ms() + self._pause
            self._pause = min(2 * self._pause, EGRESS_TTL[1])

    async def _ask(self, host: str) -> bool:
        """Whether the answer is another one than before. Without an answer the last one stays in force."""
        answer = await self._resolver.resolve(host)
        if answer is None:
            self._due[host] = clock_ms() + EGRESS_RETRY
            return False
        low, high = EGRESS_TTL
        self._due[host] = clock_ms() + max(low, min(high, answer.ttl * 1000))
        admitted = tuple(sorted(filter(lambda a: self._is_admitted(host, a), answer.addresses)))
        admitted = admitted[:MAX_EGRESS_ADDRESSES]
        if self.resolved.get(host) == admitted:
            return False
        self.resolved[host] = admitted
        refused = len(answer.addresses) - len(admitted)
        journal.event("egress", host=host, addresses=", ".join(admitted), refused=refused)
        return True

    def _is_admitted(self, host: str, address: str) -> bool:
        """For one of the host's entries at least; the plan asks again for each."""
        return any(is_destination(ipaddress.ip_address(address), within) for within in self._within[host])


def _within(egress: Sequence[Egress]) -> dict[str, tuple[tuple[str, ...], ...]]:
    """By host, where its addresses have to be: of each of its entries."""
    found: dict[str, tuple[tuple[str, ...], ...]] = {}
    for entry in egress:
        if entry.host is not None:
            found[entry.host] = (*found.get(entry.host, ()), entry.within)
    return found
