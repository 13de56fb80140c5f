"""The option that production does not have: a simulated vendor's root, in a file."""

from __future__ import annotations

import argparse

from toposeal.host.files import read_once
from toposeal.limits import MAX_AMD_CERTIFICATE_SIZE, MAX_CERTIFICATE_SIZE
from toposeal.verification.model import TrustAnchors


def add_anchors(parser: argparse.ArgumentParser) -> None:
    """`--anchors FILE`, which has to be given, and `--amd-anchors FILE`."""
    parser.add_argument("--anchors", metavar="FILE", required=True, help="the simulated Intel's root, DER")
    parser.add_argument("--amd-anchors", metavar="FILE", help="the simulated AMD's root, DER")


def read_anchors(args: argparse.Namespace) -> TrustAnchors:
    """Raises UsageError for a file that cannot be read."""
    amd = [] if args.amd_anchors is None else [read_once(args.amd_anchors, MAX_AMD_CERTIFICATE_SIZE)]
    return TrustAnchors(read_once(args.anchors, MAX_CERTIFICATE_SIZE), amd_roots=tuple(amd))
