"""A relay between an outside verifier and a member, which may change what it relays.

A relay that changes nothing is harmless, since the document authenticates itself: that is the
positive control of every attack on it.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

from toposeal.host.fetch import fetch_document
from toposeal.outside.endpoint import ATTESTATION_TYPE, Endpoint
from toposeal_lab.clients import server_context
from toposeal_lab.forge import stranger
from toposeal_lab.pods import Pod

Answer = Callable[[bytes], bytes]  # nonce, 32 bytes -> document
_NONCE = re.compile(r"nonce=([0-9a-f]{64})$")


def document_of(url: str, at: Pod, nonce: bytes) -> bytes:
    """The document that the member behind `url` gives for `nonce`, asked for from `at`."""
    with at.inside():
        return fetch_document(Endpoint.parse(url), nonce)


@contextmanager
def relay(pod: Pod, port: int, answer: Answer) -> Iterator[str]:
    """Serve `answer(nonce)` on `port` of `pod` over HTTPS while the block runs; yields the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            match = _NONCE.search(self.path)
            document = answer(bytes.fromhex(match[1])) if match else b""
            self.send_response(200)
            self.send_header("Content-Type", ATTESTATION_TYPE)
            self.send_header("Content-Length", str(len(document)))
            self.end_headers()
            self.wfile.write(document)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = HTTPServer(("", port), Handler, bind_and_activate=False)
    server.socket.close()
    with pod.inside():
        listener = socket.create_server(("", port))
    server.socket = server_context(stranger(["spiffe://stranger/relay"])).wrap_socket(
        listener, server_side=True
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://{pod.ipv4}:{port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
