"""Serves Envoy's configuration on a Unix socket, over the one stream that our Envoy opens.

What is sent is decided by `dataplane.discovery`. Envoy's user alone can connect: keys go to it, and are in no
file.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import grpc
import grpc.aio

from toposeal.dataplane.discovery import Discovery, Update
from toposeal.errors import PodError, Reason
from toposeal.host import journal
from toposeal.host.tasks import watched
from toposeal.limits import ENVOY_ACK_TIMEOUT, MAX_DISCOVERY_REQUEST

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
METHOD = "StreamAggregatedResources"
_MODE = 0o660
_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_DISCOVERY_REQUEST),
    ("grpc.max_send_message_length", -1),  # ours; the renderer's answer is bounded
    ("grpc.max_metadata_size", 4096),
    ("grpc.max_concurrent_streams", 1),
]

_Responses = asyncio.Queue[bytes | None]  # None ends the stream
_Context = grpc.aio.ServicerContext[bytes, bytes]


class DiscoveryServer:
    """One Envoy's configuration. `offer` and then `acknowledged` bring about an update; one at a time."""

    def __init__(self) -> None:
        self._discovery = Discovery()
        self._responses: _Responses | None = None  # of the stream that counts, which is the newest
        self._heard = asyncio.Event()
        self._server = grpc.aio.server(options=_OPTIONS, compression=None)
        # No serialisers: bytes in, bytes out.
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(self._serve)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),)
        )

    async def start(self, path: str, group: int) -> None:
        """Listen at `path`, for this user and for `group` (Envoy's) alone. Raises PodError(STATE_DIR)."""
        try:
            # Until its mode is set it is its owner's alone: the daemon's umask leaves nothing to others.
            self._server.add_insecure_port(f"unix:{path}")
            os.chown(path, -1, group)
            os.chmod(path, _MODE)
        except (RuntimeError, OSError) as error:
            raise PodError.of(Reason.STATE_DIR, path, type(error).__name__, "a socket of ours") from error
        await self._server.start()

    async def stop(self) -> None:
        self.reset({})
        await self._server.stop(grace=None)

    def reset(self, update: Update) -> None:
        """Forget everything, keys included, and offer `update` to whoever connects from now on."""
        self._end_stream()
        self._discovery = Discovery()
        self._discovery.offer(update)

    def offer(self, update: Update) -> None:
        """What Envoy is to run from now on, of the kinds in `update`."""
        self._send(self._discovery.offer(update))

    def offer_alone(self, update: Update) -> None:
        """The same, and what was offered of other kinds is forgotten, keys included."""
        self._send(self._discovery.offer_alone(update))

    async def acknowledged(self) -> None:
        """Return when Envoy has taken all that was offered last.

        Raises PodError: ENVOY_REJECTED with Envoy's own words when it has refused any of it, ENVOY_FAILED
        when it does neither in ENVOY_ACK_TIMEOUT.
        """
        try:
            async with asyncio.timeout(ENVOY_ACK_TIMEOUT / 1000):
                while not self._discovery.is_taken():
                    self._heard.clear()
                    await self._heard.wait()
        except TimeoutError:
            found = "silence" if self._responses else "no stream"
            raise PodError.of(Reason.ENVOY_FAILED, "envoy.discovery", found, "an acknowledgement") from None

    async def _serve(self, requests: AsyncIterator[bytes], context: _Context) -> AsyncIterator[bytes]:
        """A second stream ends the first: Envoy has one, and may open another before it has ended."""
        self._end_stream()
        responses = self._responses = _Responses()
        self._discovery.connected()
        reading = watched(self._read(requests, responses))
        try:
            while (response := await responses.get()) is not None:
                yield response
        finally:
            reading.cancel()
            if self._responses is responses:
                self._responses = None

    async def _read(self, requests: AsyncIterator[bytes], responses: _Responses) -> None:
        try:
            async for data in requests:
                if self._responses is not responses:
                    return
                self._send(self._discovery.request(data))
                self._heard.set()
        except PodError as error:
            journal.mismatch("alarm", error.mismatches[0])
        finally:
            responses.put_nowait(None)

    def _send(self, responses: list[bytes]) -> None:
        for response in responses:
            if self._responses is not None:
                self._responses.put_nowait(response)

    def _end_stream(self) -> None:
        if self._responses is not None:
            self._responses.put_nowait(None)
            self._responses = None
