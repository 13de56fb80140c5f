"""Serves documents as HTTP/1.1 on a Unix socket, behind Envoy.

Every connection comes from a stranger. One request each, fixed answers: nothing of the request is ever
reflected.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from http import HTTPStatus

from toposeal.limits import MAX_HTTP_HEADER, VERIFY_TIMEOUT

Build = Callable[[], bytes | Iterator[bytes]]  # a whole response, at once or in parts
ReadBody = Callable[[int], Awaitable[bytes]]  # exactly so many bytes after the head

_MAX_DOCUMENTS = 64  # under way; what is not made in parts is in memory
_STALLED_S = 2.0  # Envoy reads on when half of CONNECTION_BUFFER is taken: 16 KiB a second are fast enough
_REQUEST_TIMEOUT_S = 5.0
_EXCHANGE_TIMEOUT_S = VERIFY_TIMEOUT / 1000  # later than this nobody waits for the answer


class DocumentServer:
    """One listening Unix socket. `respond` is given the head of one request, of at most MAX_HTTP_HEADER
    bytes, and what reads its body, and gives what then builds the whole response. While `most` are served,
    further ones are closed.

    An exception of `respond` is ours, closes that connection and reaches the event loop's exception handler.
    """

    def __init__(self, respond: Callable[[bytes, ReadBody], Awaitable[Build]], most: int) -> None:
        self._answer, self._most = respond, most
        self._documents = asyncio.Semaphore(_MAX_DOCUMENTS)
        self._connections = 0
        self._server: asyncio.Server | None = None

    async def start(self, path: str, group: int) -> None:
        """Listen at `path`, for this user and for `group` (Envoy's) alone. Raises OSError."""
        listener = _bind(path, group)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_HTTP_HEADER)

    def close(self) -> None:
        """Stop listening; the path stays, for a successor to replace."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        writer.transport.set_write_buffer_limits(high=0)  # so that drained means handed to the kernel
        try:
            if self._connections <= self._most:
                async with asyncio.timeout(_EXCHANGE_TIMEOUT_S):
                    build = await self._respond(reader)
                    async with self._documents:
                        await self._send(build(), writer)
        except (TimeoutError, ConnectionError):
            pass  # a stranger that is slow or gone is owed nothing
        finally:
            self._connections -= 1
            writer.transport.abort()  # close() would keep the document for one who never reads

    async def _send(self, made: bytes | Iterator[bytes], writer: asyncio.StreamWriter) -> None:
        """Each part when the kernel has the one before it."""
        for part in (made,) if isinstance(made, bytes) else made:
            writer.write(part)
            await self._handed_over(writer)

    async def _handed_over(self, writer: asyncio.StreamWriter) -> None:
        """Until the kernel has all of it. Raises TimeoutError for a reader that takes nothing while no place
        is free.

        Behind Envoy every client has the same address, so none can be given a share. To pause is no offence
        while nobody waits: Envoy takes a buffer full at once, then nothing until half of it is read.
        """
        while True:
            left = writer.transport.get_write_buffer_size()
            try:
                async with asyncio.timeout(_STALLED_S):
                    return await writer.drain()
            except TimeoutError:
                if self._documents.locked() and writer.transport.get_write_buffer_size() == left:
                    raise

    async def _respond(self, reader: asyncio.StreamReader) -> Build:
        """Whatever takes time; the document itself is made when there is room for it."""
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return partial(refusal, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        except asyncio.IncompleteReadError:
            return partial(refusal, HTTPStatus.BAD_REQUEST)
        return await self._answer(head, partial(_body, reader))


async def _body(reader: asyncio.StreamReader, size: int) -> bytes:
    """Raises TimeoutError, or ConnectionError for who stops before the end."""
    try:
        async with asyncio.timeout(_REQUEST_TIMEOUT_S):
            return await reader.readexactly(size)
    except asyncio.IncompleteReadError as error:
        raise ConnectionError("the body ended early") from error


def refusal(status: HTTPStatus) -> bytes:
    """A whole HTTP/1.1 response: the status, in words too."""
    return response(status, f"{status.phrase}\n".encode("ascii"), "text/plain")


def response(status: HTTPStatus, body: bytes, kind: str) -> bytes:
    """A whole HTTP/1.1 response: `body`, of media type `kind`."""
    return response_head(status, len(body), kind) + body


def response_head(status: HTTPStatus, size: int, kind: str) -> bytes:
    """What comes before a body of `size` bytes, of media type `kind`."""
    allow = "Allow: GET\r\n" if status is HTTPStatus.METHOD_NOT_ALLOWED else ""
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"Content-Type: {kind}\r\n"
        f"Content-Length: {size}\r\n"
        f"{allow}"
        "Cache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("ascii")


def _bind(path: str, group: int) -> socket.socket:
    """Not yet listening while the permissions are those of the umask, so nobody connects before."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # of a predecessor: nobody else may write in its directory
        listener.bind(path)
        os.chown(path, -1, group)
        os.chmod(path, 0o660)
    except OSError:
        listener.close()
        raise
    return listener
