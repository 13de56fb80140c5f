"""Requests of one pod's program while others come and go: what of them is lost, and how long they take."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from toposeal_lab.pods import Pod
from toposeal_lab.timeline import boottime

_NEW_EVERY = 10  # requests: one on a connection of its own
_TIMEOUT_S = 5.0

Span = tuple[float, float]  # boot time, from and to


@dataclass(frozen=True)
class Asked:
    """What is said to whom, and what a good answer begins with."""

    host: str
    port: int
    request: bytes
    answer: bytes


class Load:
    """Some connections that are asked in turn, some that are silent until the end, and now and then a new
    one. What goes wrong is counted and goes on.
    """

    def __init__(self, pod: Pod, asked: Asked, per_second: int, busy: int, idle: int) -> None:
        self.requests = self.failed = self.cut = 0
        self.took: list[tuple[float, float]] = []  # due at which boot time, and answered how much later
        self._pod, self._asked, self._pause_s = pod, asked, 1 / per_second
        self._busy, self._idle = busy, idle

    @property
    def worst_s(self) -> float:
        """Of all requests on connections that are kept."""
        return max((took for _, took in self.took), default=0.0)

    def due_in(self, spans: Sequence[Span]) -> list[float]:
        """Seconds that each request on a kept connection took that was due in one of these."""
        return [took for at, took in self.took if any(since <= at < until for since, until in spans)]

    def run(self, stop: threading.Event) -> None:
        """In a thread of its own. A request that waits for an earlier one has been due for as long."""
        with self._pod.inside():
            idle = [self._connected() for _ in range(self._idle)]
            busy = [self._connected() for _ in range(self._busy)]
            due = boottime()
            while not stop.wait(max(0.0, due - boottime())):
                which = self.requests % self._busy
                busy[which] = self._ask_kept(busy[which], due)
                if self.requests % _NEW_EVERY == 0:
                    self._ask_new()
                due += self._pause_s
            for connection in (*idle, *busy):
                self._ask_kept(connection, boottime()).close()

    def _ask_kept(self, connection: socket.socket, due: float) -> socket.socket:
        """The connection to go on with: another one where this was cut."""
        try:
            self._ask(connection)
            self.took.append((due, boottime() - due))
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
        connection.sendall(self._asked.request)
        if not connection.recv(4096).startswith(self._asked.answer):
            raise ConnectionResetError("no answer")

    def _connected(self) -> socket.socket:
        return socket.create_connection((self._asked.host, self._asked.port), _TIMEOUT_S)


@contextmanager
def load(pod: Pod, asked: Asked, per_second: int, busy: int, idle: int = 0) -> Iterator[Load]:
    """Requests while the block runs; what was asked last is answered after it."""
    stop, made = threading.Event(), Load(pod, asked, per_second, busy, idle)
    thread = threading.Thread(target=made.run, args=(stop,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        stop.set()
        thread.join()
