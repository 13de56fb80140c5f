"""`toposeal verify`: check a running mesh from outside and pin its CAs."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
from collections.abc import Iterator
from typing import Any

from toposeal.cli.exits import Exit, exit_code
from toposeal.errors import Reason, ToposealError, UsageError, printable
from toposeal.host.files import write_new
from toposeal.host.verifier import verify_with
from toposeal.limits import DIGEST_SIZE
from toposeal.outside.endpoint import Endpoint
from toposeal.outside.model import VerifiedMesh
from toposeal.outside.verdict import Verdict, curl_hint

_FIRST_VERSION = 1
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
    add("--owner", metavar="FILE", required=True, help="owner root: the keys that must have signed")
    add("--mesh", metavar="NAME", required=True, help="the mesh's name in the topology")
    add("--min-version", metavar="N", type=int, help="refuse topologies below this version (default: 1)")
    add("--ca-out", metavar="FILE", help="new file for the members' CA certificates, PEM")
    add("--json", action="store_true", help="print one JSON object and nothing else")
    add("--collateral", metavar="FILE", help="own TDX collateral instead of what the mesh sends")
    add("--all", action="store_true", help="ask every other member too, at its own address")
    add("--state", metavar="FILE", help="remember this visit, and refuse older numbers or another lineage")
    add("--new-lineage", metavar="HEX", help="with --state: the lineage to expect instead of the last one")
    add("--connect", metavar="HOST:PORT", help="where to connect, if not to the URL's host")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    verdict = _decide(args)
    print(json.dumps(verdict.as_json()) if args.json else verdict.as_text())
    return exit_code(verdict.outcome) if isinstance(verdict.outcome, ToposealError) else Exit.OK


def _decide(args: argparse.Namespace) -> Verdict:
    try:
        if args.ca_out is not None and os.path.lexists(args.ca_out):
            found = f"{args.ca_out}, which is there already"
            raise UsageError.of(Reason.USAGE, "--ca-out", found, "a new file")
        mesh = verify_with(
            args.anchors,
            args.url,
            owner=args.owner,
            mesh=args.mesh,
            min_version=_FIRST_VERSION if args.min_version is None else args.min_version,
            collateral=args.collateral,
            connect=args.connect,
            all_members=args.all,
            state=args.state,
            new_lineage=_lineage(args.new_lineage),
        )
        if args.ca_out is not None:
            write_new(args.ca_out, mesh.pins.encode("ascii"), _PUBLIC)
    except ToposealError as error:
        return Verdict(error)
    return Verdict(mesh, tuple(_notes(args, mesh)))


def _lineage(text: str | None) -> bytes | None:
    if text is None:
        return None
    if re.fullmatch(rf"[0-9a-f]{{{2 * DIGEST_SIZE}}}", text, re.ASCII) is None:
        expected = f"{DIGEST_SIZE} bytes in lower-case hexadecimal"
        raise UsageError.of(Reason.USAGE, "--new-lineage", text, expected)
    return bytes.fromhex(text)


def _notes(args: argparse.Namespace, mesh: VerifiedMesh) -> Iterator[str]:
    version = mesh.topology_version
    if args.min_version is None:
        yield (
            f"version {version} was accepted as any would be, for want of --min-version; "
            f"from now on pass --min-version {version}"
        )
    if args.ca_out is not None:
        path = printable(args.ca_out)
        yield f"the CAs of {len(mesh.members)} members are pinned in {path}; use them for new connections"
        host = Endpoint.parse(args.url, args.connect).dial_host
        hint = curl_hint(mesh, host, printable(shlex.quote(args.ca_out)))
        if hint is not None:
            yield hint
