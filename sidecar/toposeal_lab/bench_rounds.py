"""`toposeal-lab bench rounds`: what sealing costs by the number of members, and a round those who stay.

Of one round among few members there are too few requests to say what the slowest of a hundred takes: they are
counted over several of each kind, and over several in which members attest themselves anew and no pod starts.

Real daemons in pods of one machine, quotes simulated. Many members on few cores wait for each other: then
`cpu_seconds` says more than `seal_seconds`.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from toposeal_lab.arguments import positive
from toposeal_lab.bench_changes import bench_changes, bench_crowded, lost
from toposeal_lab.bench_spans import committed, happened_at, spread
from toposeal_lab.checks import Checks
from toposeal_lab.measure import is_python, median, usage
from toposeal_lab.member import Member
from toposeal_lab.requirements import SHOP_PROGRAMS, check_machine
from toposeal_lab.scenario import ROLES, Cast
from toposeal_lab.scenes.mesh import CAST, TIMERS, Mesh, epoch
from toposeal_lab.timeline import boottime
from toposeal_lab.world import World, world

Result = dict[str, Any]

_WAIT_S = 300.0
_LOST = ("requests", "failed_requests", "cut_connections")
_FOUR = ("web", "api-1", "api-2", "db")
_ATTESTATIONS = 2  # for each of the runs that are asked for
_OFTEN = {**TIMERS, "reattest_ms": 5_000}
_PATIENT = {"view_ms": 2_000, "quote_ms": 45_000, "attempt_ms": 60_000, "lease_ms": 120_000}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `bench` takes for this benchmark alone."""
    parser.add_argument(
        "--mesh",
        type=_of_every_role,
        nargs="+",
        default=[3, 6, 10, 14, 20],
        metavar="N",
        help="rounds: sizes to seal, from 3",
    )
    parser.add_argument(
        "--crowded",
        type=_of_every_role,
        default=10,
        metavar="N",
        help="rounds: members that one more joins, from 3",
    )
    parser.add_argument("--rate", type=positive, default=200, metavar="N", help="rounds: requests a second")


def _of_every_role(text: str) -> int:
    """Members of a mesh. Raises ArgumentTypeError for fewer than the shop has roles."""
    number, least = int(text), len(ROLES)
    if number < least:
        raise argparse.ArgumentTypeError(f"{number}: at least {least}")
    return number


def bench_rounds(args: argparse.Namespace) -> Result:
    """Sealing at each size; then, under load, every change of a small mesh, one more member of a larger one,
    and four members that attest themselves anew. What was lost is counted over all of it.
    """
    check_machine(SHOP_PROGRAMS)
    curves = [_seal(size, args.quote_delay) for size in args.mesh]
    few = (args.runs + 1) // 2
    changing = bench_changes(args.rate, few)
    crowded = bench_crowded(args.crowded, args.rate, few)
    attesting = _attesting(args.rate, _ATTESTATIONS * args.runs)
    everywhere = {name: changing[name] + crowded[name] + attesting[name] for name in _LOST}
    ratio = changing["changes"]["join"]["p99_ratio"]
    parts = {"crowded": crowded, "attesting": attesting}
    return {"curves": curves, "rate": args.rate, **changing, **everywhere, "p99_ratio": ratio, **parts}


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


def _attesting(per_second: int, times: int) -> Result:
    """Milliseconds of the requests that were due in such a round, and of all others: median and p99."""
    with world(lambda name, event: None, cast=replace(CAST, timers=_OFTEN)) as made:
        mesh = Mesh(made, Checks(lambda check: None))
        mesh.seal(*_FOUR)
        with mesh.load(per_second) as traffic:
            began = boottime()
            for _ in range(times):
                mesh.agreed(epoch(mesh["web"]), *_FOUR)
        journals = [event for name in _FOUR for event in mesh[name].journal() if happened_at(event) > began]
        rounds = sorted(committed(journals, len(_FOUR)))
        ends = [began, *(until for _, until in rounds)]
        between = list(zip(ends, [*(since for since, _ in rounds), math.inf], strict=True))
        ms = {
            name: spread(traffic.due_in(spans)) for name, spans in (("between", between), ("round", rounds))
        }
        return {
            "rounds": len(rounds),
            "ms": ms,
            "p99_ratio": round(ms["round"]["p99"] / ms["between"]["p99"], 2),
            **lost(traffic),
        }
