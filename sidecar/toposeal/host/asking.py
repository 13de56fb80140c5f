"""Asks a member something small over HTTPS, within one deadline; what it answers is its word.

TLS certificates are not verified, as for documents: nothing secret is sent, and nothing is believed.
"""

from __future__ import annotations

import http.client
import socket
import time
from typing import cast

from toposeal.host.bounded_http import BoundedStream, connect, read_body, refusal, remaining
from toposeal.host.fetch import handshake
from toposeal.limits import MAX_HISTORY_MESSAGE, MAX_STATUS_SIZE, VERIFY_TIMEOUT
from toposeal.outside.endpoint import HISTORY_PATH, STATUS_PATH, TOPOLOGY_PATH, Endpoint
from toposeal.outside.history import HISTORY_TYPE
from toposeal.outside.pushed import MAX_PUSH_ANSWER, PUSH_TYPE, Pushed, read_pushed
from toposeal.outside.status import STATUS_TYPE, Status, read_status

_TIMEOUT_S = VERIFY_TIMEOUT / 1000


def push_topology(endpoint: Endpoint, envelope: bytes) -> Pushed:
    """What the member says of a signed topology. Raises its refusal with its reason, or NetworkError."""
    more = f"Content-Type: application/json\r\nContent-Length: {len(envelope)}\r\n"
    request = _head("POST", TOPOLOGY_PATH, endpoint, more) + envelope
    return read_pushed(_exchange(endpoint, request, PUSH_TYPE, MAX_PUSH_ANSWER))


def ask_status(endpoint: Endpoint) -> Status:
    """What the member says of itself. Raises NetworkError."""
    return read_status(
        _exchange(endpoint, _head("GET", STATUS_PATH, endpoint, ""), STATUS_TYPE, MAX_STATUS_SIZE)
    )


def ask_history(endpoint: Endpoint) -> bytes:
    """What the member knows of manifests before its own, for `outside.history`. Raises NetworkError."""
    return _exchange(endpoint, _head("GET", HISTORY_PATH, endpoint, ""), HISTORY_TYPE, MAX_HISTORY_MESSAGE)


def _exchange(endpoint: Endpoint, request: bytes, kind: str, limit: int) -> bytes:
    """The body of a response of media type `kind`, of at most `limit` bytes, whatever its status."""
    try:
        addresses = socket.getaddrinfo(*endpoint.dial, type=socket.SOCK_STREAM)
        deadline = time.monotonic() + _TIMEOUT_S
        with connect(addresses, deadline) as plain, handshake(plain, endpoint.host) as tls:
            tls.settimeout(remaining(deadline))
            tls.sendall(request)
            stream = BoundedStream(tls, deadline)
            with http.client.HTTPResponse(cast(socket.socket, stream), method="GET") as response:
                response.begin()
                body = read_body(response, stream, limit)
    except (OSError, ValueError, http.client.HTTPException) as error:
        found = f"{type(error).__name__}: {error}"
        raise refusal("connection", found, "an answer in time") from error
    if response.getheader("content-type") != kind:
        raise refusal("http.status", response.status, "an answer of a member")
    return body


def _head(method: str, path: str, endpoint: Endpoint, more: str) -> bytes:
    host = f"Host: {endpoint.authority}\r\n"
    return f"{method} {path} HTTP/1.1\r\n{host}{more}Connection: close\r\n\r\n".encode("ascii")
