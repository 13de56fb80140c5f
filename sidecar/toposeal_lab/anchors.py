"""The option that production does not have: a simulated vendor's root, in a file."""

from __future__ import annotations

import argparse

from toposeal.host.files import read_once
from toposeal.limits import MAX_CERTIFICATE_SIZE
from toposeal.verification.model import TrustAnchors


def add_anchors(parser: argparse.ArgumentParser) -> None:
    """`--anchors FILE`, which has to be given."""
    parser.add_argument("--anchors", metavar="FILE", required=True, help="the simulated vendor's root, DER")


def read_anchors(args: argparse.Namespace) -> TrustAnchors:
    """Raises UsageError for a file that cannot be read."""
    return TrustAnchors(intel_sgx_root_ca=read_once(args.anchors, MAX_CERTIFICATE_SIZE))
