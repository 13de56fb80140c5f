"""`toposeal topology from`: draft a topology from the manifests that an application has."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from toposeal.errors import Reason, UsageError
from toposeal.host.files import read_once, write_new
from toposeal.kubernetes.draft import draft
from toposeal.kubernetes.draft_text import render
from toposeal.kubernetes.manifest import read, without_injected
from toposeal.limits import MAX_MANIFEST_FILE
from toposeal.topology.model import KINDS

_MODE = 0o644


def register(commands: Any) -> None:
    """Add `from` to the commands of `topology`."""
    command = commands.add_parser(
        "from", help="draft a declaration from Kubernetes manifests", description=__doc__
    )
    add = command.add_argument
    add("-f", "--file", metavar="FILE", required=True, action="append", help="manifests, YAML; repeatable")
    add("--mesh", metavar="NAME", required=True, help="name of the mesh")
    add("--tee", choices=sorted(KINDS), default="tdx", help="kind of the machines (default %(default)s)")
    add("-o", "--out", metavar="FILE", help="new file for the draft (default: standard output)")
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    documents = [document for path in args.file for document in read(without_injected(_text(path)))]
    text = render(draft(documents, args.mesh, args.tee))
    if args.out is None:
        sys.stdout.write(text)
    else:
        write_new(args.out, text.encode("utf-8"), _MODE)
    return 0


def _text(path: str) -> str:
    try:
        return read_once(path, MAX_MANIFEST_FILE).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError.of(Reason.MALFORMED, path, error, "UTF-8") from error
