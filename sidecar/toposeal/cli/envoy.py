"""`toposeal envoy bootstrap | render`: what the daemon gives Envoy, as files for reading and validation."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping
from typing import Any

from toposeal.dataplane.envoy_closed import bootstrap, closed
from toposeal.dataplane.layout import BOOTSTRAP_FILE, ENVOY_LAYOUT
from toposeal.errors import Reason, UsageError, printable
from toposeal.host.files import read_once, write_atomic
from toposeal.limits import DIGEST_SIZE, MAX_DOCUMENT_SIZE, MAX_TOPOLOGY_ENVELOPE_SIZE

_FILE_MODE = 0o644
_IID = re.compile(rf"[0-9a-f]{{{2 * DIGEST_SIZE}}}", re.ASCII)


def register(subparsers: Any) -> None:
    """Add `envoy` and its two commands."""
    parser = subparsers.add_parser("envoy", help="print the Envoy configuration that the daemon serves")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _register_bootstrap(commands)
    _register_render(commands)


def _register_bootstrap(commands: Any) -> None:
    command = commands.add_parser(
        "bootstrap",
        help="what Envoy starts with",
        description="Write the closed configuration: bootstrap.json, exactly the file that Envoy is started "
        "with, and as JSON what the daemon sends it before the seal. Paths are relative to the directory, so "
        "there `envoy --mode validate -c bootstrap.json` accepts it.",
    )
    command.add_argument(
        "--out", metavar="DIR", required=True, help="directory for the files; made if missing"
    )
    command.set_defaults(run=_bootstrap)


def _register_render(commands: Any) -> None:
    command = commands.add_parser(
        "render",
        help="what a member's Envoy runs once its mesh is sealed",
        description="Write the opened configuration of one member: exactly what its daemon sends Envoy, as "
        "JSON, except private keys and the leaves that go with them. Signatures of the members are checked, "
        "evidence is not: use `toposeal verify` for that.",
    )
    add = command.add_argument
    add("--topology", metavar="FILE", required=True, help="signed topology (DSSE envelope)")
    add("--manifest", metavar="FILE", required=True, help="attestation document as a member serves it")
    add("--member", metavar="IID", required=True, help="instance id, 96 hex digits")
    add("--out", metavar="DIR", required=True, help="directory for the files; made if missing")
    command.set_defaults(run=_render)


def _bootstrap(args: argparse.Namespace) -> int:
    _write(args.out, closed(ENVOY_LAYOUT))
    return 0


def _render(args: argparse.Namespace) -> int:
    """Imports late: a usage error need not wait for Envoy's message types."""
    if not _IID.fullmatch(args.member):
        raise UsageError.of(Reason.USAGE, "--member", args.member, f"{2 * DIGEST_SIZE} lower-case hex digits")
    envelope = read_once(args.topology, MAX_TOPOLOGY_ENVELOPE_SIZE)
    document = read_once(args.manifest, MAX_DOCUMENT_SIZE)
    from toposeal.dataplane.envoy_readable import opened
    from toposeal.dataplane.from_document import document_view
    from toposeal.topology.dsse import decode_envelope
    from toposeal.topology.parse import parse_topology

    topology = parse_topology(decode_envelope(envelope).payload)
    files = opened(document_view(document, topology, bytes.fromhex(args.member)), ENVOY_LAYOUT)
    _write(args.out, {BOOTSTRAP_FILE: bootstrap(ENVOY_LAYOUT), **files})
    return 0


def _write(directory: str, files: Mapping[str, bytes]) -> None:
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as error:
        raise UsageError.of(Reason.USAGE, printable(directory), error.strerror, "a directory") from error
    for name, data in files.items():
        write_atomic(os.path.join(directory, name), data, _FILE_MODE)
        print(f"{len(data):8} {name}")
