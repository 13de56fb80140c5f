"""`toposeal-lab doctor`: the production command, with another configfs directory."""

from __future__ import annotations

import argparse
from typing import Any

from toposeal.cli import doctor as production


def register(subparsers: Any) -> None:
    """The production command's own parser, with one option more."""
    production.register(subparsers)
    parser = subparsers.choices["doctor"]
    parser.add_argument("--tsm", metavar="DIR", required=True, help="this pod's simulated configfs-tsm")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    return production.report(args, args.tsm)
