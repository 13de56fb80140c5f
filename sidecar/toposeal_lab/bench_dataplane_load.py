"""Load between two pods: wrk and curl as an ordinary user, nginx behind, Envoys' CPU beside it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from toposeal_lab.apps import APP_UID
from toposeal_lab.bench_dataplane_mesh import PORT
from toposeal_lab.checks import CheckFailed
from toposeal_lab.measure import usage
from toposeal_lab.nginx import nginx
from toposeal_lab.pods import Pod

PROGRAMS = {"wrk": "wrk", "curl": "curl", "nginx": "nginx-light"}
_CONNECTIONS = 16
_KEPT = 6
_BULK = "bulk"
_READY_S = 10.0
_UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}
_LATENCY = re.compile(r"^\s+99%\s+([\d.]+)(us|ms|s)$", re.MULTILINE)
_REQUESTS = re.compile(r"^\s*(\d+) requests in ([\d.]+)(ms|s)", re.MULTILINE)
_FAILURES = re.compile(r"Socket errors:|Non-2xx")
_SERVER = """
listen {port} backlog=4096;
location = / {{ return 200 "served\\n"; }}
location /{bulk} {{ root {directory}; }}
"""
_KEEPALIVE = "keepalive_requests 100000000; keepalive_timeout 1h;"

Sample = dict[str, float]


@dataclass(frozen=True)
class Way:
    """How programs of `client` reach the nginx of `server`: directly, or through a pair of Envoys."""

    client: Pod
    server: Pod
    address: str
    port: int
    has_envoys: bool

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}/"


def start_nginx(pod: Pod, directory: Path, bulk_mib: int) -> None:
    """nginx in `pod` with a small answer, and `bulk_mib` of zeros that take no memory."""
    directory.mkdir(mode=0o755)
    with (directory / _BULK).open("wb") as file:
        file.truncate(bulk_mib << 20)
    os.chown(directory, APP_UID, APP_UID)
    argv = nginx(directory, _SERVER.format(directory=directory, port=PORT, bulk=_BULK), _KEEPALIVE)
    with (directory / "log").open("wb") as log:
        pod.spawn(argv, uid=APP_UID, stdout=log, stderr=log, cwd=directory)


def await_answer(way: Way) -> None:
    """Raises CheckFailed when nothing is served in time."""
    end = time.monotonic() + _READY_S
    while _as_app(way, "curl", "-s", "-o", "/dev/null", "--fail", "--max-time", "2", way.url)[0] != 0:
        if time.monotonic() > end:
            raise CheckFailed(f"no answer at {way.url} in {way.client.name}")
        time.sleep(0.02)


def keepalive(way: Way, seconds: float) -> Sample:
    """Sixteen connections that ask and ask: requests a second, p99 in milliseconds, microseconds of both
    Envoys' CPU for each. Six times as long as other loads: wrk counts a pause as all the requests that it
    kept from being sent, and the opening of the connections would be more than a hundredth of one second.
    """
    return _wrk(way, _KEPT * seconds)


def connections(way: Way, seconds: float) -> Sample:
    """The same with a connection for each request."""
    return _wrk(way, seconds, "-H", "Connection: close")


def bulk(way: Way, seconds: float) -> Sample:
    """One large answer, over one connection: MiB a second, milliseconds of CPU for each GiB."""
    before = _cpu_seconds(way)
    argv = ["-s", "--fail", "--max-time", "60", "-o", "/dev/null", "-w", "%{size_download} %{time_total}"]
    code, said = _as_app(way, "curl", *argv, f"{way.url}{_BULK}")
    if code:
        raise CheckFailed(f"curl {way.url}{_BULK}: exit {code}")
    size, took = (float(word) for word in said.split())
    mib = size / (1 << 20)
    return {"mib_per_second": mib / took, "cpu_ms_per_gib": 1e3 * (_cpu_seconds(way) - before) / (mib / 1024)}


LOADS: Mapping[str, Callable[[Way, float], Sample]] = {
    "keepalive": keepalive,
    "connections": connections,
    "bulk": bulk,
}


def envoys(pod: Pod) -> list[int]:
    """Process ids of the Envoys inside."""
    found = []
    for pid in pod.processes():
        with suppress(OSError):  # it ended meanwhile
            if Path(f"/proc/{pid}/comm").read_text().strip() == "envoy":
                found.append(pid)
    return found


def anonymous_mib(pod: Pod) -> float:
    """Memory of the pod's Envoys that is nobody else's and no file's."""
    kib = 0
    for pid in envoys(pod):
        status = Path(f"/proc/{pid}/status").read_text()
        kib += int(status.partition("RssAnon:")[2].split()[0])
    return kib / 1024


def _wrk(way: Way, seconds: float, *options: str) -> Sample:
    """wrk itself counts whole seconds; stopped with SIGINT it reports as usual."""
    before = _cpu_seconds(way)
    flags = ["-t1", f"-c{_CONNECTIONS}", "-d60s", "--latency", *options]
    code, said = _as_app(way, "timeout", "-s", "INT", str(seconds), "wrk", *flags, way.url)
    cpu = _cpu_seconds(way) - before
    latency, requests = _LATENCY.search(said), _REQUESTS.search(said)
    if code not in (0, 124) or latency is None or requests is None or _FAILURES.search(said):
        raise CheckFailed(f"wrk {way.url}: exit {code}: {said.strip()[-300:]}")
    count, took = int(requests[1]), float(requests[2]) * _UNITS_MS[requests[3]] / 1000
    if count == 0:
        raise CheckFailed(f"wrk {way.url}: no request in {took} s")
    return {
        "per_second": count / took,
        "p99_ms": float(latency[1]) * _UNITS_MS[latency[2]],
        "cpu_us": 1e6 * cpu / count,
    }


def _cpu_seconds(way: Way) -> float:
    """Of the Envoys at both ends, so far."""
    return usage([*envoys(way.client), *envoys(way.server)]).cpu_seconds if way.has_envoys else 0.0


def _as_app(way: Way, *argv: str) -> tuple[int, str]:
    done = way.client.run(argv, uid=APP_UID, check=False, timeout=90)
    return done.returncode, done.stdout.decode("utf-8", "replace")
