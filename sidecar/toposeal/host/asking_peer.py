"""Asks a member something small at its peer port, within one deadline; what it answers is anybody's word.

The port's certificate is a throw-away one that nobody trusts: whoever is on the way can answer instead.
"""

from __future__ import annotations

import asyncio
import socket

import grpc
import grpc.aio

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import decode, encode
from toposeal.errors import NetworkError, Reason, RemoteProtocolError
from toposeal.host.operator_calls import PUSH, STATUS
from toposeal.host.peer_client import open_channel
from toposeal.host.peer_server import SERVICE
from toposeal.host.throwaway import shown_certificate
from toposeal.limits import MAX_STATUS_SIZE, VERIFY_TIMEOUT
from toposeal.outside.endpoint import Endpoint
from toposeal.outside.pushed import Pushed, read_pushed
from toposeal.outside.status import Status, read_status

_TIMEOUT_S = VERIFY_TIMEOUT / 1000
_LARGEST = MAX_STATUS_SIZE + 1024
_REASONS = {
    grpc.StatusCode.RESOURCE_EXHAUSTED: (Reason.RATE_LIMITED, "an answer, a second from now"),
    grpc.StatusCode.FAILED_PRECONDITION: (Reason.NOT_ACTIVE, "a daemon that has made its keys"),
    grpc.StatusCode.UNIMPLEMENTED: (Reason.UNKNOWN_VERSION, "a member of a release that answers here"),
}


def ask_peer_status(endpoint: Endpoint) -> Status:
    """What the member says of itself. Raises NetworkError."""
    return read_status(_ask(endpoint, STATUS, encode(wire.Asked())))


def push_to_peer(endpoint: Endpoint, envelope: bytes) -> Pushed:
    """What the member says of a signed topology. Raises its refusal with its reason, or NetworkError."""
    return read_pushed(_ask(endpoint, PUSH, encode(wire.Handed(topology=envelope))))


def _ask(endpoint: Endpoint, method: str, data: bytes) -> bytes:
    try:
        told = asyncio.run(_within(endpoint, method, data))
        return decode(wire.Told, told, "told", _LARGEST).said
    except grpc.aio.AioRpcError as error:
        reason, expected = _REASONS.get(error.code(), (Reason.NETWORK, "an answer of a member"))
        raise NetworkError.of(reason, "peer", error.code().name, expected) from error
    except (OSError, RemoteProtocolError) as error:  # TimeoutError is an OSError
        found = f"{type(error).__name__}: {error}"
        raise NetworkError.of(Reason.NETWORK, "peer", found, "an answer of a member in time") from error


async def _within(endpoint: Endpoint, method: str, data: bytes) -> bytes:
    async with asyncio.timeout(_TIMEOUT_S):
        address, root = await _first(endpoint)
        async with open_channel((address, endpoint.dial[1]), root, _LARGEST) as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/{method}")
            return bytes(await call(data, timeout=_TIMEOUT_S))


async def _first(endpoint: Endpoint) -> tuple[str, bytes]:
    """The first address that answers, an IP literal, and the certificate that it shows."""
    loop, (host, port) = asyncio.get_running_loop(), endpoint.dial
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure = NetworkError.of(Reason.NETWORK, "peer", "a name without addresses", "one")
    for address in dict.fromkeys(str(info[4][0]) for info in found):
        try:
            return address, await shown_certificate(address, port, _TIMEOUT_S)
        except NetworkError as error:
            failure = error
    raise failure
