"""`toposeal topology push`: give a member of a running mesh a newer signed topology."""

from __future__ import annotations

import argparse
import json
from typing import Any

from toposeal.host.asking import push_topology
from toposeal.host.files import read_once
from toposeal.limits import MAX_TOPOLOGY_PUSH
from toposeal.outside.endpoint import Endpoint


def register_push(commands: Any) -> None:
    """Add `push`."""
    command = commands.add_parser(
        "push",
        help="give a member of a running mesh a newer signed topology",
        description="One member is enough: they tell each other. Its answer is its word, no proof.",
        epilog="Exit codes: 0 accepted or known, 1 usage, 2 signatures, 3 network, 4 version.",
    )
    add = command.add_argument
    add("url", metavar="URL", help="https://HOST:PORT of a member's attestation or ingress port")
    add("--file", metavar="FILE", required=True, help="the envelope that `topology sign` made")
    add("--connect", metavar="HOST:PORT", help="where to connect, if not to the URL's host")
    add("--json", action="store_true", help="print one JSON object")
    command.set_defaults(run=_push)


def _push(args: argparse.Namespace) -> int:
    endpoint = Endpoint.parse(args.url, args.connect)
    pushed = push_topology(endpoint, read_once(args.file, MAX_TOPOLOGY_PUSH))
    if args.json:
        print(json.dumps(pushed.as_json()))
        return 0
    print(f"{'accepted' if pushed.is_news else 'already known'}: version {pushed.version}")
    print(f"that the mesh has sealed it, `toposeal verify --min-version {pushed.version}` proves")
    return 0
