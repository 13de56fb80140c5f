"""`toposeal-lab bench crowd`: what sealing asks of one member of a mesh of up to 1,000. Starts no pod.

One member is the whole production state machine with real signatures, and what its steps cost is measured.
All others are extras: their messages are genuine but for the vendor's part of the evidence. What appraising
that would cost is one measured TDX verdict times the number of appraisals. Simulated is the time of quotes
and of messages, and who waits for whom: a member has one core, where steps and appraisals take turns.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from toposeal_lab.bench_evidence import forget_parsed
from toposeal_lab.checks import CheckFailed
from toposeal_lab.measure import median
from toposeal_lab.samples import genuine, simulated_tdx
from toposeal_lab.simulation.crowd import QUOTE_MS, Costs, Crowd

Result = dict[str, Any]

_VERDICTS = 200
_PER_HOST = 5
_WAIT_MS = 600_000.0
_PATIENT: dict[str, Any] = {"ping_ms": 20_000, "attempt_ms": 300_000, "quote_ms": 300_000}
_WHOLE = 100  # members of the mesh in which every one of them is whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `bench` takes for this benchmark alone."""
    parser.add_argument(
        "--crowd",
        type=int,
        nargs="+",
        default=[30, 100, 300, 1000],
        metavar="N",
        help="crowd: sizes to seal, from 2",
    )
    parser.add_argument(
        "--whole",
        type=int,
        default=_WHOLE,
        metavar="N",
        help="crowd: size of the mesh without extras, 0: none",
    )


def bench_crowd(args: argparse.Namespace) -> Result:
    """One member's share at each size; then the time that a mesh of whole members takes."""
    appraisal_ms = _appraisal_ms()
    found: Result = {"appraisal_ms": round(appraisal_ms, 3), "quote_ms": QUOTE_MS, "per_host": _PER_HOST}
    found["crowd"] = [_share(size, appraisal_ms) for size in args.crowd]
    if args.whole:
        found["whole"] = _whole(args.whole, appraisal_ms)
    return found


def _share(size: int, appraisal_ms: float) -> Result:
    crowd = _sealed(size, 1, appraisal_ms)
    measured = next(iter(crowd.machines.values()))
    return {
        "n": size,
        "seal_seconds": _seal_seconds(crowd),
        "quote_seconds": round(measured.quotes * QUOTE_MS / 1000, 3),
        "verification_seconds": round(measured.appraisals * appraisal_ms / 1000, 3),
        "message_seconds": round(measured.step_ms / 1000, 3),
        "bytes": measured.sent_bytes,
        "largest_message": measured.largest,
    }


def _whole(size: int, appraisal_ms: float) -> Result:
    crowd = _sealed(size, size, appraisal_ms)
    steps = [each.step_ms for each in crowd.machines.values()]
    return {
        "n": size,
        "hosts": -(-size // _PER_HOST),
        "seal_seconds": _seal_seconds(crowd),
        "message_seconds": round(median(steps) / 1000, 3),
    }


def _sealed(size: int, machines: int, appraisal_ms: float) -> Crowd:
    """All begin at once, and all that are machines serve."""
    costs = Costs(steps=True, appraisal_ms=appraisal_ms)
    crowd = Crowd(size, machines, -(-size // _PER_HOST), symbolic=False, costs=costs, **_PATIENT)
    crowd.run(_WAIT_MS, crowd.all_active)
    if not crowd.all_active():
        raise CheckFailed(f"{size} members did not seal in {_WAIT_MS / 1000:g} simulated seconds")
    return crowd


def _seal_seconds(crowd: Crowd) -> float:
    """Simulated, from the last HELLO until all serve."""
    ends = [each.active_at for each in crowd.machines.values() if each.active_at is not None]
    return round((max(ends) - crowd.last_hello) / 1000, 3)


def _appraisal_ms() -> float:
    """CPU of one TDX verdict about a platform not seen before: certificates and collateral are parsed."""
    sample = next((each for each in genuine() if each.name.startswith("v4-")), None) or simulated_tdx()
    spent = []
    for _ in range(_VERDICTS):
        forget_parsed()
        began = time.thread_time()
        sample.verify()
        spent.append(1000 * (time.thread_time() - began))
    return median(spent)
