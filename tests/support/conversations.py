"""Programs that know nothing of toposeal, as scripts: `serve`, and a client of each kind of conversation.

Run as text by the distribution's Python inside a pod, as any user: `python -c TEXT serve`, or
`python -c TEXT <conversation> <host> [size]`. Nothing but the standard library.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import os
import resource
import socket
import struct
import sys
import threading
from collections.abc import Callable

ECHO, FIRST, HALF_CLIENT, HALF_SERVER, COUNTED, WEBSOCKET, ABORT, HTTP, WHO, NOBODY = range(9001, 9011)
TIMEOUT_S = 60.0
BANNER = b"220 ready\r\n"
ANSWER = 4 << 20
RESET, UNKNOWN = -1, -2
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_counted = [UNKNOWN]


def take(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        more = sock.recv(min(size - len(data), 1 << 16))
        if not more:
            raise EOFError(f"{len(data)} of {size} bytes")
        data += more
    return bytes(data)


def until_end(sock: socket.socket) -> bytes:
    data = bytearray()
    while more := sock.recv(1 << 16):
        data += more
    return bytes(data)


def echo(sock: socket.socket) -> None:
    while data := sock.recv(1 << 16):
        sock.sendall(data)


def speak_first(sock: socket.socket) -> None:
    sock.sendall(BANNER)
    echo(sock)


def answer_at_the_end(sock: socket.socket) -> None:
    sock.sendall(hashlib.sha256(until_end(sock)).digest() + bytes(ANSWER))


def end_first(sock: socket.socket) -> None:
    _counted[0] = UNKNOWN
    sock.sendall(BANNER)
    try:
        sock.shutdown(socket.SHUT_WR)  # not connected any more, if a reset was faster
        _counted[0] = len(until_end(sock))
    except OSError:
        _counted[0] = RESET


def count(sock: socket.socket) -> None:
    sock.sendall(str(_counted[0]).encode())


def abort(sock: socket.socket) -> None:
    sock.recv(100)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def who(sock: socket.socket) -> None:
    sock.sendall(sock.getpeername()[0].encode())


def websocket(sock: socket.socket) -> None:
    """RFC 6455: echo text and binary messages, answer pings, close when asked."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += take(sock, 1)
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
    proof = base64.b64encode(hashlib.sha1(fields[b"Sec-WebSocket-Key"] + _MAGIC).digest())
    sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
    sock.sendall(b"Sec-WebSocket-Accept: " + proof + b"\r\n\r\n")
    while True:
        kind, data = read_frame(sock)
        send_frame(sock, {9: 10}.get(kind, kind), data)
        if kind == 8:
            return


def read_frame(sock: socket.socket) -> tuple[int, bytes]:
    first, second = take(sock, 2)
    size = second & 0x7F
    if size == 126:
        (size,) = struct.unpack(">H", take(sock, 2))
    elif size == 127:
        (size,) = struct.unpack(">Q", take(sock, 8))
    mask = take(sock, 4) if second & 0x80 else bytes(4)
    data = take(sock, size)
    key = (mask * (size // 4 + 1))[:size]
    return first & 15, (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def send_frame(sock: socket.socket, kind: int, data: bytes, mask: bytes = b"") -> None:
    size, marked = len(data), 0x80 if mask else 0
    if size < 126:
        head = bytes([0x80 | kind, marked | size])
    elif size < 1 << 16:
        head = struct.pack(">BBH", 0x80 | kind, marked | 126, size)
    else:
        head = struct.pack(">BBQ", 0x80 | kind, marked | 127, size)
    key = (mask * (size // 4 + 1))[:size] if mask else bytes(size)
    body = (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
    sock.sendall(head + mask + body)


class Upload(http.server.BaseHTTPRequestHandler):
    """The checksum of whatever is put."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        digest, left = hashlib.sha256(), int(self.headers["Content-Length"])
        while left:
            piece = self.rfile.read(min(left, 1 << 20))
            if not piece:
                return
            digest.update(piece)
            left -= len(piece)
        answer = digest.hexdigest().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        pass


SERVERS: dict[int, Callable[[socket.socket], None]] = {
    ECHO: echo,
    FIRST: speak_first,
    HALF_CLIENT: answer_at_the_end,
    HALF_SERVER: end_first,
    COUNTED: count,
    WEBSOCKET: websocket,
    ABORT: abort,
    WHO: who,
}


def serve() -> None:
    many_files()
    for port, talk in SERVERS.items():
        listener = socket.create_server(("", port), backlog=1024)
        threading.Thread(target=accept, args=(listener, talk)).start()
    uploads = http.server.ThreadingHTTPServer(("", HTTP), Upload)
    print("ready", flush=True)
    uploads.serve_forever()


def accept(listener: socket.socket, talk: Callable[[socket.socket], None]) -> None:
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=converse, args=(sock, talk), daemon=True).start()


def converse(sock: socket.socket, talk: Callable[[socket.socket], None]) -> None:
    with sock, contextlib.suppress(OSError, EOFError):
        talk(sock)


def connect(host: str, port: int) -> socket.socket:
    return socket.create_connection((host, port), TIMEOUT_S)


def pause() -> None:
    """Say that all is set up, and wait until whoever started us says that it is time."""
    print("ready", flush=True)
    sys.stdin.readline()


def idle(host: str, _: int) -> str:
    with connect(host, ECHO) as sock:
        sock.sendall(b"before")
        before = take(sock, 6)
        pause()
        sock.sendall(b"after")
        return f"{before.decode()} {take(sock, 5).decode()}"


def first(host: str, _: int) -> str:
    with connect(host, FIRST) as sock:
        banner = take(sock, len(BANNER))
        sock.sendall(b"HELO\r\n")
        return (banner + take(sock, 6)).decode()


def half_client(host: str, size: int) -> str:
    """Send all, end our side, and only then get an answer of 4 MiB."""
    with connect(host, HALF_CLIENT) as sock:
        sock.sendall(bytes(size))
        sock.shutdown(socket.SHUT_WR)
        answer = until_end(sock)
    same = answer[:32] == hashlib.sha256(bytes(size)).digest()
    return f"{same} {len(answer) - 32}"


def half_server(host: str, size: int) -> str:
    """The server ends its side first, and then gets all that we have."""
    with connect(host, HALF_SERVER) as sock:
        banner = until_end(sock)
        sock.sendall(bytes(size))
        sock.shutdown(socket.SHUT_WR)
    return f"{banner == BANNER} {counted(host)}"


def counted(host: str) -> int:
    """What the server that ends first has got, as soon as it knows."""
    for _ in range(100):
        with connect(host, COUNTED) as sock:
            found = int(until_end(sock))
        if found != UNKNOWN:
            break
        threading.Event().wait(0.05)
    return found


def many(host: str, number: int) -> str:
    """One connection after another, each ended by us, so that each leaves us a TIME_WAIT."""
    for done in range(number):
        try:
            with connect(host, ECHO) as sock:
                sock.sendall(b"ping")
                if take(sock, 4) != b"ping":
                    return f"{done}: garbled"
        except (OSError, EOFError) as error:
            return f"{done}: {error}"
    return f"{number}: ok"


def crowd(host: str, number: int) -> str:
    """All at once, all open."""
    many_files()
    socks = []
    try:
        for _ in range(number):
            socks.append(connect(host, ECHO))
        for sock in socks:
            sock.sendall(b"ping")
        good = sum(take(sock, 4) == b"ping" for sock in socks)
    except (OSError, EOFError) as error:
        return f"{len(socks)}: {error!r}"
    return f"{good}: ok"


def many_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def aborted(host: str, _: int) -> str:
    """How we learn that the server's side ended with a reset."""
    with connect(host, ABORT) as sock:
        sock.sendall(b"x")
        try:
            return f"end after {len(sock.recv(10))} bytes"
        except ConnectionResetError:
            return "reset"


def aborting(host: str, _: int) -> str:
    """How the server learns that our side ended with a reset."""
    with connect(host, HALF_SERVER) as sock:
        take(sock, len(BANNER))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return "reset" if counted(host) == RESET else "end"


def nobody(host: str, _: int) -> str:
    """How we learn that no program has the port."""
    try:
        with connect(host, NOBODY) as sock:
            try:
                return f"accepted, then {sock.recv(10)!r}"
            except ConnectionResetError:
                return "accepted, then reset"
    except ConnectionRefusedError:
        return "refused"


def peer(host: str, _: int) -> str:
    with connect(host, WHO) as sock:
        return until_end(sock).decode()


def web_socket(host: str, _: int) -> str:
    with connect(host, WEBSOCKET) as sock:
        nonce = base64.b64encode(os.urandom(16))
        request = f"GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        sock.sendall(
            request.encode() + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + nonce + b"\r\n\r\n"
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += take(sock, 1)
        proof = base64.b64encode(hashlib.sha1(nonce + _MAGIC).digest())
        said = [head.startswith(b"HTTP/1.1 101 ") and proof in head]
        for kind, data in ((1, b"hi"), (2, bytes(300)), (2, os.urandom(100_000))):
            send_frame(sock, kind, data, os.urandom(4))
            said.append(read_frame(sock) == (kind, data))
        pause()
        send_frame(sock, 9, b"still there?", os.urandom(4))
        said.append(read_frame(sock) == (10, b"still there?"))
        send_frame(sock, 8, b"", os.urandom(4))
        said += [read_frame(sock) == (8, b""), sock.recv(1) == b""]
    return str(said)


CLIENTS: dict[str, Callable[[str, int], str]] = {
    "idle": idle,
    "first": first,
    "half_client": half_client,
    "half_server": half_server,
    "many": many,
    "crowd": crowd,
    "aborted": aborted,
    "aborting": aborting,
    "nobody": nobody,
    "peer": peer,
    "web_socket": web_socket,
}


def main(arguments: list[str]) -> None:
    if arguments == ["serve"]:
        serve()
        return
    name, host, size = [*arguments, "0"][:3]
    print(CLIENTS[name](host, int(size)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
