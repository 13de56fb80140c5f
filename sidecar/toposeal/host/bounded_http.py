"""A stranger's HTTP response read within one deadline and one budget of bytes; no meaning is given to it."""

from __future__ import annotations

import http.client
import io
import socket
import time
from typing import Any

from toposeal.errors import NetworkError, Reason
from toposeal.limits import MAX_HTTP_HEADER

_READ_AHEAD = 1024  # how much of the body the header's budget may have to carry


def connect(addresses: list[Any], deadline: float) -> socket.socket:
    """The first of `addresses` that answers: socket.create_connection, but within one deadline.

    `addresses` is getaddrinfo's answer, `deadline` on the monotonic clock. Raises OSError.
    """
    failure = OSError("the name has no address")
    for family, kind, protocol, _, address in addresses:
        plain = socket.socket(family, kind, protocol)
        try:
            plain.settimeout(remaining(deadline))
            plain.connect(address)
            plain.settimeout(remaining(deadline))  # the ssl module bounds the whole handshake by it
        except OSError as error:
            plain.close()
            failure = error
        else:
            return plain
    raise failure


class BoundedStream(io.RawIOBase):
    """What http.client reads from: every read waits until the deadline at most and uses up the budget."""

    def __init__(self, connection: socket.socket, deadline: float, header: int = MAX_HTTP_HEADER) -> None:
        self._connection = connection
        self._deadline = deadline
        self.budget = header + _READ_AHEAD

    def makefile(self, mode: str) -> io.BufferedReader:
        """The one method of a socket that http.client.HTTPResponse calls."""
        return io.BufferedReader(self, _READ_AHEAD)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.budget == 0:
            raise refusal("http", "ever more bytes", "a header and a body within their limits")
        self._connection.settimeout(remaining(self._deadline))
        count = self._connection.recv_into(buffer, min(len(buffer), self.budget))
        self.budget -= count
        return count


def read_body(response: http.client.HTTPResponse, stream: BoundedStream, limit: int) -> bytes:
    """All of it, at most `limit` bytes. Raises NetworkError for more, and for less than was announced."""
    stream.budget += limit
    body = response.read(limit + 1)
    if len(body) > limit:
        raise refusal("http.body", "more", f"at most {limit} bytes")
    if response.length:
        raise refusal("http.body", f"{len(body)} bytes, then the end", f"{response.length} more")
    return body


def remaining(deadline: float) -> float:
    """Seconds until `deadline`. Raises TimeoutError from then on."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline passed")
    return left


def refusal(field: str, found: object, expected: str) -> NetworkError:
    return NetworkError.of(Reason.NETWORK, field, found, expected)
