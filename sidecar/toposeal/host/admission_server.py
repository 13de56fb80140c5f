"""The webhook's HTTPS: one request a connection, counted bytes, one deadline; it gives no meaning to either.

Whoever reaches the port may ask. What is answered is made of the request and of what is no secret.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable
from http import HTTPStatus

from toposeal.errors import Reason, ToposealError, UsageError
from toposeal.host.document_server import refusal, response
from toposeal.host.http_request import body_size
from toposeal.kubernetes.webhook import ADMISSION_PATH
from toposeal.limits import (
    ADMISSION_RELOAD,
    ADMISSION_TIMEOUT,
    MAX_ADMISSION_REQUESTS,
    MAX_ADMISSION_REVIEW,
    MAX_HTTP_HEADER,
)

Tell = Callable[[str], None]

_TARGET = re.compile(rf"POST {ADMISSION_PATH}(?:\?[!-~]*)? ".encode("ascii"))
_JSON = "application/json"


class AdmissionServer:
    """`answer` makes the body of an answer of that of a request; what it refuses with ToposealError becomes
    400. Of more than MAX_ADMISSION_REQUESTS at once the last ones are closed: those pods are not made.

    Raises UsageError for a certificate or key that is none.
    """

    def __init__(self, answer: Callable[[bytes], bytes], certificate: str, key: str, tell: Tell) -> None:
        self._answer, self._files, self._tell = answer, (certificate, key), tell
        self._connections = 0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._load()

    async def serve(
        self, address: str | None, port: int, stop: asyncio.Event, listening: Callable[[int], None]
    ) -> None:
        """Until `stop` is set; None is every address. `listening` is told the port. Raises UsageError."""
        seconds = ADMISSION_TIMEOUT / 1000
        try:
            server = await asyncio.start_server(
                self._serve,
                address,
                port,
                limit=MAX_HTTP_HEADER,
                ssl=self._context,
                ssl_handshake_timeout=seconds,
                ssl_shutdown_timeout=seconds,
            )
        except OSError as error:
            raise UsageError.of(Reason.USAGE, f"port {port}", error, "a free one") from error
        async with server:
            listening(server.sockets[0].getsockname()[1])
            while not stop.is_set():
                await self._renewed(stop)

    async def _renewed(self, stop: asyncio.Event) -> None:
        """What is in the files from time to time; while they are wrong, what was in them before."""
        try:
            async with asyncio.timeout(ADMISSION_RELOAD / 1000):
                await stop.wait()
        except TimeoutError:
            try:
                self._load()
            except UsageError as error:
                self._tell(str(error))

    def _load(self) -> None:
        try:
            self._context.load_cert_chain(*self._files, password=lambda: "")
        except (
            OSError,
            ValueError,
        ) as error:  # a key with a password is a ValueError; SSLError is an OSError
            expected = "a certificate and its key, PEM, without a password"
            raise UsageError.of(Reason.USAGE, " and ".join(self._files), error, expected) from error

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= MAX_ADMISSION_REQUESTS:
                async with asyncio.timeout(ADMISSION_TIMEOUT / 1000):
                    writer.write(await self._respond(reader))
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass  # a stranger that is slow or gone is owed nothing
        finally:
            self._connections -= 1
            writer.transport.abort()

    async def _respond(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if _TARGET.match(head) is None:
            return refusal(HTTPStatus.NOT_FOUND)
        size = body_size(head, MAX_ADMISSION_REVIEW)
        if isinstance(size, HTTPStatus):
            return refusal(size)
        try:
            return response(HTTPStatus.OK, self._answer(await reader.readexactly(size)), _JSON)
        except ToposealError:
            return refusal(HTTPStatus.BAD_REQUEST)
