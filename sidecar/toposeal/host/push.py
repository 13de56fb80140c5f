"""Gives a member a signed topology over HTTPS, within one deadline.

TLS certificates are not verified, as for documents: the owner's signatures are all that counts, nothing
secret is sent, and the answer is somebody's word.
"""

from __future__ import annotations

import http.client
import socket
import time
from typing import cast

from toposeal.host.bounded_http import BoundedStream, connect, refusal, remaining
from toposeal.host.fetch import handshake
from toposeal.limits import VERIFY_TIMEOUT
from toposeal.outside.endpoint import TOPOLOGY_PATH, Endpoint
from toposeal.outside.pushed import MAX_PUSH_ANSWER, PUSH_TYPE, Pushed, read_answer


def push_topology(endpoint: Endpoint, envelope: bytes, timeout_s: float = VERIFY_TIMEOUT / 1000) -> Pushed:
    """What the member says of it. Raises its refusal with its reason, or NetworkError."""
    try:
        addresses = socket.getaddrinfo(*endpoint.dial, type=socket.SOCK_STREAM)
        deadline = time.monotonic() + timeout_s
        with connect(addresses, deadline) as plain, handshake(plain, endpoint.host) as tls:
            tls.settimeout(remaining(deadline))
            tls.sendall(_head(endpoint, len(envelope)) + envelope)
            stream = BoundedStream(tls, deadline)
            with http.client.HTTPResponse(cast(socket.socket, stream), method="POST") as response:
                response.begin()
                kind = response.getheader("content-type")
                body = response.read(MAX_PUSH_ANSWER)
    except (OSError, ValueError, http.client.HTTPException) as error:
        found = f"{type(error).__name__}: {error}"
        raise refusal("connection", found, "an answer in time") from error
    if kind != PUSH_TYPE:
        raise refusal("http.status", response.status, "a member's answer to a topology")
    return read_answer(body)


def _head(endpoint: Endpoint, size: int) -> bytes:
    return (
        f"POST {TOPOLOGY_PATH} HTTP/1.1\r\n"
        f"Host: {endpoint.authority}\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {size}\r\n"
        "Connection: close\r\n\r\n"
    ).encode("ascii")
