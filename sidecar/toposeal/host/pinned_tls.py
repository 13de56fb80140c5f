"""TLS to one verified member over a plain connection, both directions ending by themselves as on TCP."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Sequence
from contextlib import suppress

from toposeal.errors import NetworkError, Reason
from toposeal.limits import LOCAL_CHUNK
from toposeal.outside.model import VerifiedMember
from toposeal.outside.pinned import member_behind

_NO_LINGER = struct.pack("ii", 1, 0)  # close(2) then sends a reset


class PinnedTls:
    """The client's end. asyncio's own TLS cannot end one direction alone, which programs do (`nc -N`)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._decrypted = b""

    async def handshake(self, name: str, members: Sequence[VerifiedMember]) -> VerifiedMember:
        """Which of `members` answers; `name` is what the network is asked for (SNI), and proves nothing.

        Raises ssl.SSLError and RemoteProtocolError for a server that is none of them, OSError for one that
        hangs up.
        """
        tls = _context(members).wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._send()
                await self._receive()
        member = member_behind(tls.getpeercert(binary_form=True) or b"", members)
        self._send()  # only now is our side of the handshake over, so nobody else was sent anything
        self._tls = tls
        return member

    async def read(self) -> bytes:
        """Some bytes, or nothing once the member has ended its direction. Raises OSError for an end that the
        member did not sign: what came before may be less than it sent."""
        more = self._decrypt()
        while more and not self._decrypted:
            await self._receive()
            more = self._decrypt()
        self._send()  # the answer to a change of keys
        data, self._decrypted = self._decrypted, b""
        return data

    async def write(self, data: bytes) -> None:
        """Waits while the member is slow to read."""
        self._open().write(data)
        self._send()
        await self._writer.drain()

    def end(self) -> None:
        """No more from us; the other direction goes on."""
        tls = self._open()
        self._decrypt()  # OpenSSL drops what it has not decrypted by now
        with suppress(ssl.SSLWantReadError):  # the member's own end, which read() is for
            tls.unwrap()
        self._send()

    async def close(self) -> None:
        """After both directions have ended: what is under way still leaves."""
        self._writer.close()
        await self._writer.wait_closed()

    def cut(self) -> None:
        reset(self._writer)

    def _open(self) -> ssl.SSLObject:
        if self._tls is None:
            raise NetworkError.of(Reason.NETWORK, "connection", "no handshake yet", "one that is over")
        return self._tls

    def _decrypt(self) -> bool:
        """Take all that has come; whether more may come."""
        tls = self._open()
        try:
            while True:
                data = tls.read(LOCAL_CHUNK)
                if not data:
                    return False
                self._decrypted += data
        except ssl.SSLWantReadError:
            return True
        except ssl.SSLZeroReturnError:
            return False

    def _send(self) -> None:
        if self._outgoing.pending:
            self._writer.write(self._outgoing.read())

    async def _receive(self) -> None:
        data = await self._reader.read(LOCAL_CHUNK)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection at once, and so that nobody takes it for the end of what was sent."""
    with suppress(OSError):  # closed already
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    writer.transport.abort()


def _context(members: Sequence[VerifiedMember]) -> ssl.SSLContext:
    """Trusts the members' CAs and nothing else. Which one of them it is, `member_behind` tells."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the name to expect is that of whoever answers: member_behind compares it
    context.load_verify_locations(cadata="".join(member.ca_pem for member in members))
    return context
