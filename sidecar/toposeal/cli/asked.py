"""What the commands that verify a mesh from outside are told: one set of options, one question of them.

Nothing heavy is loaded before a question is made: `--help` is instant.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from toposeal.errors import Reason, UsageError
from toposeal.limits import DIGEST_SIZE

if TYPE_CHECKING:
    from toposeal.outside.model import VerifiedMesh

_FIRST_VERSION = 1


def add_trust(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """The options that decide what is accepted."""
    add = parser.add_argument
    add("--owner", metavar="FILE", required=required, help="owner root: the keys that must have signed")
    add("--mesh", metavar="NAME", required=required, help="the mesh's name in the topology")
    add("--min-version", metavar="N", type=int, help="refuse topologies below this version (default: 1)")
    add("--collateral", metavar="FILE", help="own TDX collateral instead of what the mesh sends")
    add("--state", metavar="FILE", help="remember this visit, and refuse older numbers or another lineage")
    add("--new-lineage", metavar="HEX", help="with --state: the lineage to expect instead of the last one")


def question(
    args: argparse.Namespace, url: str, connect: str | None = None, **more: Any
) -> Callable[[], VerifiedMesh]:
    """Verifies the mesh behind `url` each time that it is called, on a new nonce. Raises UsageError."""
    from toposeal.host.verifier import verify_with

    return partial(
        verify_with,
        args.anchors,
        url,
        owner=args.owner,
        mesh=args.mesh,
        min_version=_FIRST_VERSION if args.min_version is None else args.min_version,
        collateral=args.collateral,
        connect=connect,
        state=args.state,
        new_lineage=_lineage(args.new_lineage),
        **more,
    )


def version_note(args: argparse.Namespace, mesh: VerifiedMesh) -> str | None:
    """What somebody should know who named no lowest version (V6)."""
    if args.min_version is not None:
        return None
    version = mesh.topology_version
    return (
        f"version {version} was accepted as any would be, for want of --min-version; "
        f"from now on pass --min-version {version}"
    )


def _lineage(text: str | None) -> bytes | None:
    if text is None:
        return None
    if re.fullmatch(rf"[0-9a-f]{{{2 * DIGEST_SIZE}}}", text, re.ASCII) is None:
        expected = f"{DIGEST_SIZE} bytes in lower-case hexadecimal"
        raise UsageError.of(Reason.USAGE, "--new-lineage", text, expected)
    return bytes.fromhex(text)
