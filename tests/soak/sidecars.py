"""Whole sidecars on one node: daemons and Envoys of one mesh in one kernel, under the same two users.

`make soak-sidecars`, as root: they seal, one is killed and replaced, every leaf is rotated, all are told to
end. Prints one JSON object of times and memory; fails unless all come to serve one manifest and exit with 0.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.daemons import Daemon, World, eventually, world
from support.keys import admin

from toposeal_lab.bench_dataplane_load import envoys
from toposeal_lab.measure import machine, usage

_TIMERS = {"lease_ms": 60_000}  # twenty on few cores keep each other waiting
_LEAF_MS = 120_000
_PATIENCE_S = 600.0

Result = dict[str, Any]


def soak(count: int) -> Result:
    """Raises AssertionError when not all of `count` sidecars come to serve the same manifest."""
    roles = {"web": "web"} | {f"db-{number}": "db" for number in range(1, count)}
    with world(roles, leaf_ms=_LEAF_MS, least=1, timers=_TIMERS) as mesh:
        result: Result = {"sidecars": count, "seal_s": timed(lambda: start_all(mesh))}
        result |= memory(mesh)
        result["replace_s"] = timed(lambda: replace_one(mesh))
        shown = {member.pid: leaf(member) for member in living(mesh)}
        result["rotate_s"] = timed(lambda: every(mesh, lambda member: leaf(member) != shown[member.pid]))
        before = usage(pids(mesh)).cpu_seconds
        time.sleep(10)
        result["idle_cores"] = round((usage(pids(mesh)).cpu_seconds - before) / 10, 3)
        members = living(mesh)
        for member in members:
            os.kill(member.pid, signal.SIGTERM)
        result["exits"] = sorted({member.ended(_PATIENCE_S) for member in members})
    assert result["exits"] == [0], result
    return result


def start_all(mesh: World) -> None:
    for name in list(mesh.members):
        mesh.start(name)
    for member in mesh.members.values():
        member.wait("gate", _PATIENCE_S, state="open")
    every(mesh, lambda member: epoch(member) == max(map(epoch, living(mesh))))


def replace_one(mesh: World) -> None:
    killed = mesh["db-1"]
    os.kill(killed.pid, signal.SIGKILL)
    killed.ended()
    before = max(map(epoch, living(mesh)))
    spare = mesh.spare("db-1")
    mesh.start(spare.name)
    spare.wait("gate", _PATIENCE_S, state="open")
    every(mesh, lambda member: epoch(member) == max(map(epoch, living(mesh))) > before)


def every(mesh: World, holds: Callable[[Daemon], bool]) -> None:
    eventually(lambda: all(map(holds, living(mesh))) or None, _PATIENCE_S)


def epoch(member: Daemon) -> int:
    """Of the manifest that its gate serves; 0 before the first."""
    served = [event["epoch"] for event in member.events("gate") if event.get("state") == "open"]
    return int(str(served[-1])) if served else 0


def leaf(member: Daemon) -> str:
    """Serial numbers of what its Envoy shows."""
    loaded = json.loads(admin(member.layout.admin, "/certs"))["certificates"]
    return str(sorted(found["serial_number"] for entry in loaded for found in entry.get("cert_chain", [])))


def living(mesh: World) -> list[Daemon]:
    return [member for member in mesh.members.values() if member.started and member.code is None]


def pids(mesh: World) -> list[int]:
    return [pid for member in living(mesh) for pid in member.pod.processes()]


def memory(mesh: World) -> Result:
    """Resident MiB of one sidecar's daemon and of one's Envoy, of the largest each."""
    members = living(mesh)
    return {
        "daemon_mib": round(max(usage([member.pid]).rss_mib for member in members), 1),
        "envoy_mib": round(max(usage(envoys(member.pod)).rss_mib for member in members), 1),
        "processes": len(pids(mesh)),
    }


def timed(work: Callable[[], object]) -> float:
    """Seconds; told on stderr, since it takes minutes."""
    started = time.monotonic()
    work()
    took = round(time.monotonic() - started, 1)
    print(f"{took} s", file=sys.stderr)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sidecars", type=int, default=20, metavar="N")
    args = parser.parse_args()
    print(json.dumps({"machine": machine(), **soak(args.sidecars)}, indent=2))


if __name__ == "__main__":
    main()
