"""Requests between two members that stay, while others come and go: what of them is lost."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from toposeal_lab.attacks.stage import PING, PONG
from toposeal_lab.pods import Pod

_KEPT = 4
_PAUSE_S = 0.005
_NEW_EVERY = 10  # requests
_TIMEOUT_S = 5.0


class Load:
    """Some connections that are kept and asked in turn, and now and then a new one. All are as a program of
    the pod makes them.
    """

    def __init__(self, pod: Pod, host: str, port: int) -> None:
        self.requests = self.failed = self.cut = 0
        self.worst_s = 0.0
        self._pod, self._address = pod, (host, port)

    def run(self, stop: threading.Event) -> None:
        with self._pod.inside():
            kept = [self._connected() for _ in range(_KEPT)]
            while not stop.wait(_PAUSE_S):
                which = self.requests % _KEPT
                kept[which] = self._ask_kept(kept[which])
                if self.requests % _NEW_EVERY == 0:
                    self._ask_new()
            for connection in kept:
                connection.close()

    def _ask_kept(self, connection: socket.socket) -> socket.socket:
        """The connection to go on with: another one where this was cut."""
        try:
            self._ask(connection)
            return connection
        except OSError:
            self.cut += 1
            connection.close()
            return self._connected()

    def _ask_new(self) -> None:
        with suppress(OSError), self._connected() as connection:
            self._ask(connection)
            return
        self.failed += 1

    def _ask(self, connection: socket.socket) -> None:
        started = time.monotonic()
        self.requests += 1
        connection.sendall(PING)
        if not connection.recv(64).startswith(PONG):
            raise ConnectionResetError("no answer")
        self.worst_s = max(self.worst_s, time.monotonic() - started)

    def _connected(self) -> socket.socket:
        return socket.create_connection(self._address, _TIMEOUT_S)


@contextmanager
def load(pod: Pod, host: str, port: int) -> Iterator[Load]:
    """Requests while the block runs."""
    stop, made = threading.Event(), Load(pod, host, port)
    thread = threading.Thread(target=made.run, args=(stop,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        stop.set()
        thread.join()
