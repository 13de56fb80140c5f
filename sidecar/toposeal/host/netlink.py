"""The pod's addresses, routes and kernel notifications, over netlink.

pyroute2 takes 0.1 s to import: this module is imported by what already needs the pod's network, never
by a verifier.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from pyroute2 import AsyncIPRoute
from pyroute2.netlink import nlmsg
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nlsocket import AsyncNetlinkSocket

from toposeal.errors import PodError, Reason
from toposeal.limits import MAX_ADDRESSES, VIP_NETWORK

_SCOPE_GLOBAL = 0
_TENTATIVE, _DAD_FAILED, _DEPRECATED = 0x40, 0x08, 0x20
_TEMPORARY = 0x01  # IPv6 only; the same bit says "secondary" of an IPv4 address, which is as good as any
_UNUSABLE = {
    socket.AF_INET: _DEPRECATED,
    socket.AF_INET6: _TENTATIVE | _DAD_FAILED | _DEPRECATED | _TEMPORARY,
}
_RTMGRP_LINK, _RTMGRP_IPV4_IFADDR, _RTMGRP_IPV6_IFADDR = 0x1, 0x10, 0x100
_NETLINK_ROUTE = 0
_TW_REUSE = Path("/proc/sys/net/ipv4/tcp_tw_reuse")


class Doorbell(AsyncNetlinkSocket):  # type: ignore[misc]
    """Says that something happened in the multicast groups, not what: nothing is parsed or queued.

    A full socket buffer rings too, so that a flood of events cannot hide one.
    """

    def __init__(self, family: int, ring: Callable[[], None]) -> None:
        super().__init__(family=family)
        self._ring = ring

    def enqueue(self, data: bytes, addr: object) -> None:
        self._ring()

    async def listen(self, groups: int) -> None:
        """`groups` is the bit mask of bind(2); raises PodError(FIREWALL) if the kernel refuses."""
        try:
            await self.bind(groups=groups)
        except (OSError, KeyError) as error:
            raise PodError.of(Reason.FIREWALL, "netlink notifications", error, "a bound socket") from error


async def own_addresses() -> tuple[str, ...]:
    """The pod's global addresses as literals, IPv4 first, in interface order, at most MAX_ADDRESSES.

    Loopback, link-local, tentative, deprecated and temporary ones are left out. Raises PodError(NETWORK).
    """
    found = []
    for message in await _dump_addresses():
        flags = message.get_attr("IFA_FLAGS") or message["flags"]
        if message["scope"] == _SCOPE_GLOBAL and not flags & _UNUSABLE[message["family"]]:
            found.append((message["family"] != socket.AF_INET, message["index"], _literal(message)))
    return tuple(literal for _, _, literal in sorted(found))[:MAX_ADDRESSES]


async def local_addresses() -> tuple[str, ...]:
    """Every address that the kernel delivers to the pod itself, as literals, ascending. Raises
    PodError(NETWORK).
    """
    return tuple(sorted({_literal(message) for message in await _dump_addresses()}))


def _literal(message: nlmsg) -> str:
    return str(message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"))


async def _dump_addresses() -> list[nlmsg]:
    try:
        async with AsyncIPRoute() as route:
            return [message async for message in await route.addr("dump")]
    except (NetlinkError, OSError) as error:
        raise PodError.of(Reason.NETWORK, "own addresses", error, "an answer") from error


async def watch_addresses(known: tuple[str, ...], on_change: Callable[[tuple[str, ...]], None]) -> None:
    """Call `on_change` whenever `own_addresses` gives others than last, at first than `known`; runs until
    cancelled.
    """
    await _watch(own_addresses, on_change, known)


async def watch_local_addresses(on_found: Callable[[tuple[str, ...]], None]) -> None:
    """Call `on_found` with `local_addresses`, now and whenever they have changed; runs until cancelled."""
    await _watch(local_addresses, on_found, ())


async def _watch(
    read: Callable[[], Awaitable[tuple[str, ...]]],
    on_change: Callable[[tuple[str, ...]], None],
    known: tuple[str, ...],
) -> None:
    """Tell what `read` gives whenever that is another than `known`, now and later."""
    rung = asyncio.Event()
    rung.set()
    bell = Doorbell(_NETLINK_ROUTE, rung.set)
    try:
        await bell.listen(_RTMGRP_LINK | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR)
        while await rung.wait():
            rung.clear()
            now = await read()
            if now != known:
                on_change(now)
            known = now
    finally:
        bell.close()


async def route_synthetic_addresses() -> None:
    """Route 240.10.0.0/16 to lo, whatever route there was: these addresses then work in a pod without
    IPv4 routes, and no route of the host's can ever lead them out. Raises PodError(FIREWALL, NETWORK).
    """
    # The kernel chooses no loopback address by itself, and in a pod without IPv4 it has no other.
    ipv4 = any(":" not in address for address in await own_addresses())
    source = {} if ipv4 else {"prefsrc": "127.0.0.1"}
    async with AsyncIPRoute() as route:
        try:
            index = (await route.link_lookup(ifname="lo"))[0]
            await route.route("replace", dst=VIP_NETWORK, oif=index, **source)
        except NetlinkError as error:
            raise PodError.of(Reason.FIREWALL, f"route {VIP_NETWORK}", error, "dev lo") from error


def reuse_time_wait() -> None:
    """Let Envoy reuse ports in TIME_WAIT: many short connections to one peer exhaust them otherwise.

    A matter of speed only; where /proc/sys is read-only, nothing changes.
    """
    with suppress(OSError):
        _TW_REUSE.write_text("1")
