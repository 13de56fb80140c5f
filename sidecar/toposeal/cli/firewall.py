"""`toposeal firewall`: print, apply or check the pod's rules; it never removes one.

The handlers import what they need: netlink takes 0.1 s to load, and `--help` needs none of it.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from toposeal.dataplane.firewall import Backend
from toposeal.errors import Reason, UsageError

_FILES = {"nft": "lockdown.nft", "legacy4": "lockdown.v4.rules", "legacy6": "lockdown.v6.rules"}
_AUTO = "auto"


def register(subparsers: Any) -> None:
    """Add `firewall` and its three commands."""
    parser = subparsers.add_parser("firewall", help="render, apply or check the pod's rules")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    render = commands.add_parser("render", help="print a rule file, exactly as it is applied")
    render.add_argument("--backend", choices=sorted(_FILES), default="nft", help="default: %(default)s")
    render.set_defaults(run=_render)
    apply = commands.add_parser("apply", help="close this network namespace and read the rules back")
    _add_backend(apply)
    apply.set_defaults(run=_apply)
    check = commands.add_parser("check", help="compare what the kernel holds with the rule files")
    _add_backend(check)
    check.set_defaults(run=_check)


def _add_backend(command: argparse.ArgumentParser) -> None:
    choices = [_AUTO, *(backend.value for backend in Backend)]
    command.add_argument("--backend", choices=choices, default=_AUTO, help="default: the best there is")


def _render(args: argparse.Namespace) -> int:
    from toposeal.host.firewall import rule_file

    sys.stdout.write(rule_file(_FILES[args.backend]))
    return 0


def _apply(args: argparse.Namespace) -> int:
    from toposeal.host.firewall import apply

    print(f"closed: {apply(_backend(args))}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from toposeal.host.firewall import check

    print(f"as applied: {check(_backend(args))}")
    return 0


def _backend(args: argparse.Namespace) -> Backend | None:
    if os.geteuid() != 0:
        raise UsageError.of(Reason.USAGE, "uid", os.geteuid(), "0: only root may read or change rules")
    return None if args.backend == _AUTO else Backend(args.backend)
