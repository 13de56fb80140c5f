"""`toposeal-lab bench`: how fast the shop seals, verifies and carries, and what a sealed pod costs.

Every number is the median of several runs, with the machine it was measured on; quotes are simulated,
but those of `evidence` are genuine where a folder of them is at hand.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from toposeal_lab import bench_crowd as crowd
from toposeal_lab import bench_dataplane as dataplane
from toposeal_lab import bench_rounds as rounds
from toposeal_lab.arguments import positive
from toposeal_lab.bench_evidence import bench_evidence
from toposeal_lab.checks import CheckFailed
from toposeal_lab.measure import Usage, is_python, machine, median, usage
from toposeal_lab.member import Event, Member
from toposeal_lab.requirements import SIDECAR_PROGRAMS, check_machine
from toposeal_lab.scenario import ATTESTATION_PORT, MEMBERS
from toposeal_lab.world import World, world

Result = dict[str, Any]

LAST = "api-2"  # its process starts when all others wait for it
_WAIT_S = 30.0
_SETTLE_S = 2.0  # until those who wait, and those who have sealed, are idle
_IDLE_S = 10.0
# Limits per number; protocol_seconds has the time of one quote on top.
TARGETS = {
    "start_to_gate_seconds": 1.5,
    "protocol_seconds": 0.15,
    "daemon_rss_mib": 80.0,
    "daemon_cpu_percent": 0.5,
    "verify_seconds": 0.5,
    "tdx_ratio": 1.25,
    "snp_ratio": 1.15,
    "repeat_us": 100.0,
    "worst_stall_ms": 50.0,
    "p99": 1.05,
    "update_100_ms": 30.0,
    "update_1000_ms": 100.0,
    "memory_mib": 60.0,
    "gate_ms": 400.0,
    "p99_ratio": 1.5,
    "failed_requests": 0,
    "cut_connections": 0,
    "eviction_seconds": 11.0,
}
AT_LEAST = {"keepalive": 0.97, "bulk": 0.97}  # ratios to the hand-written pair
_BUSY = 0.5  # load per core above which the numbers say little


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("bench", help="measure this machine", description=__doc__)
    parser.add_argument("what", nargs="?", choices=[*BENCHES], help="one benchmark; default: all")
    parser.add_argument("--json", action="store_true", help="one JSON object, and nothing else, on stdout")
    parser.add_argument("--runs", type=positive, default=5, metavar="N", help="runs per median (default 5)")
    parser.add_argument("--quote-delay", type=int, default=0, metavar="MS", help="what a quote takes longer")
    dataplane.add_arguments(parser)
    rounds.add_arguments(parser)
    crowd.add_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0 when everything was measured, whatever the numbers; 1 when the mesh did not come up."""
    if args.what not in ("evidence", "crowd"):  # the only ones that start no pod
        check_machine(SIDECAR_PROGRAMS)
    result: Result = {"machine": machine()}
    _warn(result["machine"])
    try:
        for name in [args.what] if args.what else [*BENCHES]:
            found = BENCHES[name](args)
            result |= found if args.what else {name: found}
    except CheckFailed as failure:
        print(f"toposeal-lab: {failure}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(result))
    else:
        _show(result)
    return 0


def bench_start(args: argparse.Namespace) -> Result:
    """From the last member's process start to its gate open, three roles and four members."""
    runs = [_start_once(args.quote_delay) for _ in range(args.runs)]
    numbers = ("start_to_gate_seconds", "protocol_seconds", "quote_seconds")
    passed: dict[str, list[float]] = {}  # a fast member may not stop in every phase
    for one in runs:
        for name, seconds in one["phases"].items():
            passed.setdefault(name, []).append(seconds)
    phases = {name: median(seconds) for name, seconds in passed.items()}
    return {name: median([one[name] for one in runs]) for name in numbers} | {"phases": phases}


def bench_idle(args: argparse.Namespace) -> Result:
    """Memory and CPU of the most expensive daemon when sealed and idle; Envoy beside it."""
    with _sealed(args.quote_delay) as made:
        time.sleep(_SETTLE_S)
        before = {name: _daemon(member) for name, member in made.members.items()}
        time.sleep(_IDLE_S)
        after = {name: _daemon(member) for name, member in made.members.items()}
        envoys = [usage(pid for pid in m.processes() if not is_python(pid)) for m in made.members.values()]
    shares = [(after[name].cpu_seconds - before[name].cpu_seconds) / _IDLE_S for name in MEMBERS]
    return {
        "daemon_rss_mib": round(max(used.rss_mib for used in after.values()), 1),
        "daemon_cpu_percent": round(100 * max(shares), 2),
        "envoy_rss_mib": round(max(used.rss_mib for used in envoys), 1),
    }


def bench_verify(args: argparse.Namespace) -> Result:
    """`toposeal verify` of a four-member document, from process start, nonce fetched included."""
    with _sealed(args.quote_delay) as made:
        return {"verify_seconds": median([_verify_once(made) for _ in range(args.runs)])}


BENCHES: Mapping[str, Callable[[argparse.Namespace], Result]] = {
    "start": bench_start,
    "idle": bench_idle,
    "verify": bench_verify,
    "evidence": bench_evidence,
    "dataplane": dataplane.bench_dataplane,
    "rounds": rounds.bench_rounds,
    "crowd": crowd.bench_crowd,
}


def _start_once(quote_delay_ms: int) -> Result:
    with _sealed(quote_delay_ms) as made:
        members, last = made.members.values(), made.members[LAST]
        active = max(member.wait("phase", _WAIT_S, phase="active") for member in members)
        phases = {
            _label(event): round(float(event["t"]) - last.started, 4)  # type: ignore[arg-type]
            for event in last.journal()
            if _label(event)
        }
        return {
            "start_to_gate_seconds": last.wait("gate", _WAIT_S, state="open") - last.started,
            "protocol_seconds": active - last.wait("phase", _WAIT_S, phase="gathering"),
            "quote_seconds": max(_quote_seconds(member) for member in members),
            "phases": phases,
        }


def _quote_seconds(member: Member) -> float:
    """What the SEAL quote took this member."""
    member.wait("quote", _WAIT_S, purpose="seal")
    return max(float(str(e["ms"])) / 1000 for e in member.events("quote") if e["purpose"] == "seal")


def _label(event: Event) -> str:
    """A name for the moments that a start passes through, in seconds after the process began."""
    kind = str(event.get("event"))
    detail = {"phase": "phase", "gate": "state", "quote": "purpose"}.get(kind)
    return f"{kind} {event.get(detail)}" if detail else kind if kind in ("start", "envoy") else ""


@contextmanager
def _sealed(quote_delay_ms: int) -> Iterator[World]:
    """A mesh whose last member was started when all others waited for it, all gates open."""
    with world(lambda name, event: None, quote_delay_ms=quote_delay_ms) as made:
        for name in MEMBERS:
            if name != LAST:
                made.start(name)
        for name in MEMBERS:
            if name != LAST:
                made.members[name].wait("phase", _WAIT_S, phase="gathering")
        time.sleep(_SETTLE_S)
        made.start(LAST)
        for member in made.members.values():
            member.wait("gate", _WAIT_S, state="open")
        yield made


def _daemon(member: Member) -> Usage:
    return usage(pid for pid in member.processes() if is_python(pid))


def _verify_once(made: World) -> float:
    url = f"https://{made.members['web'].pod.ipv4}:{ATTESTATION_PORT}"
    command = made.verify_command(url)
    started = time.monotonic()
    done = made.outside.run(command, check=False)
    if done.returncode:
        raise CheckFailed(f"verify exit {done.returncode}: {done.stdout.decode()[-400:]}")
    return time.monotonic() - started


def _warn(found: Mapping[str, Any]) -> None:
    """On stderr, so that JSON stays JSON."""
    if found["load"] > _BUSY * found["cores"]:
        print(
            f"toposeal-lab: the machine is busy (load {found['load']}): measure again later", file=sys.stderr
        )


def _show(result: Mapping[str, Any], indent: str = "") -> None:
    for name, value in result.items():
        if isinstance(value, dict):
            print(f"{indent}{name}")
            _show(value, indent + "  ")
        else:
            print(f"{indent}{name:<24} {value}{_target(name)}")


def _target(name: str) -> str:
    if name in AT_LEAST:
        return f"   (target: at least {AT_LEAST[name]})"
    return f"   (target: at most {TARGETS[name]})" if name in TARGETS else ""
