"""`toposeal-lab run`: the production daemon on a simulated platform, and, if asked, with a leaked key."""

from __future__ import annotations

import argparse
from typing import Any

from toposeal.cli import run as production
from toposeal_lab.anchors import add_anchors, read_anchors


def register(subparsers: Any) -> None:
    """The production command's own parser, with four options more."""
    production.register(subparsers)
    parser = subparsers.choices["run"]
    add_anchors(parser)
    parser.add_argument("--tsm", metavar="DIR", required=True, help="this pod's simulated configfs-tsm")
    parser.add_argument("--measurements", metavar="DIR", help="this pod's simulated registers (TDX)")
    parser.add_argument("--insider", metavar="FILE", help="leave the CA key here: a compromised member")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    given = production.values(args)
    child = production.enter_pod(given)

    from toposeal.daemon.service import Platform, run_pod
    from toposeal.host.rtmr import MEASUREMENTS

    if args.insider is not None:
        _leak_ca_key(args.insider)
    measurements = args.measurements or MEASUREMENTS
    platform = Platform(anchors=read_anchors(args), report_dir=args.tsm, measurements=measurements)
    return run_pod(given, platform, child)


def _leak_ca_key(path: str) -> None:
    """Production has no way to get at the key, so the lab replaces the function that makes it."""
    from toposeal.daemon import identity
    from toposeal.host.files import write_atomic
    from toposeal_lab.forge import key_pem

    names = vars(identity)
    make = names["new_signing_keys"]

    def leaking() -> Any:
        keys = make()
        write_atomic(path, key_pem(keys.ca).encode("ascii"))
        return keys

    names["new_signing_keys"] = leaking
