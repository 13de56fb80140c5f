"""Delivers envelopes to peers: one channel and one bounded queue per address, retried for a while.

Loss is allowed: the state machine repeats what matters. Order per address is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Coroutine, Iterable
from typing import Any

import grpc
import grpc.aio
from tenacity import (
    AsyncRetrying,
    RetryError,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from toposeal.errors import NetworkError, Reason
from toposeal.host.pace import Pace
from toposeal.host.peer_server import METHOD, SERVICE
from toposeal.host.resolver import Resolver
from toposeal.host.tasks import watched
from toposeal.host.throwaway import SERVER_NAME, shown_certificate
from toposeal.limits import MAX_ENVELOPE_SIZE, MAX_PEER_CONNECTIONS, PEER_TIMEOUT

_QUEUE_LENGTH = 64
_RECEIPT_SIZE = 1024  # bytes; it is empty
_WAKE_INTERVAL_S = 1.0
_TIMEOUT_S = PEER_TIMEOUT / 1000
_OPTIONS = [
    ("grpc.ssl_target_name_override", SERVER_NAME),
    ("grpc.max_send_message_length", MAX_ENVELOPE_SIZE),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
]
_GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

Endpoint = tuple[str, int]


def open_channel(endpoint: Endpoint, root: bytes, most: int) -> grpc.aio.Channel:
    """To the peer port at an IP literal that has shown the certificate `root` (PEM); answers are of at most
    `most` bytes."""
    host, port = endpoint
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    options = [*_OPTIONS, ("grpc.max_receive_message_length", most)]
    return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(root), options=options)


class PeerClient:
    """Sends to endpoints, at `pace`; `own` addresses are never dialled."""

    def __init__(self, own: Collection[str], port: int, pace: Pace) -> None:
        self._own = frozenset(own)
        self._port = port
        self._pace = pace
        self._links: dict[Endpoint, _Link] = {}
        self._resolver = Resolver()

    def send(self, addresses: Iterable[str], data: bytes) -> None:
        """Queue `data` for the first of `addresses`, the one that the peer named first."""
        for address in addresses:
            self._queue((address, self._port), data)
            return

    async def announce(
        self, seeds: Iterable[Endpoint], messages: tuple[bytes, ...], known: Collection[str] = ()
    ) -> None:
        """Queue `messages` for every address that the seeds resolve to but those `known`, each as soon as it
        does; names that fail are skipped.
        """
        spared = self._own.union(known)
        await asyncio.gather(*(self._announce(host, port, messages, spared) for host, port in seeds))

    async def _announce(
        self, host: str, port: int, messages: tuple[bytes, ...], spared: Collection[str]
    ) -> None:
        for address in await self._resolver.resolve(host, port):
            if address not in spared:
                for data in messages:
                    self._queue((address, port), data)

    def heard(self, address: str) -> None:
        """A peer at `address` has just spoken: what waits for it to come up need not wait any longer."""
        link = self._links.get((address, self._port))
        if link is not None:
            link.wake()

    async def close(self) -> None:
        self._resolver.close()
        for link in self._links.values():
            await link.close()
        self._links.clear()

    def _queue(self, endpoint: Endpoint, data: bytes) -> None:
        link = self._links.get(endpoint)
        if link is None:
            if len(self._links) >= MAX_PEER_CONNECTIONS:
                self._drop_idle()
            link = self._links[endpoint] = _Link(endpoint, self._pace)
        link.put(data, self._pace.due(len(self._links)))

    def _drop_idle(self) -> None:
        endpoint = next((e for e, link in self._links.items() if link.idle), next(iter(self._links)))
        self._links.pop(endpoint).abandon()


class _Link:
    def __init__(self, endpoint: Endpoint, pace: Pace) -> None:
        self._endpoint, self._pace = endpoint, pace
        self._queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUE_LENGTH)
        self._channel: grpc.aio.Channel | None = None
        self._awake = asyncio.Event()
        self._woken_at = -_WAKE_INTERVAL_S
        self._busy = False
        self._task = watched(self._run())

    @property
    def idle(self) -> bool:
        return self._queue.empty() and not self._busy

    def put(self, data: bytes, due: float) -> None:
        """Queue until `due`, forgetting the oldest message when the peer does not keep up."""
        if self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait((due, data))

    def wake(self) -> None:
        """Dial again at once. Not more often, or whoever keeps talking keeps a slow dial from its end."""
        now = asyncio.get_running_loop().time()
        if self._channel is None and now - self._woken_at >= _WAKE_INTERVAL_S:
            self._woken_at = now
            self._awake.set()

    def abandon(self) -> None:
        self._task.cancel()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        try:
            while True:
                due, data = await self._queue.get()
                self._busy = True
                await self._pace.until(due)
                await self._deliver(data)
                self._busy = False
        finally:
            await self._hang_up()

    async def _deliver(self, data: bytes) -> None:
        """At most PEER_TIMEOUT of tries with growing pauses; then the message is lost."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(NetworkError),
            stop=stop_after_delay(_TIMEOUT_S),
            wait=wait_random_exponential(multiplier=0.05, max=1),
            sleep=self._pause,
        )
        with contextlib.suppress(RetryError):
            async for attempt in retrying:
                with attempt:
                    await self._try(data)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._awake.wait()
        self._awake.clear()

    async def _try(self, data: bytes) -> None:
        channel = self._channel or await self._dial()
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/{METHOD}")
        try:
            await call(data, timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() in _GONE:
                await self._hang_up()
                raise NetworkError.of(Reason.NETWORK, self._endpoint[0], error.code().name, "OK") from error

    async def _dial(self) -> grpc.aio.Channel:
        host, port = self._endpoint
        root = await self._unless_woken(shown_certificate(host, port, _TIMEOUT_S))
        self._channel = open_channel(self._endpoint, root, _RECEIPT_SIZE)
        return self._channel

    async def _unless_woken(self, dial: Coroutine[Any, Any, bytes]) -> bytes:
        """A pod that is closed and does not listen yet answers nothing, so a dial then waits for the
        kernel's second SYN, a whole second. Raises NetworkError when the peer speaks first.
        """
        dialling = asyncio.ensure_future(dial)
        waking = asyncio.ensure_future(self._awake.wait())
        try:
            await asyncio.wait((dialling, waking), return_when=asyncio.FIRST_COMPLETED)
            if not dialling.done():
                raise NetworkError.of(
                    Reason.NETWORK, self._endpoint[0], "a dial before the peer", "a new one"
                )
            return dialling.result()
        finally:
            dialling.cancel()
            waking.cancel()

    async def _hang_up(self) -> None:
        if self._channel is not None:
            await self._channel.close(grace=None)
            self._channel = None
