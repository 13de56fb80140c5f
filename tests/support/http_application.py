"""A program that speaks HTTP/1 and HTTP/2 in clear, byte by byte, and remembers what it was sent; and the
client's side of HTTP/2.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import h2.config
import h2.connection
import h2.events

from toposeal_lab.pods import Pod

TICK_S = 0.02
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
Headers = list[tuple[bytes, bytes]]
E = TypeVar("E", bound=h2.events.Event)


@dataclass
class Application:
    """`heads` of HTTP/1 requests as they came, `requests` of HTTP/2; `bodies` of both."""

    name: bytes
    heads: list[bytes] = field(default_factory=list)
    requests: list[Headers] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def converse(self, sock: socket.socket) -> None:
        data = b""
        while len(data) < len(PREFACE) and PREFACE.startswith(data):
            more = sock.recv(65_536)
            if not more:
                return
            data += more
        if data.startswith(PREFACE):
            self._http2(sock, data)
        else:
            self._http1(sock, data)

    def _http1(self, sock: socket.socket, data: bytes) -> None:
        """One request after the other until there are no more."""
        while True:
            while b"\r\n\r\n" not in data:
                more = sock.recv(65_536)
                if not more:
                    return
                data += more
            head, _, data = data.partition(b"\r\n\r\n")
            self.heads.append(head)
            lower = head.lower()
            if b"upgrade: websocket" in lower:
                sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n")
                sock.sendall(b"Connection: Upgrade\r\n\r\n" + data)
                while data := sock.recv(65_536):
                    sock.sendall(data)
                return
            if b"transfer-encoding: chunked" in lower:
                data = self._chunks(sock, data)
            if head.startswith(b"GET /ticks"):
                self._tick(sock)
            answer = b"HTTP/1.1 200 OK\r\nX-Served-By: %b\r\nserver: own\r\ncontent-length: %d\r\n\r\n%b"
            sock.sendall(answer % (self.name, len(self.name), self.name))

    def _chunks(self, sock: socket.socket, data: bytes) -> bytes:
        """Reads one body; what follows it."""
        body = b""
        while True:
            while b"\r\n" not in data:
                data += sock.recv(65_536)
            size, _, data = data.partition(b"\r\n")
            while len(data) < int(size, 16) + 2:
                data += sock.recv(65_536)
            body, data = body + data[: int(size, 16)], data[int(size, 16) + 2 :]
            if int(size, 16) == 0:
                self.bodies.append(body)
                return data

    def _tick(self, sock: socket.socket) -> None:
        """An answer without an end."""
        sock.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            sock.sendall(b"4\r\ntick\r\n")
            time.sleep(TICK_S)

    def _http2(self, sock: socket.socket, data: bytes) -> None:
        """Answers with the name of this one, echoes every message at once, and ends as gRPC does."""
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        while data:
            for event in connection.receive_data(data):
                self._answer(connection, event)
            sock.sendall(connection.data_to_send())
            data = sock.recv(65_536)

    def _answer(self, connection: h2.connection.H2Connection, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self.requests.append([(bytes(name), bytes(value)) for name, value in event.headers])
            connection.send_headers(event.stream_id, [(":status", "200"), ("x-served-by", self.name)])
        elif isinstance(event, h2.events.DataReceived):
            self.bodies.append(event.data)
            connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            connection.send_data(event.stream_id, event.data)
        elif isinstance(event, h2.events.StreamEnded):
            connection.send_headers(event.stream_id, [("grpc-status", "0")], end_stream=True)


@contextlib.contextmanager
def http_application(pod: Pod, port: int, name: bytes) -> Iterator[Application]:
    """A program of the pod at `port` for as many connections as come."""
    application = Application(name)
    with pod.inside():
        listener = socket.create_server(("0.0.0.0", port), backlog=64)
    accepted: list[socket.socket] = []

    def work(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            application.converse(sock)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                accepted.append(sock)
                threading.Thread(target=work, args=(sock,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield application
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for sock in accepted:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class Http2Client:
    """One connection by prior knowledge; every call waits for what it names."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._connection = h2.connection.H2Connection()
        self._connection.initiate_connection()
        self._events: list[h2.events.Event] = []

    def call(self, path: str, *more: tuple[str, str]) -> int:
        """Begin a call; its stream."""
        stream = self._connection.get_next_available_stream_id()
        pseudo = [(":method", "POST"), (":scheme", "http"), (":authority", "api"), (":path", path)]
        self._connection.send_headers(stream, [*pseudo, ("content-type", "application/grpc"), *more])
        self._flush()
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        self._connection.send_data(stream, data, end_stream=end)
        self._flush()

    def answer(self, stream: int) -> dict[bytes, bytes]:
        """The headers of the answer."""
        return _headers(self._wait(stream, h2.events.ResponseReceived))

    def message(self, stream: int) -> bytes:
        return self._wait(stream, h2.events.DataReceived).data

    def trailers(self, stream: int) -> dict[bytes, bytes]:
        return _headers(self._wait(stream, h2.events.TrailersReceived))

    def reset(self, stream: int) -> None:
        """Return when the other end has given it up."""
        self._wait(stream, h2.events.StreamReset)

    def _wait(self, stream: int, kind: type[E]) -> E:
        while True:
            for event in self._events:
                if isinstance(event, kind) and getattr(event, "stream_id", None) == stream:
                    self._events.remove(event)
                    return event
            data = self._sock.recv(65_536)
            assert data, f"the connection ended before {kind.__name__}"
            self._events += self._connection.receive_data(data)
            self._flush()

    def _flush(self) -> None:
        self._sock.sendall(self._connection.data_to_send())


def _headers(event: object) -> dict[bytes, bytes]:
    return {bytes(name): bytes(value) for name, value in event.headers}  # type: ignore[attr-defined]
