"""A program that begins every connection with reading a PROXY header, as the protocol's own text says.

https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt, 2.2. What is no header of version 2
raises.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from support.datapath import TIMEOUT
from toposeal_lab.pods import Pod

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_PROXY = 0x21
_SIZES = {0x11: 4, 0x21: 16}  # TCP over IPv4 and IPv6, and the bytes of an address
IDENTITY = 0xE0


@dataclass(frozen=True)
class Header:
    """What was said before the caller's bytes."""

    source: str
    destination: tuple[str, int]
    said: Mapping[int, bytes]  # by type


@dataclass
class Seen:
    header: Header
    data: bytes


def header_of(connection: socket.socket) -> Header:
    """Reads exactly one header. Raises ValueError."""
    start = _exactly(connection, 16)
    command, family, length = struct.unpack("!BBH", start[12:])
    if start[:12] != SIGNATURE or command != _PROXY or family not in _SIZES:
        raise ValueError(start.hex())
    rest, size = _exactly(connection, length), _SIZES[family]
    source, destination = rest[:size], rest[size : 2 * size]
    _, port = struct.unpack_from("!HH", rest, 2 * size)
    return Header(_text(source), (_text(destination), port), _said(rest[2 * size + 4 :]))


def made(source: str, destination: str, port: int, said: Mapping[int, bytes]) -> bytes:
    """A header that somebody makes up."""
    tail = b"".join(struct.pack("!BH", kind, len(value)) + value for kind, value in said.items())
    places = socket.inet_aton(source) + socket.inet_aton(destination) + struct.pack("!HH", 4096, port)
    return SIGNATURE + struct.pack("!BBH", _PROXY, 0x11, len(places + tail)) + places + tail


def _said(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while data:
        kind, length = struct.unpack_from("!BH", data)
        if kind in found or len(data) < 3 + length:
            raise ValueError(data.hex())
        found[kind], data = data[3 : 3 + length], data[3 + length :]
    return found


def _text(address: bytes) -> str:
    return str(ipaddress.ip_address(address))


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (more := connection.recv(size - len(data))):
            raise ValueError(f"ended after {data!r}")
        data += more
    return data


@contextlib.contextmanager
def proxied_application(
    pod: Pod, port: int, answer: bytes, *, first: bool = False, address: str = "0.0.0.0"
) -> Iterator[list[Seen | str]]:
    """What each connection began with, and what its caller then sent; or what was wrong with it.

    With `first` it answers as soon as it has the header, before the caller says anything.
    """
    seen: list[Seen | str] = []
    with pod.inside():
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.create_server((address, port), family=family, backlog=64)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(TIMEOUT)
                    _converse(connection, answer, first, seen)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(TIMEOUT)


def _converse(connection: socket.socket, answer: bytes, first: bool, seen: list[Seen | str]) -> None:
    try:
        header = header_of(connection)
    except ValueError as error:
        seen.append(str(error))
        return
    if first:
        connection.sendall(answer)
    seen.append(Seen(header, connection.recv(65_536)))
    if not first:
        connection.sendall(answer)
