"""`toposeal history`: the manifests that a mesh has sealed, back from one that is verified."""

from __future__ import annotations

import argparse
import json
import re
from typing import TYPE_CHECKING, Any

from toposeal.cli.asked import add_trust, question, version_note
from toposeal.errors import Reason, UsageError, printable
from toposeal.limits import DIGEST_SIZE, MAX_HISTORY_MESSAGE

if TYPE_CHECKING:
    from toposeal.membership.manifest import Manifest

_LINE_LIMIT = 400
_PUBLIC = 0o644
_ONLINE = ("url", "owner", "mesh", "min_version", "collateral", "state", "new_lineage", "connect", "out")


def register(subparsers: Any) -> None:
    """Add `history`."""
    parser = subparsers.add_parser(
        "history",
        help="list what a mesh has sealed, back from what is verified",
        description="Verify a mesh as `verify` does, and ask who answered what its manifest descends from. "
        "Each manifest names the one before it by digest, so the verified one proves them all. "
        "What --out writes is checked again offline, by --file and the digest of a manifest.",
        epilog="Exit codes: 0 checked, 1 usage, 2 evidence, 3 network, 4 policy.",
    )
    add = parser.add_argument
    add("url", metavar="URL", nargs="?", help="https://HOST:PORT of a member's attestation or ingress port")
    add_trust(parser, required=False)
    add("--connect", metavar="HOST:PORT", help="where to connect, if not to the URL's host")
    add("--out", metavar="FILE", help="new file for the manifests")
    add("--file", metavar="FILE", help="what --out wrote, instead of a URL")
    add("--digest", metavar="HEX", help="with --file: manifest_digest of a verified visit")
    add("--json", action="store_true", help="print one JSON object and nothing else")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from toposeal.outside.history import told

    manifests, note = _offline(args) if args.file is not None else _asked(args)
    history = told(manifests)
    if args.json:
        print(json.dumps({"verified": True, **history.as_json()}))
        return 0
    for line in history.as_text().split("\n"):
        print(printable(line, _LINE_LIMIT))
    if note is not None:
        print(note)
    return 0


def _asked(args: argparse.Namespace) -> tuple[tuple[Manifest, ...], str | None]:
    """From a member that is verified first. Imports late, as `verify` does."""
    _demand(args, ("url", "owner", "mesh"), ("digest",))
    from toposeal.host.asking import ask_history
    from toposeal.host.files import write_new
    from toposeal.outside.endpoint import Endpoint
    from toposeal.outside.history import build_history, read_history

    mesh = question(args, args.url, args.connect)()
    data = ask_history(Endpoint.parse(args.url, args.connect))
    manifests = read_history(data, mesh.manifest_digest)
    if args.out is not None:
        write_new(args.out, build_history(manifests), _PUBLIC)
    return manifests, version_note(args, mesh)


def _offline(args: argparse.Namespace) -> tuple[tuple[Manifest, ...], None]:
    """What proves it is the digest, which has to come from elsewhere."""
    _demand(args, ("digest",), _ONLINE)
    if re.fullmatch(rf"[0-9a-f]{{{2 * DIGEST_SIZE}}}", args.digest, re.ASCII) is None:
        expected = f"{DIGEST_SIZE} bytes in lower-case hexadecimal"
        raise UsageError.of(Reason.USAGE, "--digest", args.digest, expected)
    from toposeal.host.files import read_once
    from toposeal.outside.history import read_history

    return read_history(read_once(args.file, MAX_HISTORY_MESSAGE), bytes.fromhex(args.digest)), None


def _demand(args: argparse.Namespace, needed: tuple[str, ...], useless: tuple[str, ...]) -> None:
    """Raises UsageError for what is missing, and for what would be ignored."""
    for name in needed:
        if getattr(args, name) is None:
            raise UsageError.of(Reason.USAGE, _option(name), "nothing", "a value")
    for name in useless:
        if getattr(args, name) is not None:
            raise UsageError.of(
                Reason.USAGE, _option(name), printable(str(getattr(args, name))), "nothing here"
            )


def _option(name: str) -> str:
    return "URL" if name == "url" else f"--{name.replace('_', '-')}"
