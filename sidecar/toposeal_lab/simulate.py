"""`toposeal-lab simulate`: the protocol of production under faults, seed after seed, in virtual time.

Every story runs the shipped state machine, parsers, transcripts and checks; signatures and the vendor's part
of evidence are symbolic. Exits 1 if an invariant was broken, with the fewest faults that do it on stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from toposeal_lab.arguments import positive
from toposeal_lab.simulation.run import Tally, simulate
from toposeal_lab.simulation.shrink import shrink

_SEEDS = 1_000
_SHOWN = 3  # failing seeds that are told in full


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("simulate", help="the protocol under faults, seeded", description=__doc__)
    parser.add_argument("--first-seed", type=int, default=0, metavar="S", help="default 0")
    parser.add_argument(
        "--seeds", type=positive, default=_SEEDS, metavar="N", help=f"how many; default {_SEEDS}"
    )
    parser.add_argument("--jobs", type=positive, metavar="N", help="processes; default: one for each core")
    parser.add_argument("--json", action="store_true", help="one JSON object, and nothing else, on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0 if nothing was broken, else 1."""
    tally = simulate(args.first_seed, args.seeds, args.jobs or cores())
    if args.json:
        print(json.dumps(tally.document()))
    else:
        _tell(tally)
    for seed in sorted(tally.broken)[:_SHOWN]:
        _explain(seed)
    return 1 if tally.broken else 0


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def _tell(tally: Tally) -> None:
    print(f"{tally.seeds} seeds, {tally.sealed_runs} of them sealed, {len(tally.broken)} violations")
    for kind, times in sorted(tally.faults.items()):
        print(f"{times:>12}  {kind}")
    for seed, violation in sorted(tally.broken.items()):
        print(f"seed {seed}: {violation}")


def _explain(seed: int) -> None:
    """On stderr: the shortest story of this seed that was found to break the same."""
    told = shrink(seed)
    if told is None:
        print(f"seed {seed}: breaks nothing when it is run alone", file=sys.stderr)
        return
    print(f"\n{told.text}", file=sys.stderr)
    print(f"{len(told.needed)} of {told.happened} faults are enough:", file=sys.stderr)
    for kind, *which in told.needed:
        print(f"  {kind} {' '.join(map(str, which))}".rstrip(), file=sys.stderr)
    print(f"again: toposeal-lab simulate --first-seed {seed} --seeds 1", file=sys.stderr)
