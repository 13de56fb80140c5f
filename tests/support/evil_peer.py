"""Run outside of the pods: a peer that answers every connection with another kind of nonsense.

usage: evil_peer.py ADDRESS PORT PEM   prints `ready`, goes on until standard input ends, then prints how
often each kind was met.
"""

import contextlib
import itertools
import os
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable

ADDRESS, PORT, PEM = sys.argv[1], int(sys.argv[2]), sys.argv[3]
SETTINGS, HEADERS, GOAWAY = 0x4, 0x1, 0x7
met: dict[str, int] = {}


def main() -> None:
    listener = socket.create_server((ADDRESS, PORT), backlog=100)
    print("ready", flush=True)
    threading.Thread(target=accept, args=(listener,), daemon=True).start()
    sys.stdin.read()
    print(dict(sorted(met.items())), flush=True)


def accept(listener: socket.socket) -> None:
    kinds = (hang_up, reset, silent, garbage, alert, half, goodbye, noise, late, goaway, error, old, mute)
    for kind in itertools.cycle(kinds):
        client = listener.accept()[0]
        client.settimeout(3)
        threading.Thread(target=answer, args=(kind, client), daemon=True).start()


def answer(kind: Callable[[socket.socket], None], client: socket.socket) -> None:
    met[kind.__name__] = met.get(kind.__name__, 0) + 1
    with contextlib.suppress(OSError), client:
        kind(client)


def hang_up(client: socket.socket) -> None:
    pass


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def silent(client: socket.socket) -> None:
    time.sleep(1)


def garbage(client: socket.socket) -> None:
    client.sendall(os.urandom(1 << 16))


def alert(client: socket.socket) -> None:
    client.sendall(b"\x15\x03\x03\x00\x02\x02\x28")


def half(client: socket.socket) -> None:
    """The beginning of a ServerHello."""
    client.recv(4096)
    client.sendall(b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03")


def goodbye(client: socket.socket) -> None:
    """Closed as soon as the handshake is over, with a word after it."""
    with tls(client) as connection:
        connection.unwrap()
        client.sendall(b"\x17\x03\x03\x00\x05hello")


def noise(client: socket.socket) -> None:
    with tls(client) as connection:
        connection.sendall(os.urandom(1 << 16))
        time.sleep(0.2)


def late(client: socket.socket) -> None:
    """HTTP/2 that never answers the call."""
    with http2(client):
        time.sleep(1)


def goaway(client: socket.socket) -> None:
    """With a text that would colour a terminal."""
    with http2(client) as connection:
        text = b"\x1b[31mcanary\r\n" * 100
        connection.sendall(frame(GOAWAY, 0, struct.pack(">II", 0, 2) + text))
        time.sleep(0.2)


def error(client: socket.socket) -> None:
    """An HTTP answer that is none of gRPC's, with such a text too."""
    with http2(client) as connection:
        fields = ((":status", "500"), ("grpc-status", "2"), ("grpc-message", "\x1b[31mcanary" * 9))
        block = b"".join(b"\0" + word(name) + word(value) for name, value in fields)
        for stream in (1, 3):
            connection.sendall(frame(HEADERS, stream, block, 0x5))
        time.sleep(0.2)


def old(client: socket.socket) -> None:
    context = server_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.wrap_socket(client, server_side=True).close()


def mute(client: socket.socket) -> None:
    """TLS without the protocol that was asked for."""
    with server_context().wrap_socket(client, server_side=True):
        time.sleep(0.2)


def http2(client: socket.socket) -> ssl.SSLSocket:
    connection = tls(client)
    connection.sendall(frame(SETTINGS, 0, b""))
    connection.recv(1 << 16)
    return connection


def tls(client: socket.socket) -> ssl.SSLSocket:
    context = server_context()
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(client, server_side=True)


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    return context


def word(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


def frame(kind: int, stream: int, payload: bytes, flags: int = 0) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


if __name__ == "__main__":
    main()
