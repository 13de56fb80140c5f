"""What the kernel holds of our nf_tables table, as bytes to compare; its generation tells when to look."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from types import TracebackType

from pyroute2.netlink import NLM_F_DUMP, NLM_F_REQUEST, nlmsg
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, nfgen_msg
from pyroute2.netlink.nfnetlink.nftsocket import (
    NFPROTO_INET,
    NFT_MSG_GETCHAIN,
    NFT_MSG_GETFLOWTABLE,
    NFT_MSG_GETGEN,
    NFT_MSG_GETOBJ,
    NFT_MSG_GETRULE,
    NFT_MSG_GETSET,
    NFT_MSG_GETTABLE,
)
from pyroute2.netlink.nlsocket import AsyncNetlinkSocket

from toposeal.errors import PodError, Reason

NETLINK_NETFILTER = 12
NFTABLES_EVENTS = 1 << 6  # NFNLGRP_NFTABLES is group 7
_TABLE_NAME = b"toposeal\x00"
_HEADERS = 16 + 4  # nlmsghdr, nfgenmsg
# Attributes that number or count (linux/netfilter/nf_tables.h: handles, positions, uses) and so differ
# between equal rulesets. The lockdown has no sets, objects or flow tables: one of these is a difference.
_VOLATILE: dict[int, frozenset[int]] = {
    NFT_MSG_GETTABLE: frozenset({3, 4}),
    NFT_MSG_GETCHAIN: frozenset({2, 6, 8}),
    NFT_MSG_GETRULE: frozenset({3, 6}),
    NFT_MSG_GETSET: frozenset(),
    NFT_MSG_GETOBJ: frozenset(),
    NFT_MSG_GETFLOWTABLE: frozenset(),
}
_TABLE_ATTRIBUTE = 1  # the name of the table, in all of these
_GEN_ID = 1

# One entry for each object of the table, in the kernel's order.
Snapshot = tuple[bytes, ...]


class Ruleset:
    """A netlink socket in the network namespace of the thread that enters it. Raises PodError(FIREWALL)."""

    def __init__(self) -> None:
        self._socket = AsyncNetlinkSocket(family=NETLINK_NETFILTER)

    async def generation(self) -> int:
        """A number that rises with every committed change to any table of this network namespace."""
        for message in await self._ask(NFT_MSG_GETGEN, NLM_F_REQUEST, family=0):
            for kind, value in _attributes(message):
                if kind == _GEN_ID:
                    return int.from_bytes(value, "big")
        raise PodError.of(Reason.FIREWALL, "nf_tables generation", "absent", "a number")

    async def snapshot(self) -> Snapshot:
        """Our whole table: flags, chains with hook and policy, rules in order, sets, objects."""
        found = []
        for kind, volatile in _VOLATILE.items():
            for message in await self._ask(kind, NLM_F_REQUEST | NLM_F_DUMP, NFPROTO_INET):
                attributes = list(_attributes(message))
                if (_TABLE_ATTRIBUTE, _TABLE_NAME) in attributes:
                    stable = [struct.pack("=HI", a, len(v)) + v for a, v in attributes if a not in volatile]
                    found.append(bytes([kind]) + b"".join(stable))
        return tuple(found)

    async def _ask(self, kind: int, flags: int, family: int) -> list[nlmsg]:
        message = nfgen_msg()
        message["nfgen_family"] = family
        try:
            request = await self._socket.nlm_request(message, kind | NFNL_SUBSYS_NFTABLES << 8, flags)
            return [answer async for answer in request]
        except (NetlinkError, OSError) as error:
            raise PodError.of(Reason.FIREWALL, "nf_tables", error, "an answer") from error

    async def __aenter__(self) -> Ruleset:
        await self._socket.setup_endpoint()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()


def _attributes(message: nlmsg) -> Iterator[tuple[int, bytes]]:
    """Type and value of each top-level attribute, undecoded: nothing that changed can look the same."""
    end = message.offset + message["header"]["length"]
    at = message.offset + _HEADERS
    while at + 4 <= end:
        length, kind = struct.unpack_from("=HH", message.data, at)
        if length < 4:
            return
        yield kind & 0x3FFF, bytes(message.data[at + 4 : at + length])
        at += (length + 3) & ~3
