"""The pod's DNS server on loopback, UDP and TCP: carries messages to `dataplane.dns`, within limits."""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import suppress

from toposeal.dataplane.dns import Names, answer
from toposeal.errors import PodError, Reason
from toposeal.limits import (
    DNS_IDLE_TIMEOUT,
    DNS_PORT,
    MAX_DNS_CONNECTIONS,
    MAX_DNS_MESSAGE,
    MAX_DNS_QUERIES_PER_SECOND,
)

_ADDRESSES = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))  # where REDIRECT leads to
_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_BATCH = 32  # datagrams read in one turn of the loop, so that a flood delays nothing else
_TURN = 0.05  # seconds: how often the allowance is refilled
_ALLOWANCE = int(MAX_DNS_QUERIES_PER_SECOND * _TURN)


class DnsServer:
    """Answers from `names` as it is set at that moment; None answers every name with SERVFAIL."""

    def __init__(self) -> None:
        self.names: Names | None = None
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._clients: set[asyncio.StreamWriter] = set()
        self._left = _ALLOWANCE
        self._refill: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Bind both families; raises PodError(FIREWALL) if anybody else has one of the ports.

        A pod without IPv6 has no ::1, and nobody to ask there.
        """
        for family, address in _ADDRESSES:
            try:
                await self._bind(family, address)
            except OSError as error:
                if family == socket.AF_INET6 and error.errno in _NO_SUCH_ADDRESS:
                    continue
                self.close()
                raise PodError.of(Reason.FIREWALL, f"DNS port {DNS_PORT}", error, "free") from error
        self._listen()

    async def _bind(self, family: int, address: str) -> None:
        self._sockets.append(_udp(family, address))
        server = await asyncio.start_server(self._serve, address, DNS_PORT, family=family, backlog=16)
        self._servers.append(server)

    def close(self) -> None:
        self._pause()
        if self._refill is not None:
            self._refill.cancel()
        for server in self._servers:
            server.close()
        for writer in self._clients:
            writer.transport.abort()
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()

    def _listen(self) -> None:
        self._left = _ALLOWANCE
        self._refill = None
        for sock in self._sockets:
            asyncio.get_running_loop().add_reader(sock, self._datagrams, sock)

    def _pause(self) -> None:
        """Leave datagrams to the kernel, which drops what exceeds the sockets' buffers."""
        for sock in self._sockets:
            asyncio.get_running_loop().remove_reader(sock)

    def _datagrams(self, sock: socket.socket) -> None:
        for _ in range(_BATCH):
            if not self._spend():
                return
            try:
                query, client = sock.recvfrom(MAX_DNS_MESSAGE)
            except OSError:  # nothing left to read
                return
            reply = answer(query, self.names)
            if reply is not None:
                with suppress(OSError):  # the client has gone, or its buffer is full
                    sock.sendto(reply, client)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= MAX_DNS_CONNECTIONS:
            writer.transport.abort()
            return
        self._clients.add(writer)
        try:
            while True:
                async with asyncio.timeout(DNS_IDLE_TIMEOUT / 1000):
                    reply = await self._message(reader)
                    if reply is None:
                        return
                    writer.write(len(reply).to_bytes(2, "big") + reply)
                    await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # Silent, broken, finished, or the loop ends: so does the connection. Nobody awaits this task.
            return
        finally:
            self._clients.discard(writer)
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()  # it does not read: closing would wait for it
            writer.close()

    async def _message(self, reader: asyncio.StreamReader) -> bytes | None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        if size > MAX_DNS_MESSAGE:
            return None
        query = await reader.readexactly(size)
        while not self._spend():
            await asyncio.sleep(_TURN)
        return answer(query, self.names)

    def _spend(self) -> bool:
        """Take one query from this turn's allowance; when it is used up, pause until the next turn."""
        if self._left > 0:
            self._left -= 1
            if self._refill is None:
                self._refill = asyncio.get_running_loop().call_later(_TURN, self._listen)
            return True
        self._pause()
        return False


def _udp(family: int, address: str) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        sock.bind((address, DNS_PORT))
    except OSError:
        sock.close()
        raise
    return sock
