"""Egress hosts to addresses: the daemon's questions to the servers that the topology or resolv.conf names."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import secrets
from collections.abc import Sequence

from toposeal.dataplane.dns_client import Answer, Kind, question, read_answer
from toposeal.errors import RemoteProtocolError
from toposeal.limits import DNS_ANSWER_TIMEOUT, MAX_DNS_ANSWER, MAX_NAMESERVERS, POD_DNS_PORT

_RESOLV_CONF = "/etc/resolv.conf"
_MAX_RESOLV_CONF = 64 << 10


class HostResolver:
    """Asks `servers` in their order until one answers; every question has a port and a number of its own."""

    def __init__(self, servers: Sequence[str], kinds: Sequence[Kind], port: int = POD_DNS_PORT) -> None:
        """`kinds` are those of the pod's own addresses: what it has no address for it cannot reach."""
        self._servers, self._kinds, self._port = tuple(servers), tuple(kinds), port

    async def resolve(self, host: str) -> Answer | None:
        """All addresses that one server names; None when none of them names any. Never raises."""
        for server in self._servers:
            answers = await asyncio.gather(*(self._asked(server, host, kind) for kind in self._kinds))
            found = [answer for answer in answers if answer is not None and answer.addresses]
            if found:
                addresses = tuple(address for answer in found for address in answer.addresses)
                return Answer(addresses, min(answer.ttl for answer in found), truncated=False)
        return None

    async def _asked(self, server: str, host: str, kind: Kind) -> Answer | None:
        asked = question(secrets.randbits(16), host, kind)
        try:
            async with asyncio.timeout(DNS_ANSWER_TIMEOUT / 1000):
                answer = await self._over_udp(server, asked)
                return await self._over_tcp(server, asked) if answer.truncated else answer
        except (OSError, TimeoutError, asyncio.IncompleteReadError, RemoteProtocolError):
            return None

    async def _over_udp(self, server: str, asked: bytes) -> Answer:
        """The first datagram that answers; others are whoever's."""
        loop = asyncio.get_running_loop()
        transport, received = await loop.create_datagram_endpoint(_Received, remote_addr=(server, self._port))
        try:
            transport.sendto(asked)
            while True:
                with contextlib.suppress(RemoteProtocolError):
                    return read_answer(await received.messages.get(), asked)
        finally:
            transport.close()

    async def _over_tcp(self, server: str, asked: bytes) -> Answer:
        reader, writer = await asyncio.open_connection(server, self._port)
        try:
            writer.write(len(asked).to_bytes(2, "big") + asked)
            size = int.from_bytes(await reader.readexactly(2), "big")
            return read_answer(await reader.readexactly(min(size, MAX_DNS_ANSWER)), asked)
        finally:
            writer.close()


class _Received(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.messages: asyncio.Queue[bytes] = asyncio.Queue(maxsize=16)

    def datagram_received(self, data: bytes, addr: object) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            self.messages.put_nowait(data)


def nameservers(path: str = _RESOLV_CONF) -> tuple[str, ...]:
    """The servers of resolv.conf(5), at most three; none if it cannot be read. It is the host's word."""
    found = []
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read(_MAX_RESOLV_CONF)
    except OSError:
        return ()
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            with contextlib.suppress(ValueError):
                found.append(str(ipaddress.ip_address(words[1])))
    return tuple(found[:MAX_NAMESERVERS])
