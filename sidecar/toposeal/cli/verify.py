"""`toposeal verify`: check a running mesh from outside and pin its CAs."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from toposeal.cli.asked import add_trust, question, version_note
from toposeal.cli.exits import Exit, exit_code
from toposeal.cli.progress import Progress, progress_line
from toposeal.errors import Reason, ToposealError, UsageError, printable

if TYPE_CHECKING:
    from toposeal.outside.model import VerifiedMesh
    from toposeal.outside.verdict import Verdict

_PUBLIC = 0o644


def register(subparsers: Any) -> None:
    """Add `verify`."""
    parser = subparsers.add_parser(
        "verify",
        help="check a running mesh from outside and pin its CAs",
        description="Ask one member for the attestation document on a fresh nonce and check all of it.",
        epilog="Exit codes: 0 verified, 1 usage, 2 evidence, 3 network, 4 policy.",
    )
    add = parser.add_argument
    add("url", metavar="URL", help="https://HOST:PORT of a member's attestation or ingress port")
    add_trust(parser)
    add("--all", action="store_true", help="ask every other member too, at its own address")
    add("--connect", metavar="HOST:PORT", help="where to connect, if not to the URL's host")
    add("--ca-out", metavar="FILE", help="new file for the members' CA certificates, PEM")
    add("--html", metavar="FILE", help="new file for a page with the topology and each member's evidence")
    add("--ear", metavar="FILE", help="new file for the result as EAR claims (JSON, not signed)")
    add("--json", action="store_true", help="print one JSON object and nothing else")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    with progress_line(sys.stderr) as progress:
        verdict = _reported(args, _decide(args, progress))
    print(json.dumps(verdict.as_json()) if args.json else verdict.as_text())
    return exit_code(verdict.outcome) if isinstance(verdict.outcome, ToposealError) else Exit.OK


def _decide(args: argparse.Namespace, progress: Progress) -> Verdict:
    """Imports late: a usage error need not wait for what checks evidence."""
    from toposeal.outside.verdict import Verdict

    try:
        _expect_new(args)
        progress("loading what checks evidence")
        ask = question(args, args.url, args.connect, all_members=args.all, progress=progress)
        mesh = ask()
        if args.ca_out is not None:
            _write(args.ca_out, mesh.pins.encode("ascii"))
    except ToposealError as error:
        return Verdict(error)
    return Verdict(mesh, tuple(_notes(args, mesh)))


def _reported(args: argparse.Namespace, verdict: Verdict) -> Verdict:
    """The verdict, written down where that is asked for; what cannot be is a usage error, and what
    was one before is not written down."""
    from toposeal.outside.verdict import Verdict

    if isinstance(verdict.outcome, UsageError):
        return verdict
    now = int(time.time())
    note = None if isinstance(verdict.outcome, ToposealError) else version_note(args, verdict.outcome)
    shown = Verdict(verdict.outcome, () if note is None else (note,))
    try:
        if args.html is not None:
            from toposeal.outside.page import page

            _write(args.html, page(shown, now))
        if args.ear is not None:
            from importlib.metadata import version

            from toposeal.outside.ear import ear

            _write(args.ear, ear(verdict, args.mesh, now, f"toposeal {version('toposeal')}"))
    except UsageError as error:
        return Verdict(error)
    return verdict


def _expect_new(args: argparse.Namespace) -> None:
    """Before anybody is asked: a verdict that cannot be written down is none."""
    for option in ("ca_out", "html", "ear"):
        path = getattr(args, option)
        if path is not None and os.path.lexists(path):
            found = f"{path}, which is there already"
            raise UsageError.of(Reason.USAGE, f"--{option.replace('_', '-')}", found, "a new file")


def _write(path: str, data: bytes) -> None:
    from toposeal.host.files import write_new

    write_new(path, data, _PUBLIC)


def _notes(args: argparse.Namespace, mesh: VerifiedMesh) -> Iterator[str]:
    from toposeal.outside.endpoint import Endpoint
    from toposeal.outside.verdict import curl_hint

    note = version_note(args, mesh)
    if note is not None:
        yield note
    if args.ca_out is not None:
        path = printable(args.ca_out)
        yield f"the CAs of {len(mesh.members)} members are pinned in {path}; use them for new connections"
        host = Endpoint.parse(args.url, args.connect).dial_host
        hint = curl_hint(mesh, host, printable(shlex.quote(args.ca_out)))
        if hint is not None:
            yield hint
