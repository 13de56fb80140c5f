"""Fetches an attestation document over HTTPS within one deadline; judging it is outside.verify's.

TLS certificates are not verified, by design: the document authenticates itself against the owner's
key and the caller's nonce, nothing secret is sent, and trust begins with the CA pins that it gives.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from typing import cast

from toposeal.host.bounded_http import BoundedStream, connect, read_body, refusal, remaining
from toposeal.limits import MAX_DOCUMENT_SIZE, VERIFY_TIMEOUT
from toposeal.outside.endpoint import ATTESTATION_ALPN, ATTESTATION_TYPE, Endpoint, attestation_target


def fetch_document(endpoint: Endpoint, nonce: bytes, timeout_s: float = VERIFY_TIMEOUT / 1000) -> bytes:
    """GET the document for `nonce` (32 bytes), at most MAX_DOCUMENT_SIZE bytes. Raises NetworkError.

    `timeout_s` bounds everything from the first connection attempt to the last byte, however slowly
    they drip (V7); a name lookup before it has the resolver's own limits.
    """
    try:
        addresses = socket.getaddrinfo(*endpoint.dial, type=socket.SOCK_STREAM)
        deadline = time.monotonic() + timeout_s
        with connect(addresses, deadline) as plain, handshake(plain, endpoint.host) as tls:
            tls.settimeout(remaining(deadline))
            tls.sendall(_request(endpoint, nonce))
            return _receive(tls, deadline)
    except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: a chunk below 0
        found = f"{type(error).__name__}: {error}"
        raise refusal("connection", found, "an attestation document in time") from error


def handshake(plain: socket.socket, host: str) -> ssl.SSLSocket:
    """TLS with whoever is there, within the timeout of `plain`. Raises OSError."""
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
    stream = BoundedStream(tls, deadline)
    with http.client.HTTPResponse(cast(socket.socket, stream), method="GET") as response:
        response.begin()
        _check_head(response)
        return read_body(response, stream, MAX_DOCUMENT_SIZE)


def _check_head(response: http.client.HTTPResponse) -> None:
    if response.status != http.HTTPStatus.OK:
        raise refusal("http.status", response.status, "200, without a detour")
    coding = response.getheader("content-encoding", "identity")
    if coding != "identity":
        raise refusal("http.content-encoding", coding, "identity")
    kind = response.getheader("content-type")
    if kind != ATTESTATION_TYPE:
        raise refusal("http.content-type", kind, ATTESTATION_TYPE)
    if response.length is not None and response.length > MAX_DOCUMENT_SIZE:
        raise refusal("http.content-length", response.length, f"at most {MAX_DOCUMENT_SIZE}")
