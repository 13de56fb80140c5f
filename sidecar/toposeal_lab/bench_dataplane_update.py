"""Updates under load: members come and go, leaves rotate, and no connection may end meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager
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
from toposeal_lab.load import Asked, Load, load
from toposeal_lab.measure import median
from toposeal_lab.pods import Pod

Result = dict[str, Any]

_PER_SECOND = 400  # requests
_REST_S = 0.2  # between two updates
_REQUEST, _ANSWER = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n", b"HTTP/1.1 200"


@dataclass(frozen=True)
class Ends:
    """Both sealed pods, and who they are."""

    client: SealedPod
    caller: Identity
    server: SealedPod
    own: Identity


async def measure_updates(way: Way, ends: Ends, sizes: Sequence[int], runs: int) -> Result:
    """Milliseconds from the offer until Envoy runs it, medians; for the largest size its memory.
    The caller sees one more server come and go; then the server does, callers in a mesh of each size.
    """
    result: Result = {}
    lost = {"requests": 0, "errors": 0, "cut": 0}
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


def _add(lost: dict[str, int], traffic: Load) -> None:
    for name, count in (("requests", traffic.requests), ("errors", traffic.failed), ("cut", traffic.cut)):
        lost[name] += count


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


def _load(way: Way) -> AbstractContextManager[Load]:
    asked = Asked(way.address, way.port, _REQUEST, _ANSWER)
    return load(way.client, asked, _PER_SECOND, busy=8, idle=8)
