"""Connections that programs hold, idle or busy, and what becomes of them, at either end."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from support.datapath import TIMEOUT
from toposeal_lab.pods import Pod


@dataclass
class Held:
    """One end of a connection; its thread reads until it ends."""

    connection: socket.socket
    said: str = ""  # by the server, first of all
    heard: int = 0  # bytes since
    ended: float | None = None  # when, on the monotonic clock
    busy: bool = False  # whatever it hears it says, so that one byte goes to and fro for ever
    turn: threading.Event = field(default_factory=threading.Event)

    def start(self) -> Held:
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def answers(self) -> bool:
        """Whether a byte more comes back."""
        self.turn.clear()
        with contextlib.suppress(OSError):
            self.connection.sendall(b"x")
            return self.turn.wait(TIMEOUT) and self.ended is None
        return False

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.connection.recv(4096):
                self.heard += len(data)
                self.turn.set()
                if self.busy:
                    self.connection.sendall(data)
        self.ended = time.monotonic()
        self.turn.set()

    def close(self) -> None:
        """Without a shutdown the reading thread would keep it."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()


@contextlib.contextmanager
def echo(pod: Pod, port: int, name: str) -> Iterator[list[Held]]:
    """A program of the pod that says its name to whoever connects, and then whatever it is told; its ends."""
    ends: list[Held] = []
    with pod.inside():
        listener = socket.create_server(("0.0.0.0", port), backlog=64)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with contextlib.suppress(OSError):
                    connection.sendall(name.encode())
                    ends.append(Held(connection, name, busy=True).start())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield ends
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(TIMEOUT)
        for end in ends:
            end.close()


def hold(pod: Pod, host: str, port: int) -> Held | None:
    """A connection of a program of `pod`; None for every kind of refusal."""
    try:
        with pod.inside():
            connection = socket.create_connection((host, port), TIMEOUT)
        said = connection.recv(100).decode()
    except OSError:
        return None
    if not said:
        connection.close()
        return None
    connection.settimeout(None)
    return Held(connection, said).start()
