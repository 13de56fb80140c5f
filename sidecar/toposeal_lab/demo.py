"""`toposeal-lab demo`: the shop seals, serves, is attacked, and everything that was made is removed."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from toposeal_lab import traffic
from toposeal_lab.apps import start_app
from toposeal_lab.attacks import before_seal, documents, intruders, misrouting
from toposeal_lab.attacks.stage import Stage
from toposeal_lab.checks import CheckFailed, Checks
from toposeal_lab.keep import keep_running
from toposeal_lab.requirements import CLIENT_PROGRAMS, SHOP_PROGRAMS, SIDECAR_PROGRAMS, check_machine
from toposeal_lab.scenario import MEMBERS, Cast
from toposeal_lab.scenes.mesh import CAST, Mesh
from toposeal_lab.scenes.scenes import SCENES
from toposeal_lab.stolen import corrupt
from toposeal_lab.tees import TeeChoice, add_choice
from toposeal_lab.timeline import Timeline
from toposeal_lab.world import INSIDER, World, world

LAST = "api-2"  # the member without which nothing opens
_START_S, _SEAL_S = 30.0, 30.0
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class Report:
    """What `--json` prints."""

    sealed: bool = False
    seal_seconds: float = 0.0  # from the last member's process start until every gate was open
    verdict: dict[str, Any] = field(default_factory=dict)  # of `toposeal verify`

    def as_json(self, checks: Checks) -> dict[str, object]:
        return {
            "sealed": self.sealed,
            "members": self.verdict.get("members", []),
            "epoch": self.verdict.get("epoch", 0),
            "manifest_digest": self.verdict.get("manifest_digest", ""),
            "seal_seconds": round(self.seal_seconds, 3),
            "checks": checks.results(),
        }


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "demo", help="three roles seal, serve and are attacked", description=__doc__
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else on stdout"
    )
    add_choice(parser)
    parser.add_argument(
        "--scenario", choices=sorted(SCENES), help="instead: members come and go while others are served"
    )
    parser.add_argument("--keep", action="store_true", help="leave everything up until Ctrl-C")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0 when the mesh sealed and every check held, else 1. Raises UsageError for a machine without root."""
    check_machine({**SIDECAR_PROGRAMS, **SHOP_PROGRAMS, **CLIENT_PROGRAMS})
    timeline = Timeline(sys.stderr if args.json else sys.stdout)
    checks, report = Checks(timeline.check), Report()
    cast = CAST if args.scenario else Cast()
    tees = TeeChoice(args.tee)
    with _ended_by_signals(), world(timeline.event, tees, cast=cast) as made, _undisturbed(timeline):
        if args.scenario:
            _play(SCENES[args.scenario], Mesh(made, checks), report)
        else:
            _act(made, timeline, checks, report)
        timeline.say(_summary(checks, report, timeline))
        if args.json:
            print(json.dumps(report.as_json(checks)), flush=True)
        if args.keep:
            keep_running(made, timeline)
    return 0 if report.sealed and checks.ok else 1


def _act(made: World, timeline: Timeline, checks: Checks, report: Report) -> None:
    stage = _set(made, timeline, checks)
    checks.check("three of four members start closed", lambda: _start_first(made))
    if not checks.ok:
        return
    before_seal.run(stage)
    checks.check("the last member comes and the mesh seals", lambda: _seal(made, report))
    if not report.sealed:
        return
    report.verdict = traffic.verify(stage)
    traffic.serve(stage)
    insider = corrupt(made.members[INSIDER], made.insider_key())
    intruders.run(stage, insider)
    misrouting.run(stage, insider)
    documents.run(stage)


def _play(scene: Callable[[Mesh], None], mesh: Mesh, report: Report) -> None:
    with suppress(CheckFailed):  # recorded already
        scene(mesh)
    report.sealed, report.seal_seconds = mesh.seal_seconds > 0, mesh.seal_seconds
    report.verdict = mesh.verdict


def _set(made: World, timeline: Timeline, checks: Checks) -> Stage:
    bystander, rogue = made.add_pod("bystander"), made.add_pod("rogue")
    start_app(bystander, "db", made.file("app-bystander"))
    for pod in [*(member.pod for member in made.members.values()), bystander, rogue]:
        timeline.note("lab", f"pod {pod.name} has {' and '.join(pod.addresses)}")
    return Stage(made, bystander, rogue, checks)


def _start_first(made: World) -> str:
    first = [name for name in MEMBERS if name != LAST]
    for name in first:
        made.start(name)
    for name in first:
        made.members[name].wait("phase", _START_S, phase="gathering")
        made.start_app(name)
    return f"{', '.join(first)} gather; their programs run; {LAST} is missing"


def _seal(made: World, report: Report) -> str:
    last = made.start(LAST)
    last.wait("phase", _START_S, phase="gathering")
    made.start_app(LAST)
    opened = [member.wait("gate", _SEAL_S, state="open") for member in made.members.values()]
    report.sealed, report.seal_seconds = True, max(opened) - last.started
    return f"every gate open {report.seal_seconds:.2f} s after {LAST}'s process began"


def _summary(checks: Checks, report: Report, timeline: Timeline) -> str:
    results = checks.results()
    held = sum(bool(check["ok"]) for check in results)
    state = f"sealed in {report.seal_seconds:.2f} s" if report.sealed else "NOT sealed"
    return f"\n{state}; {held} of {len(results)} checks held; {timeline.elapsed:.1f} s in all"


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the run as Ctrl-C does: by an exception, so that everything is removed.

    SIGINT too is set, since a shell that starts us in the background has it ignored.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _undisturbed(timeline: Timeline) -> Iterator[None]:
    """Once the removal begins, no second Ctrl-C ends it half way."""
    try:
        yield
    finally:
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)
        timeline.say("removing pods, processes and mounts")
