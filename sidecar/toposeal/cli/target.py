"""Where a member is asked: at the URL of its attestation port, or at its peer port, which answers also while
its gate is closed.
"""

from __future__ import annotations

import argparse
import importlib.util

from toposeal.errors import Reason, UsageError
from toposeal.outside.endpoint import Endpoint

NOT_ATTESTED = "not attested: the word of whoever answered, which anybody on the way can forge"


def add_target(parser: argparse.ArgumentParser) -> None:
    """The positional URL, --connect and --peer."""
    add = parser.add_argument
    add("url", metavar="URL", nargs="?", help="https://HOST:PORT of a member's attestation or ingress port")
    add("--connect", metavar="HOST:PORT", help="where to connect, if not to the URL's host")
    add(
        "--peer",
        metavar="HOST[:PORT]",
        help="instead of a URL: a member's peer port (15443), which answers while its gate is closed too",
    )


def target(args: argparse.Namespace) -> Endpoint:
    """Whom `args.url` or `args.peer` names. Raises UsageError unless it is one of them."""
    if (args.url is None) == (args.peer is None):
        found = "neither" if args.url is None else "both"
        raise UsageError.of(Reason.USAGE, "URL, --peer", found, "one of them")
    if args.peer is None:
        return Endpoint.parse(args.url, args.connect)
    if args.connect is not None:
        raise UsageError.of(Reason.USAGE, "--connect", args.connect, "nothing beside --peer")
    if importlib.util.find_spec("grpc") is None:
        raise UsageError.of(Reason.USAGE, "--peer", "no grpcio", "an installation of toposeal[sidecar]")
    return Endpoint.parse_peer(args.peer)
