"""Cutting connections: conntrack entries older than the rules, sockets of peers that are out. Netlink."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Collection

from pyroute2.netlink import NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST
from pyroute2.netlink.diag import SOCK_DIAG_BY_FAMILY, MarshalDiag, inet_diag_msg, inet_diag_req
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink.nfctsocket import AsyncNFCTSocket
from pyroute2.netlink.nlsocket import AsyncNetlinkSocket

from toposeal.errors import PodError, Reason

_NETLINK_SOCK_DIAG = 4
_SOCK_DESTROY = 21
_ALL_BUT_LISTEN = 0xFFF & ~(1 << 10)


async def forget_unmarked() -> None:
    """Delete every conntrack entry without our mark: what is older than the rules starts anew under them.

    Entries of Envoy's and the daemon's connections stay. Raises PodError(FIREWALL).
    """
    for family in (socket.AF_INET, socket.AF_INET6):
        async with AsyncNFCTSocket(nfgen_family=family) as conntrack:
            try:
                await conntrack.flush(mark=0, mark_mask=0xFFFFFFFF)
            except NetlinkError as error:
                raise PodError.of(Reason.FIREWALL, "conntrack", error, "no entry without mark") from error


async def destroy_sockets(addresses: Collection[str]) -> int:
    """Reset every TCP connection whose remote address is one of these literals; returns how many.

    Needs CAP_NET_ADMIN and CONFIG_INET_DIAG_DESTROY; raises PodError(FIREWALL) where they are missing.
    """
    wanted = {ipaddress.ip_address(address) for address in addresses}
    destroyed = 0
    async with AsyncNetlinkSocket(family=_NETLINK_SOCK_DIAG) as diag:
        for family in (socket.AF_INET, socket.AF_INET6):
            for message in await _sockets(family):
                if _plain(message["idiag_dst"]) in wanted:
                    destroyed += await _destroy(diag, message)
    return destroyed


async def _sockets(family: int) -> list[inet_diag_msg]:
    """pyroute2's parser of these dumps does not see errors: a socket of its own, which asks nothing else."""
    request = _request(family)
    request["idiag_states"] = _ALL_BUT_LISTEN
    async with AsyncNetlinkSocket(family=_NETLINK_SOCK_DIAG) as diag:
        diag.set_marshal(MarshalDiag())
        dump = await diag.nlm_request(request, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP)
        return [message async for message in dump]


async def _destroy(diag: AsyncNetlinkSocket, found: inet_diag_msg) -> int:
    request = _request(found["idiag_family"])
    for field in ("idiag_sport", "idiag_dport", "idiag_if", "idiag_cookie"):
        request[field] = found[field]
    for field in ("idiag_src", "idiag_dst"):
        request[field] = _words(found[field])
    try:
        async for _ in await diag.nlm_request(request, _SOCK_DESTROY, NLM_F_REQUEST | NLM_F_ACK):
            pass
    except NetlinkError as error:
        if error.code == errno.ENOENT:  # it ended by itself
            return 0
        raise PodError.of(Reason.FIREWALL, "SOCK_DESTROY", error, "a destroyed socket") from error
    return 1


def _request(family: int) -> inet_diag_req:
    request = inet_diag_req()
    request["sdiag_family"] = family
    request["sdiag_protocol"] = socket.IPPROTO_TCP
    return request


def _plain(literal: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """IPv4-mapped addresses of dual-stack sockets are IPv4 addresses."""
    address = ipaddress.ip_address(literal)
    return getattr(address, "ipv4_mapped", None) or address


def _words(literal: str) -> tuple[int, int, int, int]:
    packed = ipaddress.ip_address(literal).packed.ljust(16, b"\0")
    a, b, c, d = (int.from_bytes(packed[i : i + 4], "big") for i in (0, 4, 8, 12))
    return a, b, c, d
