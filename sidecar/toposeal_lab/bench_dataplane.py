"""`toposeal-lab bench dataplane`: ours beside hand-written pairs of Envoys, and beside nothing.

All ways are measured in turn in every round, so that whatever else the machine does hits all of them;
a ratio is the median of the rounds' own ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from toposeal_lab import bench_dataplane_gate as gate
from toposeal_lab.bench_dataplane_load import (
    LOADS,
    PROGRAMS,
    Sample,
    Way,
    anonymous_mib,
    await_answer,
    start_nginx,
)
from toposeal_lab.bench_dataplane_mesh import (
    CLIENT,
    PORT,
    SERVER,
    Identity,
    render,
    sealed,
    server_vip,
    view,
)
from toposeal_lab.bench_dataplane_pair import BY_CONNECTION, BY_REDIRECT, BY_TUNNEL, start_pair
from toposeal_lab.bench_dataplane_update import Ends, measure_updates
from toposeal_lab.pods import Node, Pod
from toposeal_lab.requirements import check_machine
from toposeal_lab.rundir import run_directory

Result = dict[str, Any]
Samples = dict[str, dict[str, list[Sample]]]  # way, load

DIRECT, BY_HAND, REDIRECTED, TUNNEL = "direct", "by_hand", "redirected", "tunnel"
OURS, HTTP = "ours", "http"  # a port of bytes, and one that the topology declares to be HTTP
# A way divided by the hand-written pair: its name, the load, what of it.
_RATIOS = (
    ("keepalive", "keepalive", "per_second"),
    ("p99", "keepalive", "p99_ms"),
    ("bulk", "bulk", "mib_per_second"),
    ("connections", "connections", "per_second"),
    ("cpu_per_request", "keepalive", "cpu_us"),
    ("cpu_per_connection", "connections", "cpu_us"),
    ("cpu_per_gib", "bulk", "cpu_ms_per_gib"),
)
_PODS = [f"{kind}{end}" for kind in ("", "redirected-", "sealed-", "http-") for end in ("client", "server")]
_WORKERS = 1  # as host/envoy.py starts it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `bench` takes for this benchmark alone."""
    parser.add_argument("--seconds", type=float, default=1.0, metavar="S", help="dataplane: of each load")
    parser.add_argument("--bulk-mib", type=int, default=512, metavar="N", help="dataplane: of one download")
    parser.add_argument(
        "--members", type=int, nargs="+", default=[100, 1000], metavar="N", help="dataplane: sizes of updates"
    )


def bench_dataplane(args: argparse.Namespace) -> Result:
    """Ratios to the hand-written pair, updates in milliseconds, memory in MiB, the gate in milliseconds."""
    check_machine(PROGRAMS | gate.PROGRAMS)
    os.environ["GRPC_VERBOSITY"] = "NONE"  # it tells of every process that is started beside it
    with run_directory() as directory, Node() as node:
        os.chmod(directory, 0o755)  # noqa: S103 - users of pods read nginx's files
        pods = {name: node.pod(name) for name in _PODS}
        with _silent_journal():
            result = asyncio.run(_measure(args, pods, directory))
    return result | gate.bench_gate(args.quote_delay)


@contextmanager
def _silent_journal() -> Iterator[None]:
    """Envoys of this process tell it of connections that wrk leaves behind; stdout is for results alone."""
    stdout, null = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 1)
        yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
        os.close(null)


async def _measure(args: argparse.Namespace, pods: Mapping[str, Pod], directory: Path) -> Result:
    ways = _ways(pods)
    for name in _PODS[1::2]:
        start_nginx(pods[name], directory / f"nginx-{name}", args.bulk_mib)
    for pair in (BY_CONNECTION, BY_TUNNEL):
        start_pair(pair, pods["client"], pods["server"], directory, _WORKERS)
    start_pair(BY_REDIRECT, pods["redirected-client"], pods["redirected-server"], directory, _WORKERS)
    async with _sealed(ways[OURS], directory) as ends, _sealed(ways[HTTP], directory, speaks_http=True):
        for way in ways.values():
            await asyncio.to_thread(await_answer, way)
        samples = await _rounds(ways, args.runs, args.seconds)
        small = round(anonymous_mib(ends.server.pod), 1)
        updates = await measure_updates(ways[OURS], ends, args.members, args.runs)
    ratios = {name: _ratio(samples, OURS, load, part) for name, load, part in _RATIOS}
    for other in (REDIRECTED, TUNNEL, HTTP):
        ratios |= {f"{other}_{name}": _ratio(samples, other, load, part) for name, load, part in _RATIOS}
    return ratios | updates | {"memory_small_mib": small} | _medians(samples)


@asynccontextmanager
async def _sealed(way: Way, directory: Path, *, speaks_http: bool = False) -> AsyncIterator[Ends]:
    """Both of its pods sealed, and open for each other."""
    own = Identity.mint(SERVER, way.server.addresses)
    caller = Identity.mint(CLIENT, way.client.addresses)
    async with (
        sealed(way.client, directory / way.client.name) as client,
        sealed(way.server, directory / way.server.name) as server,
    ):
        for pod, who in ((client, caller), (server, own)):
            seen = view(who.member, [own.member, caller.member], speaks_http=speaks_http)
            rendered, _ = await render(seen)
            await pod.open(rendered, who.secrets())
        yield Ends(client, caller, server, own)


async def _rounds(ways: Mapping[str, Way], runs: int, seconds: float) -> Samples:
    samples: Samples = {name: {load: [] for load in LOADS} for name in ways}
    for number in range(runs):
        for load, measure in LOADS.items():
            for name in _order(ways, number):
                samples[name][load].append(await asyncio.to_thread(measure, ways[name], seconds))
    return samples


def _ways(pods: Mapping[str, Pod]) -> dict[str, Way]:
    client, server = pods["client"], pods["server"]
    redirected, end = pods["redirected-client"], pods["redirected-server"]
    return {
        DIRECT: Way(client, server, server.ipv4, PORT, has_envoys=False),
        BY_HAND: Way(client, server, "127.0.0.1", BY_CONNECTION.call_port, has_envoys=True),
        REDIRECTED: Way(redirected, end, end.ipv4, PORT, has_envoys=True),
        TUNNEL: Way(client, server, "127.0.0.1", BY_TUNNEL.call_port, has_envoys=True),
        OURS: Way(pods["sealed-client"], pods["sealed-server"], server_vip(), PORT, has_envoys=True),
        HTTP: Way(pods["http-client"], pods["http-server"], server_vip(), PORT, has_envoys=True),
    }


def _order(ways: Mapping[str, Way], number: int) -> Sequence[str]:
    """Every other round backwards."""
    return list(ways) if number % 2 == 0 else list(ways)[::-1]


def _ratio(samples: Samples, way: str, load: str, part: str) -> float:
    pairs = zip(samples[way][load], samples[BY_HAND][load], strict=True)
    ratios = [ours[part] / theirs[part] for ours, theirs in pairs if theirs[part]]
    return round(statistics.median(ratios), 3) if ratios else 0.0


def _medians(samples: Samples) -> Result:
    return {
        name: {
            load: {part: _rounded([each[part] for each in rounds]) for part in rounds[0]}
            for load, rounds in loads.items()
        }
        for name, loads in samples.items()
    }


def _rounded(values: Sequence[float]) -> float:
    middle = statistics.median(values)
    return round(middle) if middle >= 100 else round(middle, 2)
