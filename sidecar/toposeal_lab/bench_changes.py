"""What a change of a mesh costs those who stay: part of `toposeal-lab bench rounds`.

One mesh under load grows from three members to six and shrinks to three; with four it follows a newer
topology, is joined by a fifth, and loses one whose place another takes; at last one is frozen and left out.
Another one, of ten members, is joined by an eleventh.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count, islice
from typing import Any

from toposeal_lab.bench_spans import rest, round_of, spread
from toposeal_lab.checks import Checks, expect
from toposeal_lab.load import Load, Span
from toposeal_lab.measure import median
from toposeal_lab.scenario import ATTESTATION_PORT, REDIS_PORT, VERSION, Cast
from toposeal_lab.scenes.held import held
from toposeal_lab.scenes.mesh import START_S, TIMERS, Mesh, epoch, eventually
from toposeal_lab.timeline import boottime
from toposeal_lab.world import world

Result = dict[str, Any]

_FEW = ("web", "api-1", "db")
_CALM_S, _REST_S = 3.0, 2.0  # until what has started is at rest; of load alone, before each change
_CALLS: Sequence[Mapping[str, tuple[tuple[str, int], ...]]] = ({}, {"web": (("db", REDIS_PORT),)})  # by turns
_CROWDED = {**TIMERS, "view_ms": 2_000, "lease_ms": 15_000}  # many daemons on few cores


@dataclass
class _Watched:
    """A mesh under load, and when it changed."""

    mesh: Mesh
    traffic: Load
    spans: dict[str, dict[str, list[Span]]] = field(default_factory=dict)  # by change: before it, its round

    def change(self, name: str, act: Callable[[], None]) -> None:
        """One change after some calm: `act` returns when it is done."""
        spans = self.spans.setdefault(name, {"before": [], "round": []})
        time.sleep(_CALM_S)
        spans["before"].append(rest(_REST_S))
        there, since = set(self.mesh.there), boottime()
        act()
        stay = there.intersection(self.mesh.there)
        spans["round"].append(round_of(self.mesh, stay, (since, boottime())))

    def costs(self) -> Result:
        """Of each change: seconds of its round, and the slowest of a hundred requests before it and in it."""
        return {name: self._cost(spans) for name, spans in self.spans.items()}

    def _cost(self, spans: Mapping[str, Sequence[Span]]) -> Result:
        p99 = {when: spread(self.traffic.due_in(of_kind))["p99"] for when, of_kind in spans.items()}
        seconds = median([until - since for since, until in spans["round"]])
        return {
            "seconds": round(seconds, 2),
            "p99_ms": p99,
            "p99_ratio": round(p99["round"] / p99["before"], 2),
        }


def bench_changes(per_second: int, times: int) -> Result:
    """Each change `times` times, and then one eviction: seconds from the manifest without a member until its
    last connection is cut.
    """
    fresh = (f"api-{number}" for number in count(2))  # a pod has one boot here
    with _mesh(6 * times + 1, TIMERS) as mesh:
        mesh.seal(*_FEW)
        with mesh.load(per_second) as traffic:
            watched, last = _Watched(mesh, traffic), ""
            for version in range(VERSION + 1, VERSION + 1 + times):
                if last:
                    _go(mesh, [last])
                *three, fourth, fifth, last = islice(fresh, 6)
                watched.change("grow", partial(_come, mesh, three))
                watched.change("shrink", partial(_go, mesh, three))
                _come(mesh, [fourth])
                watched.change("update", partial(_follow, mesh, version))
                watched.change("join", partial(_come, mesh, [fifth]))
                _go(mesh, [fifth])
                watched.change("restart", partial(_restart, mesh, fourth, last))
            eviction = _evict(mesh, last)
        return {
            "changes": watched.costs(),
            "eviction_seconds": round(eviction, 3),
            "lease_seconds": TIMERS["lease_ms"] / 1000,  # what passes before the eviction begins
            **lost(traffic),
        }


def bench_crowded(members: int, per_second: int, times: int) -> Result:
    """`times` times one more joins so many members, and leaves."""
    all_of_them = (*_FEW, *(f"api-{number}" for number in range(2, members - 1)))
    fresh = (f"api-{number}" for number in count(members - 1))
    with _mesh(members - 2 + times, _CROWDED) as mesh:
        mesh.seal(*all_of_them)
        with mesh.load(per_second) as traffic:
            watched = _Watched(mesh, traffic)
            for more in islice(fresh, times):
                watched.change("join", partial(_come, mesh, [more]))
                _go(mesh, [more])
        return {"members": members, **watched.costs()["join"], **lost(traffic)}


def lost(traffic: Load) -> Result:
    """When the load has ended: what was asked, and what came to nothing."""
    return {
        "requests": traffic.requests,
        "failed_requests": traffic.failed,
        "cut_connections": traffic.cut,
    }


@contextmanager
def _mesh(apis: int, timers: Mapping[str, int]) -> Iterator[Mesh]:
    """Pods of web, db and so many of api, none started."""
    members = {"web": "web", **{f"api-{number}": "api" for number in range(1, apis + 1)}, "db": "db"}
    cast = Cast(members, {"api": (1, apis)}, timers)
    with world(lambda name, event: None, cast=cast) as made:
        yield Mesh(made, Checks(lambda check: None))


def _come(mesh: Mesh, names: Sequence[str]) -> None:
    """Their programs start when they are members: the round has the cores for itself."""
    first = epoch(mesh["web"])
    for name in names:
        mesh.world.start(name)
    for name in names:
        mesh[name].wait("gate", START_S, state="open")
        mesh.world.start_app(name)
    mesh.there += names
    mesh.agreed(first, *mesh.there)


def _go(mesh: Mesh, names: Sequence[str]) -> None:
    """They end as their container engine would have it: each when the others serve without it."""
    first = epoch(mesh["web"])
    for name in names:
        os.kill(mesh[name].processes()[0], signal.SIGTERM)
    eventually(lambda: all(mesh[name].code is not None for name in names), "an end of each")
    _gone(mesh, names)
    mesh.agreed(first, *mesh.there)


def _follow(mesh: Mesh, version: int) -> None:
    """One member is given a newer topology, and all serve it."""
    first = epoch(mesh["web"])
    file = mesh.world.newer(version, _CALLS[version % 2])
    url = f"https://{mesh['web'].pod.ipv4}:{ATTESTATION_PORT}"
    done = mesh.world.outside.run(mesh.world.push_command(url, file), check=False)
    expect(done.returncode == 0, done.stdout + done.stderr, "exit 0")
    mesh.agreed(first, *mesh.there)


def _restart(mesh: Mesh, name: str, other: str) -> None:
    """Its machine dies, and another takes its place."""
    _gone(mesh, [name])
    _come(mesh, [other])


def _evict(mesh: Mesh, name: str) -> float:
    """The host freezes its daemon, whose Envoy would serve on."""
    first = epoch(mesh["web"])
    with held(mesh, name) as connection:
        os.kill(mesh[name].processes()[0], signal.SIGSTOP)
        mesh.there.remove(name)
        mesh.agreed(first, *mesh.there)
        return connection.cut_after(mesh["web"])


def _gone(mesh: Mesh, names: Sequence[str]) -> None:
    for name in names:
        mesh[name].pod.kill_all()
        mesh.there.remove(name)
