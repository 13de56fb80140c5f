"""Fetches an attestation document over HTTPS within one deadline; judging it is outside.verify's.

TLS certificates are not verified, by design: the document authenticates itself against the owner's
key and the caller's nonce, nothing secret is sent, and trust begins with the CA pins that it gives.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from typing import Any, cast

from toposeal.errors import NetworkError, Reason
from toposeal.limits import MAX_DOCUMENT_SIZE, MAX_HTTP_HEADER, VERIFY_TIMEOUT
from toposeal.outside.endpoint import ATTESTATION_ALPN, ATTESTATION_TYPE, Endpoint, attestation_target

_READ_AHEAD = 1024  # how much of the body the header's budget may have to carry


def fetch_document(endpoint: Endpoint, nonce: bytes, timeout_s: float = VERIFY_TIMEOUT / 1000) -> bytes:
    """GET the document for `nonce` (32 bytes), at most MAX_DOCUMENT_SIZE bytes. Raises NetworkError.

    `timeout_s` bounds everything from the first connection attempt to the last byte, however slowly
    they drip (V7); a name lookup before it has the resolver's own limits.
    """
    try:
        addresses = socket.getaddrinfo(*endpoint.dial, type=socket.SOCK_STREAM)
        deadline = time.monotonic() + timeout_s
        with _connect(addresses, deadline) as plain, _handshake(plain, endpoint.host) as tls:
            tls.settimeout(_remaining(deadline))
            tls.sendall(_request(endpoint, nonce))
            return _receive(tls, deadline)
    except (OSError, UnicodeError, http.client.HTTPException) as error:
        found = f"{type(error).__name__}: {error}"
        raise _refusal("connection", found, "an attestation document in time") from error


def _connect(addresses: list[Any], deadline: float) -> socket.socket:
    """The first of `addresses` that answers: socket.create_connection, but within one deadline."""
    failure = OSError("the name has no address")
    for family, kind, protocol, _, address in addresses:
        plain = socket.socket(family, kind, protocol)
        try:
            plain.settimeout(_remaining(deadline))
            plain.connect(address)
            plain.settimeout(_remaining(deadline))  # the ssl module bounds the whole handshake by it
        except OSError as error:
            plain.close()
            failure = error
        else:
            return plain
    raise failure


def _handshake(plain: socket.socket, host: str) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([ATTESTATION_ALPN])
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # by design: see the module's docstring
    return context.wrap_socket(plain, server_hostname=host)


def _request(endpoint: Endpoint, nonce: bytes) -> bytes:
    return (
        f"GET {attestation_target(nonce)} HTTP/1.1\r\n"
        f"Host: {endpoint.authority}\r\n"
        f"Accept: {ATTESTATION_TYPE}\r\n"
        "Accept-Encoding: identity\r\n"
        "Connection: close\r\n\r\n"
    ).encode("ascii")


def _receive(tls: ssl.SSLSocket, deadline: float) -> bytes:
    """One response, which must be a plain 200: no redirect is followed and nothing is decompressed."""
    stream = _BoundedStream(tls, deadline)
    with http.client.HTTPResponse(cast(socket.socket, stream), method="GET") as response:
        response.begin()
        _check_head(response)
        stream.budget += MAX_DOCUMENT_SIZE
        body = response.read(MAX_DOCUMENT_SIZE + 1)
        if len(body) > MAX_DOCUMENT_SIZE:
            raise _refusal("http.body", "more", f"at most {MAX_DOCUMENT_SIZE} bytes")
        if response.length:
            raise _refusal("http.body", f"{len(body)} bytes, then the end", f"{response.length} more")
        return body


def _check_head(response: http.client.HTTPResponse) -> None:
    if response.status != http.HTTPStatus.OK:
        raise _refusal("http.status", response.status, "200, without a detour")
    coding = response.getheader("content-encoding", "identity")
    if coding != "identity":
        raise _refusal("http.content-encoding", coding, "identity")
    kind = response.getheader("content-type")
    if kind != ATTESTATION_TYPE:
        raise _refusal("http.content-type", kind, ATTESTATION_TYPE)
    if response.length is not None and response.length > MAX_DOCUMENT_SIZE:
        raise _refusal("http.content-length", response.length, f"at most {MAX_DOCUMENT_SIZE}")


class _BoundedStream(io.RawIOBase):
    """What http.client reads from: every read waits until the deadline at most and uses up the budget."""

    def __init__(self, tls: ssl.SSLSocket, deadline: float) -> None:
        self._tls = tls
        self._deadline = deadline
        self.budget = MAX_HTTP_HEADER + _READ_AHEAD

    def makefile(self, mode: str) -> io.BufferedReader:
        """The one method of a socket that http.client.HTTPResponse calls."""
        return io.BufferedReader(self, _READ_AHEAD)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.budget == 0:
            raise _refusal("http", "ever more bytes", "a header and a body within their limits")
        self._tls.settimeout(_remaining(self._deadline))
        count = self._tls.recv_into(buffer, min(len(buffer), self.budget))
        self.budget -= count
        return count


def _remaining(deadline: float) -> float:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError("the deadline passed")
    return remaining


def _refusal(field: str, found: object, expected: str) -> NetworkError:
    return NetworkError.of(Reason.NETWORK, field, found, expected)
