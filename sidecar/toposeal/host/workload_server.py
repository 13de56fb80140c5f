"""SPIFFE's Workload API (its X.509-SVID profile) on a Unix socket that the application is given.

What is told is decided by `dataplane.workload`. Whoever can see the socket may connect: which container can,
is decided by where its directory is mounted. No request says anything, so none is read.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from functools import partial

import grpc
import grpc.aio

from toposeal.dataplane.workload import Told
from toposeal.errors import PodError, Reason
from toposeal.limits import (
    MAX_WORKLOAD_CONNECTIONS,
    MAX_WORKLOAD_REQUEST,
    MAX_WORKLOAD_STREAMS,
    WORKLOAD_TIMEOUT,
)

SERVICE = "SpiffeWorkloadAPI"  # without a package
# SPIFFE Workload Endpoint, 6: a browser or proxy that is led here sends no such header.
HEADER = ("workload.spiffe.io", "true")
_MODE = 0o666  # connecting takes the right to write
_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_WORKLOAD_REQUEST),
    ("grpc.max_send_message_length", -1),  # ours: a manifest's CAs are below the 4 MiB that clients take
    ("grpc.max_metadata_size", 4096),
    ("grpc.max_concurrent_streams", MAX_WORKLOAD_STREAMS),
    ("grpc.max_allowed_incoming_connections", MAX_WORKLOAD_CONNECTIONS),
    ("grpc.server_handshake_timeout_ms", WORKLOAD_TIMEOUT),
    ("grpc.max_connection_idle_ms", 60_000),  # places are few: who asks nothing loses its own
]

_Context = grpc.aio.ServicerContext[bytes, bytes]


class WorkloadServer:
    """Tells what was offered last to everybody who asks, and again whenever that changes. While nothing is
    offered it refuses.
    """

    def __init__(self) -> None:
        self._told: Told | None = None
        self._changed = asyncio.Event()  # of what is told now; another one for what is told next
        self._server = grpc.aio.server(
            options=_OPTIONS, maximum_concurrent_rpcs=MAX_WORKLOAD_STREAMS, compression=None
        )
        # No serialisers: bytes out, and bytes in that nobody looks at. Other methods are unimplemented.
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "FetchX509SVID": grpc.unary_stream_rpc_method_handler(partial(self._stream, _svid)),
            "FetchX509Bundles": grpc.unary_stream_rpc_method_handler(partial(self._stream, _bundles)),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))

    async def start(self, path: str) -> None:
        """Listen at `path`, for everybody who can see it. Raises PodError(STATE_DIR)."""
        try:
            self._server.add_insecure_port(f"unix:{path}")
            os.chmod(path, _MODE)
        except (RuntimeError, OSError) as error:
            raise PodError.of(Reason.STATE_DIR, path, type(error).__name__, "a socket of ours") from error
        await self._server.start()

    async def stop(self) -> None:
        self.offer(None)
        await self._server.stop(grace=None)

    def offer(self, told: Told | None) -> None:
        """What holds from now on; None ends every stream, and what was offered is forgotten."""
        self._told = told
        self._changed.set()
        self._changed = asyncio.Event()

    async def _stream(
        self, part: Callable[[Told], bytes], _: bytes, context: _Context
    ) -> AsyncIterator[bytes]:
        """A client that reads slowly is told the newest when it gets to it: nothing is queued for it."""
        await _check_header(context)
        sent: bytes | None = None
        while True:
            told, changed = self._told, self._changed
            if told is None:  # what was told before is not to be used (SPIFFE Workload API, 5.2.1)
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, "no identity now")
            response = part(told)
            if response != sent:
                sent = response
                yield response
            await changed.wait()


def _svid(told: Told) -> bytes:
    return told.svid


def _bundles(told: Told) -> bytes:
    return told.bundles


async def _check_header(context: _Context) -> None:
    name, value = HEADER
    if [given for key, given in context.invocation_metadata() or () if key == name] != [value]:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"no metadata {name}: {value}")
