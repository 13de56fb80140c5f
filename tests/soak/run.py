"""Many Envoys under one user of one kernel, each configured by a stream of its own from this one process.

`make soak`, as root: starts all closed, opens each for ten members and updates it twenty times. Prints
one JSON object of counts, times and memory, and fails unless every one has taken every update. It is about
what pods of one node share: a kernel's limits for a user.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from toposeal_lab.bench_dataplane_load import anonymous_mib
from toposeal_lab.bench_dataplane_mesh import (
    SERVER,
    Identity,
    Rendered,
    SealedPod,
    render,
    sealed,
    strangers,
    view,
)
from toposeal_lab.pods import Node, Pod
from toposeal_lab.rundir import run_directory

_AT_ONCE = 8
_MEMBERS = 10

Result = dict[str, Any]


async def soak(pods: Sequence[Pod], directory: Path, updates: int) -> Result:
    """Raises PodError as soon as one Envoy does not take what it is offered."""
    own = Identity.mint(SERVER, ["10.77.0.10"])
    others = strangers(_MEMBERS - 1)
    rendered, _ = await render(view(own.member, [own.member, *others]), others[-1])
    async with AsyncExitStack() as stack:
        started = time.monotonic()
        envoys = [await stack.enter_async_context(sealed(pod, directory / pod.name)) for pod in pods]
        result: Result = {"envoys": len(pods), "start_s": round(time.monotonic() - started, 1)}
        result |= await measured("open", envoys, lambda envoy, _: envoy.open(rendered, own.secrets()), 1)
        result |= await measured("update", envoys, lambda envoy, n: changed(envoy, rendered, n), updates)
        result |= await measured("rotate", envoys, lambda envoy, _: envoy.update(own.secrets()), 1)
        return result | used(pods)


async def changed(envoy: SealedPod, rendered: Rendered, number: int) -> None:
    """One member leaves, or comes back."""
    await envoy.update(rendered.update(envoy.next_version(), whole=bool(number % 2)))


async def measured(
    name: str, envoys: Sequence[SealedPod], do: Callable[[SealedPod, int], Awaitable[object]], times: int
) -> Result:
    """Every Envoy `times`, some of them at once."""
    took: list[float] = []
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(envoy: SealedPod, number: int) -> None:
        async with places:
            started = time.monotonic()
            await do(envoy, number)
            took.append(1000 * (time.monotonic() - started))

    started = time.monotonic()
    for number in range(times):
        await asyncio.gather(*(one(envoy, number) for envoy in envoys))
    return {
        f"{name}s_taken": len(took),
        f"{name}_s": round(time.monotonic() - started, 1),
        f"{name}_median_ms": round(statistics.median(took), 1),
        f"{name}_worst_ms": round(max(took), 1),
    }


def used(pods: Sequence[Pod]) -> Result:
    """Of all Envoys together, and of this process."""
    pids = [pid for pod in pods for pid in pod.processes()]
    return {
        "processes": len(pids),
        "envoys_anonymous_mib": round(sum(map(anonymous_mib, pods))),
        "own_mib": round(
            int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
        ),
        "inotify_instances": sum(map(inotify_instances, pids)),
        "inotify_limit": int(Path("/proc/sys/fs/inotify/max_user_instances").read_text()),
    }


def inotify_instances(pid: int) -> int:
    found = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found += os.readlink(descriptor) == "anon_inode:inotify"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--envoys", type=int, default=200, metavar="N")
    parser.add_argument("--updates", type=int, default=20, metavar="N")
    args = parser.parse_args()
    os.environ["GRPC_VERBOSITY"] = "NONE"  # it tells of every process that is started beside it
    with run_directory() as directory, Node() as node:
        directory.chmod(0o755)
        pods = [node.pod(f"p{number}") for number in range(args.envoys)]
        print(json.dumps(asyncio.run(soak(pods, directory, args.updates)), indent=2))


if __name__ == "__main__":
    main()
