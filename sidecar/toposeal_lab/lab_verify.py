"""`toposeal-lab verify`: the production command under a root certificate given in a file."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

from toposeal.cli import verify as production
from toposeal_lab.anchors import add_anchors, read_anchors


def register(subparsers: Any) -> None:
    """The production command's own parser and handler, with one option more."""
    production.register(subparsers)
    under_anchors(subparsers.choices["verify"])


def under_anchors(parser: argparse.ArgumentParser) -> None:
    """The handler of `parser` gets the roots that its arguments then name."""
    add_anchors(parser)
    parser.set_defaults(run=partial(_run, parser.get_default("run")))


def _run(handler: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    args.anchors = read_anchors(args)
    return handler(args)
