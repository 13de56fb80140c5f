"""`toposeal doctor`, run inside a pod: what is there, what is missing, and what to do about it.

It asks nobody and changes nothing. Only where every distribution can be imported does it look any further:
each look goes by the daemon's own code.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from toposeal.cli import run
from toposeal.cli.exits import Exit
from toposeal.gate.doctor import Finding, Look, Unknown, Wrong, examine, is_whole

# What is left unseen where a distribution is missing.
_UNSEEN = (
    "setpriv",
    "envoy",
    "quotes",
    "back end",
    "rules",
    "state directory",
    "owner",
    "topology",
    "role",
    "clock",
)


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "doctor",
        help="run inside a pod: say what is missing there",
        description="Say what the sidecar has and lacks in the pod that this is run in: as root, in the "
        "sidecar's container, with what `toposeal run` is given, or as much of it as is known.",
        epilog="Exit codes: 0 nothing is missing, 1 something is, or usage; what it cannot tell is neither.",
    )
    run.add_arguments(parser)
    parser.add_argument("--quote", action="store_true", help="ask the hardware for a report too")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    return report(args)


def report(args: argparse.Namespace, report_dir: str | None = None) -> int:
    """Print the findings; the exit code. `report_dir` is the kernel's, unless the build has another."""
    from toposeal.host import doctor

    distributions = doctor.distributions()
    looks: Mapping[str, Look]
    wanted: Sequence[str] | None = None
    if isinstance(distributions, Wrong):
        looks = dict.fromkeys(_UNSEEN, Unknown("a distribution is missing"))
    else:
        from toposeal.daemon.doctor import look_around

        looks, wanted = look_around(_known(args), report_dir, doctor.own_capabilities(), quote=args.quote)
    findings = examine(doctor.facts({"distributions": distributions, **looks}, wanted))
    _print(findings, as_json=args.json)
    return Exit.OK if is_whole(findings) else Exit.USAGE


def _known(args: argparse.Namespace) -> dict[str, str]:
    """What `run` would go by. Without a topology nobody means its default file of collateral."""
    values = run.values(args)
    if "topology" not in values and args.collateral is None:
        values.pop("collateral", None)
    return values


def _print(findings: Sequence[Finding], *, as_json: bool) -> None:
    if not as_json:
        for finding in findings:
            print(finding)
        return
    rows = [
        {
            "check": finding.check,
            "state": finding.state.value,
            "found": finding.found,
            "reason": finding.reason.value if finding.reason else None,
            "cure": finding.cure,
        }
        for finding in findings
    ]
    print(json.dumps({"whole": is_whole(findings), "findings": rows}, indent=2))
