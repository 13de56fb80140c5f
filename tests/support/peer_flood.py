"""Run outside of the pods: everything that a stranger can do to a peer port without saying anything true.

usage: peer_flood.py PORT ADDRESS...   prints `ready` once every kind holds or has held a connection to
the first address; goes on until standard input ends. Addresses that do not answer yet are tried again.
"""

import contextlib
import os
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable

PORT, ADDRESSES = int(sys.argv[1]), sys.argv[2:]
SILENT, HALF, MUTE = 300, 50, 20
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, CONTINUATION = 0x0, 0x1, 0x3, 0x4, 0x6, 0x9
END_HEADERS = 0x4
over = threading.Event()
seen: dict[str, int] = {}


def main() -> None:
    attacks = (silent, half_hello, mute, drip, garbage_in_clear, garbage_in_tls, pings, resets, headers)
    for address in ADDRESSES:
        for attack in attacks:
            threading.Thread(target=repeat, args=(attack, address), daemon=True).start()
    while len(seen) < len(attacks):
        time.sleep(0.01)
    print("ready", flush=True)
    sys.stdin.read()
    over.set()
    print(dict(sorted(seen.items())), flush=True)


def repeat(attack: Callable[[str], None], address: str) -> None:
    while not over.is_set():
        with contextlib.suppress(OSError, EOFError):
            attack(address)
        time.sleep(0.05)


def count(attack: str) -> None:
    seen[attack] = seen.get(attack, 0) + 1


def silent(address: str) -> None:
    """Connected, and nothing more."""
    hold([connect(address) for _ in range(SILENT)], "silent")


def half_hello(address: str) -> None:
    """The first bytes of a ClientHello."""
    connections = [connect(address) for _ in range(HALF)]
    for connection in connections:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01")
    hold(connections, "half_hello")


def mute(address: str) -> None:
    """TLS, and nothing in it."""
    hold([tls(address) for _ in range(MUTE)], "mute")


def drip(address: str) -> None:
    """One call whose message comes byte by byte and never ends."""
    with http2(address) as connection:
        connection.sendall(
            frame(HEADERS, 1, call(), END_HEADERS) + frame(DATA, 1, b"\0" + struct.pack(">I", 300_000))
        )
        count("drip")
        while not over.wait(0.1):
            connection.sendall(frame(DATA, 1, b"x"))


def garbage_in_clear(address: str) -> None:
    with connect(address) as connection:
        connection.sendall(os.urandom(4096))
        count("garbage_in_clear")
        connection.recv(1)


def garbage_in_tls(address: str) -> None:
    with http2(address) as connection:
        connection.sendall(os.urandom(1 << 16))
        count("garbage_in_tls")
        while connection.recv(4096):
            pass


def pings(address: str) -> None:
    with http2(address) as connection:
        count("pings")
        while not over.is_set():
            connection.sendall(frame(PING, 0, bytes(8)) * 100)
            time.sleep(0.01)


def resets(address: str) -> None:
    """Calls that are taken back at once."""
    with http2(address) as connection:
        count("resets")
        for stream in range(1, 20_000, 2):
            connection.sendall(frame(HEADERS, stream, call(), END_HEADERS) + frame(RESET, stream, bytes(4)))
            if over.is_set():
                return
            time.sleep(0.001)


def headers(address: str) -> None:
    """One call whose metadata never ends."""
    with http2(address) as connection:
        block = call() + b"".join(literal(f"x-{n}", "y" * 100) for n in range(100))
        count("headers")
        connection.sendall(frame(HEADERS, 1, block[:16_000], 0))
        while not over.is_set():
            connection.sendall(frame(CONTINUATION, 1, block[:16_000], 0))
            time.sleep(0.01)


def call() -> bytes:
    """What gRPC needs to route a call to `Deliver`."""
    fields = {
        ":method": "POST",
        ":scheme": "https",
        ":path": "/toposeal.v1.Peer/Deliver",
        ":authority": "toposeal-peer",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    return b"".join(literal(name, value) for name, value in fields.items())


def literal(name: str, value: str) -> bytes:
    """HPACK without index and without Huffman (RFC 7541, 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def frame(kind: int, stream: int, payload: bytes, flags: int = 0) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def http2(address: str) -> ssl.SSLSocket:
    connection = tls(address)
    connection.sendall(PREFACE + frame(SETTINGS, 0, b""))
    return connection


def tls(address: str) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(connect(address))


def connect(address: str) -> socket.socket:
    return socket.create_connection((address, PORT), 5)


def hold(connections: Iterable[socket.socket], attack: str) -> None:
    count(attack)
    over.wait(4)
    for connection in connections:
        connection.close()


if __name__ == "__main__":
    main()
