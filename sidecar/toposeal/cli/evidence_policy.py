"""`toposeal evidence policy`: draft a policy from observed evidence, to stdout, and its review, to stderr."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

import yaml

from toposeal.cli.exits import Exit
from toposeal.errors import EvidenceError, Reason, printable
from toposeal.evidence.kind import EvidenceKind, detect_kind
from toposeal.host.files import read_once
from toposeal.limits import MAX_QUOTE_SIZE
from toposeal.verification.evidence_check import Supplied
from toposeal.verification.observed_policy import Draft, draft

_SHOWN = 200  # characters of one value

# What this command shares with `verify`: what is supplied beside the evidence, and the moment to judge.
ReadSupplied = Callable[[argparse.Namespace, EvidenceKind, bytes], Supplied]
ReadMoment = Callable[[str | None], int]


def register(commands: Any, supplied: ReadSupplied, moment: ReadMoment) -> None:
    """Add `policy` to the commands of `evidence`; `supplied` loads --collateral, --vcek, --chain, --crl, and
    `moment` reads --at."""
    command = commands.add_parser(
        "policy",
        help="draft a policy from observed evidence, for review",
        epilog="Nothing is written from evidence that no policy may admit, nor from evidence that is not "
        "verified though --collateral, --chain or --crl is given. Exit codes: 0 drafted, 1 usage, "
        "2 evidence, 4 policy.",
    )
    add = command.add_argument
    add("file", metavar="FILE", help="the evidence: a TDX quote or an SNP report, binary")
    add("--collateral", metavar="FILE", help="TDX: verify it first; a collateral object, or an array of them")
    add("--vcek", metavar="FILE", help="SNP: VCEK or VLEK certificate; version 2 does not name its product")
    add("--chain", metavar="FILE", help="SNP, with --vcek: verify it first; ASK or ASVK, then ARK, PEM")
    add("--crl", metavar="FILE", help="SNP: revocation list of the ARK, DER")
    add("--at", metavar="TIME", help="verify as of this moment, Unix seconds or RFC 3339 (default: now)")
    add("--topology", metavar="ROLE", help="write YAML for a topology, with ROLE referring to this guest")
    command.set_defaults(run=lambda args: _run(args, supplied, moment))


def _run(args: argparse.Namespace, supplied: ReadSupplied, moment: ReadMoment) -> int:
    data = read_once(args.file, MAX_QUOTE_SIZE)
    kind = detect_kind(data)
    made = draft(kind, data, supplied(args, kind, data), args.anchors, moment(args.at))
    _expect_verified(made, args)
    _review(made)
    if args.topology is None:
        print(json.dumps(made.document(), indent=2))
    else:
        print(yaml.safe_dump(made.for_topology(args.topology), sort_keys=False, width=1000), end="")
    return Exit.OK


def _expect_verified(made: Draft, args: argparse.Namespace) -> None:
    """Whoever gives what vouches for evidence wants it verified. Raises EvidenceError(COLLATERAL_MISSING)."""
    given = [f"--{name}" for name in ("collateral", "chain", "crl") if getattr(args, name) is not None]
    if given and not made.authentic:
        found, expected = "too little for this evidence", "its collateral, or its key and chain"
        raise EvidenceError.of(Reason.COLLATERAL_MISSING, ", ".join(given), found, expected)


def _review(made: Draft) -> None:
    """Every value with its origin; whoever uses the draft has read this, or has been told to."""
    state = (
        "verified: genuine hardware signed it"
        if made.authentic
        else "NOT VERIFIED: anybody could have made it"
    )
    print(f"draft from one observed {made.kind.value} evidence, {state}", file=sys.stderr)
    print("Review every line before you demand it of anybody:", file=sys.stderr)
    width = max(len(line.path) for line in made.lines)
    for line in made.lines:
        shown = printable(json.dumps(line.value), _SHOWN)
        remark = f"  ({printable(line.remark)})" if line.remark else ""
        print(f"  {line.path:<{width}}  {line.origin:<8}  {shown}{remark}", file=sys.stderr)
