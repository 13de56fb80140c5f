"""The host's own servers: an impostor on any address and port, a resolver that lies.

They run as threads of the lab, on sockets that were made inside the rogue pod.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from toposeal_lab.clients import Credential, server_context
from toposeal_lab.pods import Pod

SPOIL = b"+ROGUE\r\n"  # what a redis client would take for an answer
_TIMEOUT_S = 3.0
_POLL_S = 0.1


@contextmanager
def impostor(pod: Pod, port: int, credential: Credential | None = None) -> Iterator[list[bytes]]:
    """Answer SPOIL to whatever is sent to `port`; TLS with `credential`. Yields what victims sent."""
    caught: list[bytes] = []
    context = None if credential is None else server_context(credential)

    def serve(connection: socket.socket) -> None:
        with suppress(OSError), _secured(connection, context) as victim:
            caught.append(victim.recv(4096))
            victim.sendall(SPOIL)

    with _listening(_stream_socket(pod, port), serve):
        yield caught


@contextmanager
def lying_resolver(pod: Pod, address: str) -> Iterator[list[bytes]]:
    """Answer every DNS question over UDP with `address` (IPv4). Yields the questions asked."""
    asked: list[bytes] = []
    with pod.inside():
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("", 53))
    udp.settimeout(_POLL_S)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            with suppress(TimeoutError):
                query, sender = udp.recvfrom(512)
                asked.append(query)
                udp.sendto(_lie(query, address), sender)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield asked
    finally:
        stop.set()
        thread.join()
        udp.close()


@contextmanager
def _listening(listener: socket.socket, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    stop = threading.Event()
    listener.settimeout(_POLL_S)

    def accept() -> None:
        while not stop.is_set():
            with suppress(TimeoutError):
                connection, _ = listener.accept()
                connection.settimeout(_TIMEOUT_S)
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        listener.close()


def _stream_socket(pod: Pod, port: int) -> socket.socket:
    with pod.inside():
        return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)


@contextmanager
def _secured(connection: socket.socket, context: ssl.SSLContext | None) -> Iterator[socket.socket]:
    with connection:
        if context is None:
            yield connection
        else:
            with context.wrap_socket(connection, server_side=True) as tls:
                yield tls


def _lie(query: bytes, address: str) -> bytes:
    """An answer to an A question; an AAAA question gets none, so that the client keeps to A."""
    end = query.index(b"\0", 12) + 5
    question, is_a = query[12:end], query[end - 4 : end - 2] == b"\0\x01"
    header = query[:2] + b"\x81\x80\0\x01\0" + bytes([is_a]) + bytes(4)
    record = b"\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04" + ipaddress.IPv4Address(address).packed
    return header + question + (record if is_a else b"")
