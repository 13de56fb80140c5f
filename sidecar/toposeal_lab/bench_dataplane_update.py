"""Updates under load: members come and go, leaves rotate, and no connection may end meanwhile."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from toposeal_lab.bench_dataplane_load import Way, anonymous_mib
from toposeal_lab.bench_dataplane_mesh import (
    Identity,
    SealedPod,
    render,
    strangers,
    view,
)
from toposeal_lab.measure import median

Result = dict[str, Any]

_BUSY, _IDLE = 8, 8  # connections that ask in turn, and that are silent until the end
_PAUSE_S = 0.002  # between two requests
_NEW_EVERY = 10  # requests: one on a connection of its own
_TIMEOUT_S = 5.0
_REST_S = 0.2  # between two updates
_REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"


class Traffic:
    """Paced requests from one pod, until it is stopped. What goes wrong is counted and goes on."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self.requests = self.errors = self.cut = 0
        self.worst_s = 0.0

    def run(self, stop: threading.Event) -> None:
        """In a thread of its own."""
        with self._way.client.inside():
            idle = [self._connected() for _ in range(_IDLE)]
            busy = [self._connected() for _ in range(_BUSY)]
            while not stop.wait(_PAUSE_S):
                which = self.requests % _BUSY
                busy[which] = self._ask_kept(busy[which])
                if self.requests % _NEW_EVERY == 0:
                    self._ask_new()
            for connection in (*idle, *busy):
                self._ask_kept(connection).close()

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
        try:
            with self._connected() as connection:
                self._ask(connection)
        except OSError:
            self.errors += 1

    def _ask(self, connection: socket.socket) -> None:
        started = time.monotonic()
        connection.sendall(_REQUEST)
        if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
            raise ConnectionResetError("no answer")
        self.requests += 1
        self.worst_s = max(self.worst_s, time.monotonic() - started)

    def _connected(self) -> socket.socket:
        return socket.create_connection((self._way.address, self._way.port), _TIMEOUT_S)


async def measure_updates(
    way: Way, server: SealedPod, own: Identity, caller: Identity, sizes: list[int], runs: int
) -> Result:
    """Milliseconds from the renames to Envoy's acknowledgement, medians; for the largest size its memory."""
    result: Result = {}
    lost: dict[str, int] = {"requests": 0, "errors": 0, "cut": 0}
    for size in sizes:
        with _load(way) as traffic:
            found = await _one_size(server, own, caller, size, runs)
        kinds = found["kinds"]
        result[f"update_{size}_ms"] = max(kinds.values())
        result[f"update_{size}"] = {
            **{f"{kind}_ms": took for kind, took in kinds.items()},
            "render_ms": found["render_ms"],
            "worst_request_ms": round(1000 * traffic.worst_s, 1),
            "memory_mib": round(anonymous_mib(server.pod), 1),
        }
        result["memory_mib"] = result[f"update_{size}"]["memory_mib"]
        for name in lost:
            lost[name] += getattr(traffic, name)
    return {**result, "during_updates": lost}


async def _one_size(server: SealedPod, own: Identity, caller: Identity, size: int, runs: int) -> Result:
    others = strangers(size - 1)
    rendered, render_ms = await render(view(own.member, [own.member, caller.member, *others]))
    last = others[-1].domain
    await server.open(rendered, own.secrets())
    took: dict[str, list[float]] = {"removed": [], "added": [], "rotated": []}
    for _ in range(runs):
        for kind, without in (("removed", last), ("added", "")):
            await asyncio.sleep(_REST_S)
            version = server.next_version()
            took[kind].append(await server.update(rendered.files(version, without), version))
        await asyncio.sleep(_REST_S)
        took["rotated"].append(await server.update(own.secrets()))
    kinds = {kind: round(median(values), 1) for kind, values in took.items()}
    return {"kinds": kinds, "render_ms": round(render_ms)}


@contextmanager
def _load(way: Way) -> Iterator[Traffic]:
    """Traffic while the block runs."""
    stop, traffic = threading.Event(), Traffic(way)
    thread = threading.Thread(target=traffic.run, args=(stop,))
    thread.start()
    try:
        yield traffic
    finally:
        stop.set()
        thread.join()
