"""Agents of measured guests as their sources describe them, on real Unix sockets, with simulated TDX quotes.

The attestation agent's messages are taken apart and put together byte by byte, without the daemon's schema.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from toposeal_lab.tsm_providers import TdxProvider

Quote = Callable[[bytes], bytes]
Handle = Callable[[socket.socket], None]
SERVICE = b"attestation_agent.AttestationAgentService"
LOG = base64.b64encode(b"firmware's log").decode()


@contextlib.contextmanager
def serving(path: Path, handle: Handle) -> Iterator[list[int]]:
    """Each connection to `path` is `handle`d, one after the other; a list that is as long as there were."""
    seen: list[int] = []
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                seen.append(len(seen))
                with connection, contextlib.suppress(OSError, EOFError):
                    handle(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def raw(report_data: bytes, provider: TdxProvider) -> bytes:
    """As both agents do with up to 64 bytes."""
    return provider.report(report_data.ljust(64, b"\0"), 0).outblob


def coco(quote: Quote) -> Handle:
    """attestation-agent on TDX: ttrpc, the quote in JSON."""

    def evidence(report_data: bytes) -> bytes:
        said = {"cc_eventlog": LOG, "quote": base64.b64encode(quote(report_data)).decode()}
        return json.dumps(said).encode()

    return ttrpc(evidence)


def ttrpc(evidence: Callable[[bytes], bytes]) -> Handle:
    """Answers GetEvidence with what `evidence` makes of the runtime data."""

    def handle(connection: socket.socket) -> None:
        stream, request = request_of(connection)
        if (request[1], request[2]) != (SERVICE, b"GetEvidence") or not request[4]:
            connection.sendall(frame(stream, field(1, status(12, b"unimplemented"))))
            return
        found = evidence(fields(request[3])[1])
        connection.sendall(frame(stream, field(2, field(1, found))))

    return handle


def request_of(connection: socket.socket) -> tuple[int, dict[int, Any]]:
    length, stream, kind, flags = struct.unpack("!IIBB", exactly(connection, 10))
    assert (kind, flags, stream % 2) == (1, 0, 1)
    return stream, fields(exactly(connection, length))


def frame(stream: int, data: bytes, kind: int = 2, length: int | None = None) -> bytes:
    return struct.pack("!IIBB", len(data) if length is None else length, stream, kind, 0) + data


def status(code: int, text: bytes) -> bytes:
    return b"\x08" + bytes([code]) + field(2, text)


def field(number: int, value: bytes) -> bytes:
    """Of protobuf: a field that its length precedes."""
    return bytes([number << 3 | 2]) + _varint(len(value)) + value


def fields(data: bytes) -> dict[int, Any]:
    """Field numbers to bytes or numbers."""
    found: dict[int, Any] = {}
    while data:
        tag, data = _number(data)
        value, data = _number(data)
        if tag & 7 == 2:
            found[tag >> 3], data = data[:value], data[value:]
        else:
            found[tag >> 3] = value
    return found


def exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (more := connection.recv(size - len(data))):
            raise EOFError
        data += more
    return data


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + _varint(number >> 7)


def _number(data: bytes) -> tuple[int, bytes]:
    number = shift = 0
    for at, byte in enumerate(data):
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return number, data[at + 1 :]
    raise EOFError


def dstack(quote: Quote) -> Handle:
    """dstack's guest agent: HTTP/1.1, hex in JSON."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            report_data = bytes.fromhex(asked["report_data"])
            if self.path != "/GetQuote" or len(report_data) > 64:
                self._say(400, {"error": "Report data is too long"})
                return
            said = {
                "quote": quote(report_data).hex(),
                "event_log": json.dumps([{"imr": 0, "event": "", "digest": "00" * 48}]),
                "report_data": report_data.ljust(64, b"\0").hex(),
                "vm_config": json.dumps({"cpu_count": 2}),
            }
            self._say(200, said)

        def _say(self, code: int, value: object) -> None:
            body = json.dumps(value).encode()
            self.send_response(code)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    def handle(connection: socket.socket) -> None:
        Handler(connection, ("agent", 0), socketserver.BaseServer(("", 0), Handler))

    return handle


def http(status: str, *lines: str, body: bytes = b"") -> Handle:
    """Whatever it is asked: one fixed answer."""
    head = "\r\n".join((f"HTTP/1.1 {status}", *lines, "", "")).encode()

    def handle(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(head + body)

    return handle
