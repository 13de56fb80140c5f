"""`toposeal connect`: a local port that leads to verified members of a mesh, and to nobody else."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from toposeal.cli.asked import add_trust, question, version_note
from toposeal.cli.exits import Exit, exit_code
from toposeal.cli.progress import progress_line
from toposeal.errors import Reason, ToposealError, UsageError, printable
from toposeal.limits import CONNECT_INTERVAL, CONNECT_INTERVALS

if TYPE_CHECKING:
    from toposeal.host.forwarder import Forwarder
    from toposeal.outside.verdict import Verdict

_LINE_LIMIT = 1000  # characters of one line about a connection


def register(subparsers: Any) -> None:
    """Add `connect`."""
    least, most = CONNECT_INTERVALS
    parser = subparsers.add_parser(
        "connect",
        help="a local port that leads to verified members alone",
        description="Verify the mesh, then listen on 127.0.0.1 and lead each connection, over TLS, to a "
        "member whose CA is pinned. The mesh is verified again and again; while that fails nothing new "
        "passes.",
        epilog="Exit codes: 0 ended by a signal; before it listens those of verify.",
    )
    add = parser.add_argument
    add("target", metavar="HOST:PORT", help="an ingress port of the mesh, or what is in front of it")
    add("--local", metavar="PORT", type=int, required=True, help="port on 127.0.0.1; 0 takes a free one")
    add_trust(parser)
    add("--attestation", metavar="HOST:PORT", help="where to ask for documents, if not at the target")
    add("--role", metavar="ROLE", help="role to reach (default: the one that opens the port)")
    add(
        "--interval",
        metavar="SECONDS",
        type=int,
        default=CONNECT_INTERVAL,
        help=f"between two verifications, {least} to {most} (default: {CONNECT_INTERVAL})",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    """Imports late: a usage error need not wait for what checks evidence."""
    from toposeal.outside.verdict import Verdict

    try:
        _expect_range("--local", args.local, 0, 65535)
        _expect_range("--interval", args.interval, *CONNECT_INTERVALS)
        forwarder, verdict = _verified(args)
    except ToposealError as error:
        print(Verdict(error).as_text())
        return exit_code(error)
    print(verdict.as_text(), flush=True)
    _serve(forwarder, args)
    return Exit.OK


def _verified(args: argparse.Namespace) -> tuple[Forwarder, Verdict]:
    from toposeal.host.forwarder import Forwarder, now
    from toposeal.outside.endpoint import Endpoint
    from toposeal.outside.standing import first
    from toposeal.outside.verdict import Verdict

    target = Endpoint.parse_target(args.target)
    with progress_line(sys.stderr) as progress:
        progress(f"verifying {target.authority}")
        verify = question(args, target.url, args.attestation)
        asked_at = now()
        mesh = verify()
    standing = first(mesh, target.port, args.role, asked_at, args.interval)
    note = version_note(args, mesh)
    forwarder = Forwarder(target, verify, standing, args.interval, _tell)
    return forwarder, Verdict(mesh, () if note is None else (note,))


def _serve(forwarder: Forwarder, args: argparse.Namespace) -> None:
    """Until SIGINT or SIGTERM."""
    import asyncio
    import signal

    def listening(port: int) -> None:
        where, every = printable(args.target), args.interval
        print(f"listening on 127.0.0.1:{port} for {where}; verified again every {every} s", flush=True)

    async def serve() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await forwarder.serve(args.local, stop, listening)

    asyncio.run(serve())


def _expect_range(name: str, found: int, least: int, most: int) -> None:
    if not least <= found <= most:
        raise UsageError.of(Reason.USAGE, name, found, f"{least} to {most}")


def _tell(line: str) -> None:
    print(f"toposeal: {printable(line, _LINE_LIMIT)}", file=sys.stderr, flush=True)
