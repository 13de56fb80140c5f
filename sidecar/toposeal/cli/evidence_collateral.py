"""`toposeal evidence collateral`: fetch what verification needs into one file, and show such a file."""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from toposeal.cli.exits import Exit
from toposeal.errors import EvidenceError, Reason, ToposealError, UsageError, printable
from toposeal.evidence.bundle import EMPTY, Bundle, parse_bundle
from toposeal.evidence.kind import EvidenceKind, detect_kind
from toposeal.evidence.pck import parse_pck_chain
from toposeal.evidence.snp_certs import read_endorsement
from toposeal.evidence.snp_report import parse_snp_report
from toposeal.evidence.snp_tcb import Product
from toposeal.evidence.tdx_quote import parse_tdx_quote
from toposeal.host.collateral_file import read_bundle
from toposeal.host.files import read_once, write_new
from toposeal.limits import (
    MAX_AMD_CERTIFICATE_SIZE,
    MAX_CERTIFICATE_TABLE_SIZE,
    MAX_COLLATERAL_ENTRIES,
    MAX_QUOTE_SIZE,
)
from toposeal.verification.bundle_facts import bundle_facts

if TYPE_CHECKING:
    from toposeal.host.gatherer import Gatherer

_PUBLIC = 0o644
_FMSPC = re.compile(r"[0-9a-fA-F]{12}", re.ASCII)


def register(commands: Any) -> None:
    """Add `collateral` and its two commands."""
    parser = commands.add_parser("collateral", help="fetch collateral and endorsements, or show them")
    inner = parser.add_subparsers(metavar="COMMAND", required=True)
    _register_fetch(inner)
    show = inner.add_parser("show", help="print what a file of collateral says; judge nothing")
    show.add_argument("file", metavar="FILE", help="a bundle, or dcap-qvl collateral: an object or an array")
    show.add_argument("--json", action="store_true", help="print one JSON object")
    show.set_defaults(run=_show)


def _register_fetch(commands: Any) -> None:
    command = commands.add_parser(
        "fetch",
        help="ask Intel, AMD or your own PCCS, verify the answers and write one bundle",
        epilog="Exit codes: 0 written, 1 usage, 2 an answer that does not hold, 3 network.",
    )
    add = command.add_argument
    more: dict[str, Any] = {"action": "append", "default": []}
    add("--for", dest="evidence", metavar="FILE", help="a TDX quote or SNP report", **more)
    add("--fmspc", metavar="HEX", help="TDX: a platform family, 12 hex digits", **more)
    add("--product", metavar="NAME", choices=[*Product], help="SNP: Milan, Genoa or Turin")
    add("--vcek", metavar="FILE", help="SNP: a VCEK or VLEK at hand; AMD gives a VLEK to providers alone")
    add("--table", metavar="FILE", help="SNP: the host's certificate table (auxblob), looked at first")
    add("--pccs", metavar="URL", help="your PCCS (default: Intel's PCS)")
    add("--kds", metavar="URL", help="a mirror of AMD's KDS (default: AMD's)")
    add("--ca", metavar="FILE", help="roots of the certificates of --pccs and --kds, PEM (default: system)")
    add("--update", choices=["standard", "early"], default="standard", help="which TCB info (standard)")
    add("--cache", metavar="DIR", help="keep answers and the newest numbers seen; stand in for the network")
    add("-o", "--out", metavar="FILE", required=True, help="new file for the bundle")
    command.set_defaults(run=_fetch)


def _fetch(args: argparse.Namespace) -> int:
    if not (args.evidence or args.fmspc or args.product):
        raise UsageError.of(Reason.USAGE, "fetch", "nothing to fetch for", "--for, --fmspc or --product")
    if args.ca is not None and args.pccs is None and args.kds is None:
        raise UsageError.of(Reason.USAGE, "--ca", "neither --pccs nor --kds", "one beside it")
    wanted = {_fmspc(text) for text in args.fmspc}
    table = b"" if args.table is None else read_once(args.table, MAX_CERTIFICATE_TABLE_SIZE)
    product = None if args.product is None else Product(args.product)
    gatherer = _gatherer(args)
    reports = []
    for path in args.evidence:
        data = read_once(path, MAX_QUOTE_SIZE)
        if detect_kind(data) is EvidenceKind.TDX:
            wanted.add(parse_pck_chain(parse_tdx_quote(data).auth.pck_chain).fmspc)
        else:
            reports.append(parse_snp_report(data))
    if len(wanted) > MAX_COLLATERAL_ENTRIES:
        raise UsageError.of(Reason.TOO_LARGE, "fetch", f"{len(wanted)} families", MAX_COLLATERAL_ENTRIES)
    for fmspc in sorted(wanted):
        gatherer.tdx(fmspc)
    for report in reports:
        gatherer.snp(report, table, product)
    if product is not None and not reports:
        gatherer.product(product)
    bundle = gatherer.bundle()
    write_new(args.out, bundle.dump(), _PUBLIC)
    _print(bundle)
    return Exit.OK


def _gatherer(args: argparse.Namespace) -> Gatherer:
    """The parts that reach a network are loaded here alone: the verifier works without them."""
    if importlib.util.find_spec("tenacity") is None:
        expected = "pip install 'toposeal[collateral]'"
        raise UsageError.of(Reason.USAGE, "fetch", "an installation without tenacity", expected)
    from toposeal.host.collateral_cache import CollateralCache
    from toposeal.host.gatherer import Gatherer
    from toposeal.host.kds import Kds
    from toposeal.host.pcs import Pcs, Update

    update = Update(args.update)
    return Gatherer(
        anchors=args.anchors,
        pcs=Pcs.intel(update) if args.pccs is None else Pcs.pccs(args.pccs, args.ca, update),
        kds=Kds.amd() if args.kds is None else Kds.mirror(args.kds, args.ca),
        cache=None if args.cache is None else CollateralCache(args.cache, args.anchors, _warn),
        now=int(time.time()),
        say=_warn,
        own=EMPTY if args.vcek is None else Bundle(endorsements=(_endorsement(args.vcek),)),
    )


def _endorsement(path: str) -> bytes:
    try:
        return read_endorsement(read_once(path, 2 * MAX_AMD_CERTIFICATE_SIZE)).certificate.der
    except EvidenceError as error:  # the caller's file, so the caller's fault
        raise UsageError(*error.mismatches) from error


def _show(args: argparse.Namespace) -> int:
    _tell(read_bundle(args.file), args.json)
    return Exit.OK


def show(data: bytes, as_json: bool) -> bool:
    """Print `data` if it is a bundle, or dcap-qvl's collateral; returns whether it is. Raises EvidenceError
    for a JSON object that is neither: nothing else that can be shown is one.
    """
    try:
        bundle = parse_bundle(data)
    except EvidenceError:
        if data.lstrip().startswith(b"{"):
            raise
        return False
    _tell(bundle, as_json)
    return True


def _tell(bundle: Bundle, as_json: bool) -> None:
    if as_json:
        print(json.dumps(bundle_facts(bundle)))
    else:
        _print(bundle)


def bundle_of(path: str | None) -> Bundle:
    """The caller's own parts, none without a file. Raises UsageError for any part that cannot be read: one
    that is left out must not look as if it had been used."""
    return EMPTY if path is None else read_bundle(path)


def _fmspc(text: str) -> bytes:
    if _FMSPC.fullmatch(text) is None:
        raise UsageError.of(Reason.USAGE, "--fmspc", text, "12 hex digits")
    return bytes.fromhex(text)


def _warn(name: str, error: ToposealError) -> None:
    print(f"toposeal: {printable(name)}: {printable(error, 400)}", file=sys.stderr)


def _print(bundle: Bundle) -> None:
    """One block for each part; dates as RFC 3339."""
    for kind, parts in bundle_facts(bundle).items():
        for part in parts:
            print(f"{kind} {part['part']}")
            for name, value in part.items():
                if name != "part":
                    print(f"  {name:<39} {printable(_shown(name, value))}")


def _shown(name: str, value: object) -> str:
    dated = name.endswith(("Date", "Update", "Before", "valid_until"))
    if dated and isinstance(value, int):
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return "-" if value is None else str(value)
