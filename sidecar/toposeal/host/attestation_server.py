"""Serves attestation documents as HTTP/1.1 on a Unix socket, behind Envoy; it proves nothing itself.

Every connection comes from a stranger. One request each, one exact target, fixed answers: nothing of
the request is ever reflected. Quotes are asked for one at a time and at most five a second (V10).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus

from toposeal.errors import QuoteSourceError, Reason, RemoteProtocolError, ToposealError
from toposeal.limits import LIVE_QUOTES_PER_SECOND, MAX_HTTP_HEADER, VERIFY_TIMEOUT
from toposeal.outside.endpoint import ATTESTATION_PATH, ATTESTATION_TYPE

Answer = Callable[[bytes], Awaitable[bytes]]

_MAX_CONNECTIONS = 64  # a document each may be in memory
_MAX_CALLERS = 8  # in line for a quote: what the pace serves within their patience
_REQUEST_TIMEOUT_S = 5.0
_EXCHANGE_TIMEOUT_S = VERIFY_TIMEOUT / 1000  # later than this nobody waits for the answer
_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) ([!-~]{1,512}) HTTP/1\.[01]")
_TARGET = re.compile(rf"{re.escape(ATTESTATION_PATH)}\?nonce=([0-9a-f]{{64}})".encode("ascii"))
_STATUS_OF = {
    Reason.NOT_ACTIVE: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
}


class AttestationServer:
    """One listening Unix socket. `answer` makes the document for a nonce of 32 bytes.

    `answer` refuses with ToposealError: NOT_ACTIVE and a failing quote source become 503. Any other
    exception is ours, closes that connection and reaches the event loop's exception handler.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._line = _QuoteLine()
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
            if self._connections <= _MAX_CONNECTIONS:
                async with asyncio.timeout(_EXCHANGE_TIMEOUT_S):
                    writer.write(await self._respond(reader))
                    await writer.drain()
        except (TimeoutError, ConnectionError):
            pass  # a stranger that is slow or gone is owed nothing
        finally:
            self._connections -= 1
            writer.transport.abort()  # close() would keep the document for one who never reads

    async def _respond(self, reader: asyncio.StreamReader) -> bytes:
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        except asyncio.IncompleteReadError:
            return _response(HTTPStatus.BAD_REQUEST)
        nonce = _parse_request(head)
        if isinstance(nonce, HTTPStatus):
            return _response(nonce)
        try:
            async with self._line.turn():
                return _response(HTTPStatus.OK, await self._answer(nonce))
        except ToposealError as error:
            return _response(_status_of(error))


class _QuoteLine:
    """One quote at a time, spaced out, with few callers in line; whoever comes then is refused."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._callers = 0
        self._next_at = 0.0

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Raises RemoteProtocolError(RATE_LIMITED) when the line is full."""
        if self._callers >= _MAX_CALLERS:
            raise RemoteProtocolError.of(Reason.RATE_LIMITED, "callers", self._callers, "a free place")
        self._callers += 1
        try:
            async with self._lock:
                loop = asyncio.get_running_loop()
                await asyncio.sleep(self._next_at - loop.time())
                self._next_at = loop.time() + 1 / LIVE_QUOTES_PER_SECOND
                yield
        finally:
            self._callers -= 1


def _parse_request(head: bytes) -> bytes | HTTPStatus:
    """The nonce that a well-formed request asks for, or the status of the refusal."""
    line = _REQUEST_LINE.fullmatch(head.partition(b"\r\n")[0])
    if line is None:
        return HTTPStatus.BAD_REQUEST
    method, target = line.groups()
    if target.partition(b"?")[0] != ATTESTATION_PATH.encode("ascii"):
        return HTTPStatus.NOT_FOUND
    if method != b"GET":
        return HTTPStatus.METHOD_NOT_ALLOWED
    exact = _TARGET.fullmatch(target)
    return HTTPStatus.BAD_REQUEST if exact is None else bytes.fromhex(exact[1].decode("ascii"))


def _status_of(error: ToposealError) -> HTTPStatus:
    if isinstance(error, QuoteSourceError):
        return HTTPStatus.SERVICE_UNAVAILABLE
    return _STATUS_OF.get(error.reason, HTTPStatus.INTERNAL_SERVER_ERROR)


def _response(status: HTTPStatus, document: bytes | None = None) -> bytes:
    body = f"{status.phrase}\n".encode("ascii") if document is None else document
    kind = "text/plain" if document is None else ATTESTATION_TYPE
    allow = "Allow: GET\r\n" if status is HTTPStatus.METHOD_NOT_ALLOWED else ""
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"Content-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"{allow}"
        "Cache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("ascii") + body


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
