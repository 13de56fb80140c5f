"""The data path proves itself: a connection as an application would make it, through redirect, Envoy,
mutual TLS with itself and back into the daemon, which answers a nonce that nobody else has.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import secrets
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from toposeal.errors import PodError, Reason
from toposeal.limits import ENVOY_UID, NONCE_SIZE, PROBE_ADDRESS, PROBE_PORT, PROBE_TIMEOUT, PROBE_UID

_RETRY_S = 0.02
_UNCHANGED = -1


class Probe:
    """The answering end, and the question. `start` makes it."""

    def __init__(self, server: asyncio.Server, nonce: bytes) -> None:
        self._server, self._nonce = server, nonce

    @classmethod
    async def start(cls, path: str, *, group: int = ENVOY_UID) -> Probe:
        """Answer at the Unix socket `path`, for Envoy's group alone. Raises PodError(PROBE_FAILED)."""
        nonce = secrets.token_bytes(NONCE_SIZE)

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(nonce)
            writer.close()

        try:
            with suppress(FileNotFoundError):
                os.unlink(path)
            server = await asyncio.start_unix_server(answer, path)
            os.chown(path, _UNCHANGED, group)
            os.chmod(path, 0o660)
        except OSError as error:
            raise PodError.of(Reason.PROBE_FAILED, path, error.strerror, "a socket") from error
        return cls(server, nonce)

    async def ask(self) -> None:
        """Raise PodError(PROBE_FAILED) unless the nonce comes back through the data path in time."""
        outcome = "silence"
        try:
            async with asyncio.timeout(PROBE_TIMEOUT / 1000):
                while (outcome := await self._attempt()) != "":
                    await asyncio.sleep(_RETRY_S)
        except TimeoutError:
            place = f"{PROBE_ADDRESS}:{PROBE_PORT}"
            raise PodError.of(Reason.PROBE_FAILED, place, outcome, "the nonce") from None

    async def close(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _attempt(self) -> str:
        """Nothing, or what came instead of the nonce."""
        loop = asyncio.get_running_loop()
        with _socket_of(PROBE_UID) as connection:
            connection.setblocking(False)
            answer = b""
            try:
                await loop.sock_connect(connection, (PROBE_ADDRESS, PROBE_PORT))
                while len(answer) <= NONCE_SIZE and (
                    more := await loop.sock_recv(connection, NONCE_SIZE + 1)
                ):
                    answer += more
            except OSError as error:
                return error.strerror or "an error"
        return "" if secrets.compare_digest(answer, self._nonce) else f"{len(answer)} other bytes"


def _socket_of(uid: int) -> socket.socket:
    """A TCP socket that the rules see as `uid`'s, neither the daemon's nor Envoy's: a socket keeps the
    file-system user of the thread that made it. The thread ends here, and its user with it.

    Raises PodError(PROBE_FAILED) when the user cannot be taken on.
    """
    with ThreadPoolExecutor(1, "probe") as thread:
        return thread.submit(_make_socket, uid).result()


def _make_socket(uid: int) -> socket.socket:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.setfsuid(uid)
    if libc.setfsuid(_UNCHANGED) != uid:  # returns the present one and changes nothing
        raise PodError.of(Reason.PROBE_FAILED, "probe.uid", "no right to take it on", uid)
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM)
