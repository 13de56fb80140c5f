"""The peer port: gRPC over TLS for anybody, with size, rate and time limits; it interprets nothing.

Everything that arrives is exact bytes for the state machine, which authenticates it. A stranger sees
a receipt or one of four coarse status codes, without text.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from urllib.parse import unquote

import grpc
import grpc.aio

from toposeal.errors import PodError, Reason, ToposealError
from toposeal.host.throwaway import ThrowawayIdentity
from toposeal.limits import (
    ASKED_AT_ONCE,
    ASKED_AT_ONCE_IN_ALL,
    ASKED_PER_SECOND,
    ASKED_PER_SECOND_IN_ALL,
    MAX_ENVELOPE_SIZE,
    MAX_PEER_CONNECTIONS,
    MAX_REQUESTS_PER_SECOND,
    MAX_STATUS_SIZE,
    PEER_TIMEOUT,
)

Deliver = Callable[[bytes], None]
Call = Callable[[bytes], bytes]
Heard = Callable[[str], None]

SERVICE = "toposeal.v1.Peer"
METHOD = "Deliver"
_MAX_SOURCES = 4096  # rate-limit entries kept; the oldest is forgotten first
_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_ENVELOPE_SIZE),
    ("grpc.max_send_message_length", MAX_STATUS_SIZE + 1024),
    ("grpc.max_metadata_size", 4096),
    ("grpc.max_concurrent_streams", 2),  # a member makes one call at a time
    ("grpc.max_allowed_incoming_connections", 2 * MAX_PEER_CONNECTIONS),
    ("grpc.server_handshake_timeout_ms", PEER_TIMEOUT),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", PEER_TIMEOUT),
    # Places are few: who says nothing loses its own, and so does who never comes to an end.
    ("grpc.max_connection_idle_ms", 10_000),
    ("grpc.max_connection_age_ms", 300_000),
    ("grpc.max_connection_age_grace_ms", PEER_TIMEOUT),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 20_000),
    ("grpc.so_reuseport", 0),
]
_STATUS = {
    Reason.RATE_LIMITED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.STALE_ATTEMPT: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.UNKNOWN_MEMBER: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.NOT_ACTIVE: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.INTERNAL: grpc.StatusCode.INTERNAL,
}


class PeerServer:
    """Listens on one port. `deliver` takes the bytes and raises ToposealError to refuse them; `heard`
    is told the address, an IP literal, that they came from, before anything about them is known. `calls`
    are what else may be asked, by method: seldom, and few at once.
    """

    def __init__(
        self,
        deliver: Deliver,
        identity: ThrowawayIdentity,
        heard: Heard | None = None,
        calls: Mapping[str, Call] | None = None,
    ) -> None:
        self._deliver = deliver
        self._heard = heard
        self._asking = Asking(time.monotonic)
        self._rate = RateLimit(MAX_REQUESTS_PER_SECOND, time.monotonic)
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=MAX_PEER_CONNECTIONS, options=_OPTIONS, compression=None
        )
        # No serialisers: the handler sees the exact bytes, and the machine refuses unknown fields.
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            method: grpc.unary_unary_rpc_method_handler(partial(self._answer, call))
            for method, call in (calls or {}).items()
        }
        handlers[METHOD] = grpc.unary_unary_rpc_method_handler(self._take)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self._credentials = grpc.ssl_server_credentials([(identity.key_pem, identity.certificate_pem)])

    async def start(self, address: str) -> int:
        """Bind `address` (`[::]:15443`); returns the port. Raises PodError(FIREWALL) if anybody else has
        the port at any address of either family.
        """
        try:
            _require_free(int(address.rpartition(":")[2]))
            port = self._server.add_secure_port(address, self._credentials)
        except (PodError, RuntimeError) as error:
            await self.stop()
            raise error if isinstance(error, PodError) else _taken(address, "not to be bound") from error
        await self._server.start()
        return port

    async def stop(self) -> None:
        await self._server.stop(grace=None)

    async def _take(self, data: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        source = _source(context.peer())
        if not self._rate.allow(source):
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED)
        if self._heard is not None:
            self._heard(_literal(source))
        try:
            self._deliver(data)
        except ToposealError as error:
            await context.abort(coarse_status(error))
        except Exception:
            # `deliver` has dealt with it (S9). Raised here, gRPC would tell the stranger and the log (F4).
            await context.abort(grpc.StatusCode.INTERNAL)
            raise
        return b""

    async def _answer(
        self, call: Call, data: bytes, context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> bytes:
        source = _source(context.peer())
        if not self._asking.begin(source):
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED)
        # Until the last byte has been taken: who asks and does not read holds its own place alone.
        context.add_done_callback(lambda _: self._asking.end(source))  # type: ignore[arg-type]
        try:
            return call(data)
        except ToposealError as error:
            await context.abort(coarse_status(error))
        except Exception as error:
            found = {"message": "a call of an operator", "exception": error}
            asyncio.get_running_loop().call_exception_handler(found)
            await context.abort(grpc.StatusCode.INTERNAL)
            raise
        return b""


class Asking:
    """How often, and how many at once, strangers may ask for what has to be made for them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` in seconds."""
        self._each = RateLimit(ASKED_PER_SECOND, clock)
        self._all = RateLimit(ASKED_PER_SECOND_IN_ALL, clock)
        self._under_way: Counter[str] = Counter()

    def begin(self, source: str) -> bool:
        """Whether `source` may ask now; then `end` has to follow. Who asks too often takes nobody's turn."""
        if self._under_way[source] >= ASKED_AT_ONCE or self._under_way.total() >= ASKED_AT_ONCE_IN_ALL:
            return False
        if not (self._each.allow(source) and self._all.allow("")):
            return False
        self._under_way[source] += 1
        return True

    def end(self, source: str) -> None:
        self._under_way -= Counter([source])  # and forgets who has none


class RateLimit:
    """A token bucket per source; `clock` in seconds. One second's worth may come at once."""

    def __init__(self, per_second: int, clock: Callable[[], float]) -> None:
        self._per_second = per_second
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # source -> (tokens, when)

    def allow(self, source: str) -> bool:
        now = self._clock()
        tokens, when = self._buckets.pop(source, (float(self._per_second), now))
        tokens = min(self._per_second, tokens + (now - when) * self._per_second)
        allowed = tokens >= 1
        self._buckets[source] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > _MAX_SOURCES:
            self._buckets.pop(next(iter(self._buckets)))
        return allowed


def coarse_status(error: ToposealError) -> grpc.StatusCode:
    """The only thing that a stranger learns of a refusal."""
    return _STATUS.get(error.reason, grpc.StatusCode.INVALID_ARGUMENT)


def _require_free(port: int) -> None:
    """gRPC is content with IPv4 where somebody has the port in IPv6, and the other way round."""
    for family, wildcard in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):  # noqa: S104
        try:
            with socket.socket(family, socket.SOCK_STREAM) as attempt:
                attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    attempt.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                attempt.bind((wildcard, port))
        except OSError as error:
            if error.errno != errno.EAFNOSUPPORT:  # a kernel without IPv6
                raise _taken(f"{wildcard} {port}", error.strerror) from error


def _taken(place: str, found: str | None) -> PodError:
    return PodError.of(Reason.FIREWALL, f"peer port {place}", found, "free")


def _source(peer: str) -> str:
    """`ipv4:10.0.0.1:4711` without the port."""
    return peer.rpartition(":")[0]


def _literal(source: str) -> str:
    """The IP literal in `ipv4:10.0.0.1` or `ipv6:%5B::1%5D`."""
    return unquote(source.partition(":")[2]).strip("[]").removeprefix("::ffff:")
