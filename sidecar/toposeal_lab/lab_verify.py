"""`toposeal-lab verify`: the production command under a root certificate given in a file."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

from toposeal.cli import verify as production
from toposeal.host.files import read_once
from toposeal.limits import MAX_CERTIFICATE_SIZE
from toposeal.verification.model import TrustAnchors


def register(subparsers: Any) -> None:
    """The production command's own parser and handler, with one option more."""
    production.register(subparsers)
    parser = subparsers.choices["verify"]
    add_anchors(parser)
    parser.set_defaults(run=partial(_run, parser.get_default("run")))


def _run(handler: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    args.anchors = read_anchors(args)
    return handler(args)


def add_anchors(parser: argparse.ArgumentParser) -> None:
    """The option that production does not have."""
    parser.add_argument("--anchors", metavar="FILE", required=True, help="the simulated vendor's root, DER")


def read_anchors(args: argparse.Namespace) -> TrustAnchors:
    """Raises UsageError for a file that cannot be read."""
    return TrustAnchors(intel_sgx_root_ca=read_once(args.anchors, MAX_CERTIFICATE_SIZE))
