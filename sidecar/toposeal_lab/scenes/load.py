"""Requests between two members that stay, while others come and go: what of them is lost."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from statistics import quantiles

from toposeal_lab.attacks.stage import PING, PONG
from toposeal_lab.pods import Pod

_KEPT = 4
_PER_SECOND = 200
_NEW_EVERY = 10  # requests
_TIMEOUT_S = 5.0


class Load:
    """Some connections that are kept and asked in turn, and now and then a new one. All are as a program of
    the pod makes them.
    """

    def __init__(self, pod: Pod, host: str, port: int, per_second: int) -> None:
        self.requests = self.failed = self.cut = 0
        self.took: list[tuple[float, float]] = []  # when on the monotonic clock, and seconds, of kept ones
        self._pod, self._address, self._pause_s = pod, (host, port), 1 / per_second

    def p99(self, since: float, until: float) -> float:
        """Seconds, of the requests on kept connections that began then. Raises ValueError without any."""
        found = [took for at, took in self.took if since <= at < until]
        return quantiles(found, n=100)[-1]

    def run(self, stop: threading.Event) -> None:
        with self._pod.inside():
            kept = [self._connected() for _ in range(_KEPT)]
            due = time.monotonic()
            while not stop.wait(max(0.0, due - time.monotonic())):
                due = max(due + self._pause_s, time.monotonic() - 1)  # what was late is made up for
                which = self.requests % _KEPT
                kept[which] = self._ask_kept(kept[which])
                if self.requests % _NEW_EVERY == 0:
                    self._ask_new()
            for connection in kept:
                connection.close()

    def _ask_kept(self, connection: socket.socket) -> socket.socket:
        """The connection to go on with: another one where this was cut."""
        started = time.monotonic()
        try:
            self._ask(connection)
            self.took.append((started, time.monotonic() - started))
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
        self.requests += 1
        connection.sendall(PING)
        if not connection.recv(64).startswith(PONG):
            raise ConnectionResetError("no answer")

    def _connected(self) -> socket.socket:
        return socket.create_connection(self._address, _TIMEOUT_S)


@contextmanager
def load(pod: Pod, host: str, port: int, per_second: int = _PER_SECOND) -> Iterator[Load]:
    """Requests while the block runs."""
    stop, made = threading.Event(), Load(pod, host, port, per_second)
    thread = threading.Thread(target=made.run, args=(stop,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        stop.set()
        thread.join()
