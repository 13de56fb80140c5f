"""`toposeal-lab bench rounds`: what sealing costs by the number of members, and a round those who stay.

Of one round among few members there are too few requests to say what the slowest of a hundred takes: they are
counted over several in which a fifth joins, and over several in which members attest themselves anew and no
other pod starts.

Real daemons in pods of one machine, quotes simulated. Many members on few cores wait for each other: then
`cpu_seconds` says more than `seal_seconds`.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import quantiles
from typing import Any

from toposeal_lab.arguments import positive
from toposeal_lab.checks import Checks
from toposeal_lab.load import Span
from toposeal_lab.measure import is_python, median, usage
from toposeal_lab.member import Event, Member
from toposeal_lab.requirements import SHOP_PROGRAMS, check_machine
from toposeal_lab.scenario import Cast
from toposeal_lab.scenes.held import held
from toposeal_lab.scenes.mesh import CAST, POSSIBLE, TIMERS, Mesh, epoch
from toposeal_lab.timeline import boottime
from toposeal_lab.world import World, world

Result = dict[str, Any]

_WAIT_S = 300.0
_BEFORE_S, _REST_S = 5.0, 2.0  # of load alone: before the first join, and before every other
_FOUR = ("web", "api-1", "api-2", "db")
_ATTESTATIONS = 2  # for each of the runs that are asked for
_OFTEN = {**TIMERS, "reattest_ms": 5_000}
_PATIENT = {"view_ms": 2_000, "quote_ms": 45_000, "attempt_ms": 60_000, "lease_ms": 120_000}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `bench` takes for this benchmark alone."""
    parser.add_argument(
        "--mesh",
        type=int,
        nargs="+",
        default=[3, 6, 10, 14, 20],
        metavar="N",
        help="rounds: sizes to seal, from 3",
    )
    parser.add_argument("--rate", type=positive, default=200, metavar="N", help="rounds: requests a second")


def bench_rounds(args: argparse.Namespace) -> Result:
    """Sealing at each size; then a mesh of four under load, which a fifth joins and leaves, time and again,
    until another is left out; then four that attest themselves anew.
    """
    check_machine(SHOP_PROGRAMS)
    curves = [_seal(size, args.quote_delay) for size in args.mesh]
    return {
        "curves": curves,
        **_living(args.rate, args.runs),
        "attesting": _attesting(args.rate, _ATTESTATIONS * args.runs),
    }


def _seal(size: int, quote_delay_ms: int) -> Result:
    """All begin at once. CPU and bytes are those of one member, medians, until all were active; seconds are
    counted from when the last of them gathered.
    """
    apis = [f"api-{number}" for number in range(1, size - 1)]
    members = {"web": "web", **dict.fromkeys(apis, "api"), "db": "db"}
    cast = Cast(members, {"api": (len(apis), len(apis))}, _PATIENT)
    with world(lambda name, event: None, quote_delay_ms=quote_delay_ms, cast=cast) as made:
        for name in members:
            made.start(name)
        active = [member.wait("phase", _WAIT_S, phase="active") for member in made.members.values()]
        cpu = [usage(filter(is_python, m.processes())).cpu_seconds for m in made.members.values()]
        return {
            "n": size,
            "seal_seconds": round(max(active) - max(map(_gathered, made.members.values())), 3),
            "quote_seconds": round(median([_quoted(member) for member in made.members.values()]), 3),
            "cpu_seconds": round(median(cpu), 2),
            "bytes": round(median([_sent(made, name) for name in members])),
        }


def _quoted(member: Member) -> float:
    """Seconds that its quotes took: JOIN and SEAL."""
    return sum(float(str(event["ms"])) for event in member.events("quote")) / 1000


def _gathered(member: Member) -> float:
    """When it first did."""
    return member.wait("phase", _WAIT_S, phase="gathering")


def _sent(made: World, name: str) -> int:
    """Bytes that the pod has sent so far."""
    path = Path("/sys/class/net/eth0/statistics/tx_bytes")
    return int(made.members[name].pod.run(["cat", str(path)]).stdout)


def _living(per_second: int, times: int) -> Result:
    fifths = [f"api-{number}" for number in range(3, 3 + times)]  # a pod of its own each: it has one boot
    cast = replace(CAST, members={**{name: POSSIBLE[name] for name in _FOUR}, **dict.fromkeys(fifths, "api")})
    with world(lambda name, event: None, cast=cast) as made:
        mesh = Mesh(made, Checks(lambda check: None))
        mesh.seal(*_FOUR)
        spans: dict[str, list[Span]] = {"before": [], "join": [], "round": []}
        with mesh.load(per_second) as traffic:
            spans["before"].append(_rest(_BEFORE_S))
            for fifth in fifths:
                join = _join(mesh, fifth)
                spans["join"].append(join)
                spans["round"].append(_round(mesh, *join))
                if fifth != fifths[-1]:
                    _leave(mesh, fifth)
                    spans["before"].append(_rest(_REST_S))
            with held(mesh, "api-2") as connection:
                os.kill(mesh["api-2"].processes()[0], signal.SIGSTOP)
                mesh.agreed(epoch(mesh["web"]), "web", "api-1", "db", fifths[-1])
                eviction = connection.cut_after(mesh["web"])
        ms = {name: _spread(traffic.due_in(of_kind)) for name, of_kind in spans.items()}
        p99 = {name: each["p99"] for name, each in ms.items()}
        return {
            "joins": times,
            "requests": traffic.requests,
            "failed_requests": traffic.failed,
            "cut_connections": traffic.cut,
            "p99_ms": p99,
            "p99_ratio": round(p99["round"] / p99["before"], 2),
            "p99_join_ratio": round(p99["join"] / p99["before"], 2),
            "seconds": {
                name: round(median([until - since for since, until in of_kind]), 2)
                for name, of_kind in spans.items()
            },
            "eviction_seconds": round(eviction, 3),
            "lease_seconds": _lease(TIMERS),
        }


def _rest(seconds: float) -> Span:
    began = boottime()
    time.sleep(seconds)
    return began, boottime()


def _join(mesh: Mesh, fifth: str) -> Span:
    """From the start of its daemon until all five serve one manifest."""
    began, first = boottime(), epoch(mesh["web"])
    mesh.world.start(fifth)
    mesh[fifth].wait("gate", _WAIT_S, state="open")
    mesh.world.start_app(fifth)
    mesh.agreed(first, *_FOUR, fifth)
    return began, boottime()


def _leave(mesh: Mesh, fifth: str) -> None:
    """It ends, as its container engine would have it, and the others serve without it."""
    first = epoch(mesh["web"])
    mesh[fifth].stop()
    mesh[fifth].pod.kill_all()
    mesh.agreed(first, *_FOUR)


def _attesting(per_second: int, times: int) -> Result:
    """Milliseconds of the requests that were due in such a round, and of all others: median and p99."""
    with world(lambda name, event: None, cast=replace(CAST, timers=_OFTEN)) as made:
        mesh = Mesh(made, Checks(lambda check: None))
        mesh.seal(*_FOUR)
        with mesh.load(per_second) as traffic:
            began = boottime()
            for _ in range(times):
                mesh.agreed(epoch(mesh["web"]), *_FOUR)
        journals = [event for name in _FOUR for event in mesh[name].journal() if _at(event) > began]
        rounds = sorted(committed(journals, len(_FOUR)))
        ends = [began, *(until for _, until in rounds)]
        between = list(zip(ends, [*(since for since, _ in rounds), math.inf], strict=True))
        ms = {
            name: _spread(traffic.due_in(spans)) for name, spans in (("between", between), ("round", rounds))
        }
        return {
            "rounds": len(rounds),
            "ms": ms,
            "p99_ratio": round(ms["round"]["p99"] / ms["between"]["p99"], 2),
            "failed_requests": traffic.failed,
            "cut_connections": traffic.cut,
        }


def _spread(seconds: list[float]) -> dict[str, float]:
    hundredths = quantiles(seconds, n=100)
    return {"median": round(1000 * hundredths[49], 2), "p99": round(1000 * hundredths[-1], 2)}


def committed(journals: Iterable[Event], members: int) -> list[Span]:
    """Of each epoch that all `members` served: from when the first proposed its manifest until the last
    served it. Before that they only wait for each other.
    """
    proposed: dict[object, list[float]] = {}
    served: dict[object, list[float]] = {}
    for event in journals:
        if event.get("phase") == "proposed":
            proposed.setdefault(event["epoch"], []).append(_at(event))
        elif event["event"] == "gate" and event.get("state") == "open":
            served.setdefault(event["epoch"], []).append(_at(event))
    whole = (number for number, times in served.items() if len(times) == members and number in proposed)
    return [(min(proposed[number]), max(served[number])) for number in whole]


def _round(mesh: Mesh, since: float, until: float) -> Span:
    """From when the first of those who were there took part in another attempt until the last of them served
    what came of it. The rest of a join is the start of another pod, on the same two cores here.
    """
    events = [event for name in _FOUR for event in mesh[name].journal() if since < _at(event) < until]
    begun = [_at(event) for event in events if event["event"] == "phase"]
    served = [_at(event) for event in events if event["event"] == "gate" and event["state"] == "open"]
    return min(begun), max(served)


def _at(event: Event) -> float:
    return float(str(event["t"]))


def _lease(timers: Mapping[str, int]) -> float:
    """What passes before the eviction begins."""
    return timers["lease_ms"] / 1000
