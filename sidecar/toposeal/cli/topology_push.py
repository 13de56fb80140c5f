"""`toposeal topology push`: give a member of a running mesh a newer signed topology."""

from __future__ import annotations

import argparse
import json
from typing import Any

from toposeal.cli.target import NOT_ATTESTED, add_target, target
from toposeal.host.asking import push_topology
from toposeal.host.files import read_once
from toposeal.limits import MAX_TOPOLOGY_PUSH
from toposeal.outside.endpoint import Endpoint
from toposeal.outside.pushed import Pushed


def register_push(commands: Any) -> None:
    """Add `push`."""
    command = commands.add_parser(
        "push",
        help="give a member of a running mesh a newer signed topology",
        description="One member is enough: they tell each other. Its answer is its word, no proof. While its "
        "gate is closed, give it to its peer port.",
        epilog="Exit codes: 0 accepted or known, 1 usage, 2 signatures, 3 network, 4 version.",
    )
    add_target(command)
    add = command.add_argument
    add("--file", metavar="FILE", required=True, help="the envelope that `topology sign` made")
    add("--json", action="store_true", help="print one JSON object")
    command.set_defaults(run=_push)


def _push(args: argparse.Namespace) -> int:
    endpoint, envelope = target(args), read_once(args.file, MAX_TOPOLOGY_PUSH)
    pushed = push_topology(endpoint, envelope) if args.peer is None else _push_to_peer(endpoint, envelope)
    if args.json:
        print(json.dumps({"attested": False, **pushed.as_json()}))
        return 0
    if args.peer is not None:
        print(NOT_ATTESTED)
    print(f"{'accepted' if pushed.is_news else 'already known'}: version {pushed.version}")
    print(f"that the mesh has sealed it, `toposeal verify --min-version {pushed.version}` proves")
    return 0


def _push_to_peer(endpoint: Endpoint, envelope: bytes) -> Pushed:
    from toposeal.host.asking_peer import push_to_peer

    return push_to_peer(endpoint, envelope)
