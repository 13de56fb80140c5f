"""Updates under load: members come and go, leaves rotate, and no connection may end meanwhile."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from toposeal_lab.bench_dataplane_load import Way, anonymous_mib
from toposeal_lab.bench_dataplane_mesh import (
    SERVER,
    Identity,
    SealedPod,
    render,
    strangers,
    view,
)
from toposeal_lab.measure import median
from toposeal_lab.pods import Pod

Result = dict[str, Any]

_BUSY, _IDLE = 8, 8  # connections that ask in turn, and that are silent until the end
_PAUSE_S = 0.002  # between two requests
_NEW_EVERY = 10  # requests: one on a connection of its own
_TIMEOUT_S = 5.0
_REST_S = 0.2  # between two updates
_REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"


@dataclass(frozen=True)
class Ends:
    """Both sealed pods, and who they are."""

    client: SealedPod
    caller: Identity
    server: SealedPod
    own: Identity


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


async def measure_updates(way: Way, ends: Ends, sizes: Sequence[int], runs: int) -> Result:
    """Milliseconds from the offer until Envoy runs it, medians; for the largest size its memory.
    The caller sees one more server come and go; then the server does, callers in a mesh of each size.
    """
    result: Result = {}
    lost: dict[str, int] = {"requests": 0, "errors": 0, "cut": 0}
    with _load(way) as traffic:
        result["update_caller_ms"] = await _another_server(ends, way.client, runs)
    _add(lost, traffic)
    for size in sizes:
        with _load(way) as traffic:
            found = await _one_size(ends, size, runs)
        kinds = found["kinds"]
        result[f"update_{size}_ms"] = max(kinds.values())
        result[f"update_{size}"] = {
            **{f"{kind}_ms": took for kind, took in kinds.items()},
            "render_ms": found["render_ms"],
            "worst_request_ms": round(1000 * traffic.worst_s, 1),
            "memory_mib": round(anonymous_mib(ends.server.pod), 1),
        }
        result["memory_mib"] = result[f"update_{size}"]["memory_mib"]
        _add(lost, traffic)
    return {**result, "during_updates": lost}


def _add(lost: dict[str, int], traffic: Traffic) -> None:
    for name in lost:
        lost[name] += getattr(traffic, name)


async def _another_server(ends: Ends, empty: Pod, runs: int) -> float:
    """The cluster that the traffic runs through gets a second member, where nobody listens, and loses it:
    connections in use stay, new ones find the server.
    """
    members = [ends.own.member, ends.caller.member]
    other = Identity.mint(SERVER, [empty.ipv4]).member
    rendered, _ = await render(view(ends.caller.member, [*members, other]), other)
    took = []
    for _ in range(runs):
        for both in (True, False):
            await asyncio.sleep(_REST_S)
            took.append(await ends.client.update(rendered.update(ends.client.next_version(), whole=both)))
    await asyncio.sleep(_REST_S)
    return round(median(took), 1)


async def _one_size(ends: Ends, size: int, runs: int) -> Result:
    server, own = ends.server, ends.own
    others = strangers(size - 1)
    rendered, render_ms = await render(
        view(own.member, [own.member, ends.caller.member, *others]), others[-1]
    )
    await server.open(rendered, own.secrets())
    took: dict[str, list[float]] = {"removed": [], "added": [], "rotated": []}
    for _ in range(runs):
        for kind, whole in (("removed", False), ("added", True)):
            await asyncio.sleep(_REST_S)
            took[kind].append(await server.update(rendered.update(server.next_version(), whole=whole)))
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
