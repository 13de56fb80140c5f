"""`toposeal status`: what one member says of itself."""

from __future__ import annotations

import argparse
import json
from typing import Any

from toposeal.cli.target import NOT_ATTESTED, add_target, target
from toposeal.errors import printable
from toposeal.host.asking import ask_status
from toposeal.outside.endpoint import Endpoint
from toposeal.outside.status import Status

_LINE_LIMIT = 400


def register(subparsers: Any) -> None:
    """Add `status`."""
    parser = subparsers.add_parser(
        "status",
        help="ask one member for its epoch, its leases and what it waits for",
        description="What one member says of itself: its word and no proof, for which there is `verify`. "
        "While its gate is closed, ask its peer port.",
        epilog="Exit codes: 0 somebody answered, which says nothing of the mesh, 1 usage, 3 network.",
    )
    add_target(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    endpoint = target(args)
    status = ask_status(endpoint) if args.peer is None else _ask_peer(endpoint)
    if args.json:
        print(json.dumps({"verified": False, "attested": False, **status.as_json()}))
        return 0
    print("unverified, the word of who answered:" if args.peer is None else f"{NOT_ATTESTED}:")
    for line in status.as_text().split("\n"):
        print(printable(line, _LINE_LIMIT))
    return 0


def _ask_peer(endpoint: Endpoint) -> Status:
    """Imports late: nothing else that is asked from outside needs gRPC."""
    from toposeal.host.asking_peer import ask_peer_status

    return ask_peer_status(endpoint)
