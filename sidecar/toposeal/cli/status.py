"""`toposeal status`: what one member says of itself."""

from __future__ import annotations

import argparse
import json
from typing import Any

from toposeal.errors import printable
from toposeal.host.asking import ask_status
from toposeal.outside.endpoint import Endpoint

_LINE_LIMIT = 400


def register(subparsers: Any) -> None:
    """Add `status`."""
    parser = subparsers.add_parser(
        "status",
        help="ask one member for its epoch, its leases and what it waits for",
        description="What one member says of itself: its word and no proof, for which there is `verify`.",
        epilog="Exit codes: 0 it answered, 1 usage, 3 network. A pod whose gate is closed answers nobody.",
    )
    add = parser.add_argument
    add("url", metavar="URL", help="https://HOST:PORT of a member's attestation or ingress port")
    add("--connect", metavar="HOST:PORT", help="where to connect, if not to the URL's host")
    add("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    status = ask_status(Endpoint.parse(args.url, args.connect))
    if args.json:
        print(json.dumps({"verified": False, **status.as_json()}))
        return 0
    print("unverified, the word of who answered:")
    for line in status.as_text().split("\n"):
        print(printable(line, _LINE_LIMIT))
    return 0
