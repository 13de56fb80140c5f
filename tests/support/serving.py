"""A member's attestation port as an outside verifier sees it, over real TLS."""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from support.tls import TlsServer, answer, tls_server

_NONCE = re.compile(rb"\?nonce=([0-9a-f]{64}) ")


@contextlib.contextmanager
def serve_documents(
    directory: Path, document: Callable[[bytes], bytes], others: Mapping[str, bytes] | None = None
) -> Iterator[TlsServer]:
    """Answer every request with `document(nonce)` until the block ends, but those for a path of `others`."""
    server: TlsServer

    def handler(tls: ssl.SSLSocket) -> None:
        path = server.requests[-1].split(b" ")[1].decode("ascii")
        if others is not None and path in others:
            tls.sendall(others[path])
            return
        match = _NONCE.search(server.requests[-1])
        nonce = bytes.fromhex(match[1].decode("ascii")) if match else b""
        tls.sendall(answer(document(nonce)))

    with tls_server(directory, handler) as server:
        yield server
