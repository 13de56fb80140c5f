"""`toposeal evidence`: show one piece of evidence, or verify it against its vendor and a policy, offline."""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import chain
from typing import Any

from toposeal.cli import evidence_collateral, evidence_gpu, evidence_log, evidence_policy
from toposeal.cli.exits import Exit, exit_code
from toposeal.errors import EvidenceError, Reason, UsageError, printable
from toposeal.evidence.bundle import Bundle
from toposeal.evidence.ghcb_table import is_certificate_table, parse_certificate_table
from toposeal.evidence.kind import EvidenceKind, detect_kind
from toposeal.host.collateral_file import expect_content
from toposeal.host.files import read_once
from toposeal.limits import (
    MAX_CRL_SIZE,
    MAX_EVENT_LOG_SIZE,
    MAX_QUOTE_SIZE,
    MAX_TIME,
    MAX_TOPOLOGY_SIZE,
    REPORT_DATA_SIZE,
)
from toposeal.topology.evidence_policy import STRICT, EvidencePolicy, parse_evidence_policy
from toposeal.verification.evidence_check import Judgement, Supplied, completed, judge, read_fields
from toposeal.verification.evidence_details import read_details, table_facts
from toposeal.verification.report_data import is_padded_hash

_MAX_CERTIFICATES_SIZE = 32 << 10
_SHOWN = 400  # characters of one field: 64 bytes take 128, the decoded guest policy 200
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.\d{1,30})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)  # a fraction of a second is left out: every window has whole seconds


def register(subparsers: Any) -> None:
    """Add `evidence` and its two commands."""
    parser = subparsers.add_parser("evidence", help="show or verify a TDX quote, or a report of SNP or a GPU")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _register_show(commands)
    _register_verify(commands)
    evidence_collateral.register(commands)
    evidence_policy.register(commands, _supplied, _moment)


def _register_show(commands: Any) -> None:
    command = commands.add_parser("show", help="print every field under its vendor's name; judge nothing")
    add = command.add_argument
    add("file", metavar="FILE", help="a quote, a report, an event log, a certificate table or collateral")
    add("--vcek", metavar="FILE", help="SNP: VCEK or VLEK certificate, DER or PEM, to show beside it")
    add("--chain", metavar="FILE", help="GPU: its certificates, PEM, to show the leaf beside it")
    add("--json", action="store_true", help="print one JSON object")
    command.set_defaults(run=_show)


def _register_verify(commands: Any) -> None:
    command = commands.add_parser(
        "verify",
        help="verify signatures, chain, revocation and policy, from files alone",
        epilog="Exit codes: 0 authentic and acceptable, 1 usage, 2 evidence, 4 policy.",
    )
    add = command.add_argument
    add("file", metavar="FILE", help="the evidence: a TDX quote, or a report of SNP or a GPU, binary")
    add("--collateral", metavar="FILE", help="a bundle of both kinds, or dcap-qvl collateral")
    add("--vcek", metavar="FILE", help="SNP: VCEK or VLEK certificate, DER or PEM")
    add("--chain", metavar="FILE", help="PEM. SNP: ASK or ASVK, then ARK; GPU: leaf first, root last")
    add("--crl", metavar="FILE", help="SNP: revocation list of the ARK, DER")
    add("--at", metavar="TIME", help="judge as of this moment, Unix seconds or RFC 3339 (default: now)")
    add("--policy", metavar="FILE", help="what to accept, JSON (default: strict, comparing no measurement)")
    add("--report-data", metavar="HEX", help="the 64 bytes that the evidence must carry")
    evidence_gpu.add_options(add)
    evidence_log.add_option(add)
    add("--json", action="store_true", help="print one JSON object and nothing else")
    command.set_defaults(run=_verify)


def _show(args: argparse.Namespace) -> int:
    data = read_once(args.file, MAX_EVENT_LOG_SIZE)
    if evidence_collateral.show(data, args.json) or evidence_log.show(data, args.json):
        return Exit.OK
    kind, fields = _told(data, args)
    if args.json:
        print(json.dumps({"kind": kind, "fields": fields}))
    else:
        _print_table({"kind": kind, **fields})
    return Exit.OK


def _told(data: bytes, args: argparse.Namespace) -> tuple[str, Mapping[str, Any]]:
    """The kind and all that can be read. Raises EvidenceError for what cannot."""
    if is_certificate_table(data):
        return "certificate_table", table_facts(parse_certificate_table(data))
    kind = detect_kind(data)
    fields = read_fields(kind, data, _part(args, "chain" if kind is EvidenceKind.GPU else "vcek"))
    return kind.value, fields | read_details(kind, data)


def _verify(args: argparse.Namespace) -> int:
    supplied, bundle = _given(args)
    policy, now, expected = _policy(args.policy), _moment(args.at), _report_data(args.report_data)
    kind: EvidenceKind | None = None
    data = b""
    try:
        data = _evidence(args.file)
        kind = detect_kind(data)
        _expect_of_use(kind, args)
        supplied = evidence_gpu.completed(supplied, kind, args)
        supplied = completed(supplied, bundle, kind, data)
        judgement = judge(kind, data, supplied, policy, expected, args.anchors, now)
    except EvidenceError as refusal:
        judgement = Judgement(False, (refusal,))
    logged = evidence_log.check(kind, data, args.event_log)
    judgement = logged.judged(judgement)
    fields = _readable(kind, data, supplied)
    if args.json:
        verdict = _as_json(kind, judgement, fields)
        print(json.dumps(verdict | logged.as_json(judgement)))
    else:
        _print_verdict(kind, judgement, chain(logged.notes(), _notes(kind, args, fields)))
    return exit_code(judgement.refusals[0]) if judgement.refusals else Exit.OK


def _evidence(path: str) -> bytes:
    """The file's content. One that is too large is its maker's fault, not the caller's: EvidenceError."""
    try:
        return read_once(path, MAX_QUOTE_SIZE)
    except UsageError as error:
        if error.reason is Reason.TOO_LARGE:
            raise EvidenceError(*error.mismatches) from error
        raise


def _expect_of_use(kind: EvidenceKind, args: argparse.Namespace) -> None:
    """Raises UsageError for a file that this kind has no use for: what is not looked at must not look as if
    it were. Collateral may be a bundle of several kinds."""
    users = {
        "vcek": {EvidenceKind.SNP},
        "crl": {EvidenceKind.SNP},
        "chain": {EvidenceKind.SNP, EvidenceKind.GPU},
    }
    for name, kinds in users.items():
        if getattr(args, name) is not None and kind not in kinds:
            expected = " or ".join(sorted(kinds))
            raise UsageError.of(Reason.USAGE, f"--{name}", f"evidence of kind {kind}", expected)


def _given(args: argparse.Namespace) -> tuple[Supplied, Bundle]:
    bundle = evidence_collateral.bundle_of(args.collateral)
    supplied = Supplied(
        collateral=bundle.tdx,
        key=_part(args, "vcek"),
        chain=_part(args, "chain"),
        crl=_part(args, "crl", MAX_CRL_SIZE),
    )
    return supplied, bundle


def _supplied(args: argparse.Namespace, kind: EvidenceKind, data: bytes) -> Supplied:
    """All that is given beside the evidence, from its own files and from the bundle."""
    supplied, bundle = _given(args)
    return completed(supplied, bundle, kind, data)


def _as_json(kind: EvidenceKind | None, judgement: Judgement, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "kind": kind,
        "authentic": judgement.authentic,
        "acceptable": judgement.acceptable,
        "reasons": [str(mismatch) for mismatch in judgement.reasons()],
        "tcb_status": judgement.tcb_status,
        "advisories": list(judgement.advisories),
        "fields": fields,
    }


def _readable(kind: EvidenceKind | None, data: bytes, supplied: Supplied) -> Mapping[str, Any]:
    """As many fields as can be read, of evidence that may have been refused for just that."""
    if kind is None:
        return {}
    for key in (supplied.chain if kind is EvidenceKind.GPU else supplied.key, None):
        try:
            return read_fields(kind, data, key)
        except EvidenceError:
            continue
    return {}


def _print_verdict(kind: EvidenceKind | None, judgement: Judgement, notes: Iterator[str]) -> None:
    word = (
        "ACCEPTED"
        if judgement.acceptable
        else "AUTHENTIC, NOT ACCEPTED"
        if judgement.authentic
        else "REFUSED"
    )
    print(f"{word}: {kind or 'unknown evidence'}")
    if judgement.tcb_status is not None:
        print(f"  TCB status {printable(judgement.tcb_status)}")
    for advisory in judgement.advisories:
        print(f"  advisory {printable(advisory)}")
    for mismatch in judgement.reasons():
        print(f"  {mismatch}")
    if judgement.authentic:
        for note in notes:
            print(f"  note: {note}")


def _notes(kind: EvidenceKind | None, args: argparse.Namespace, fields: Mapping[str, Any]) -> Iterator[str]:
    """What this verdict does not say."""
    if kind is EvidenceKind.GPU:
        yield from evidence_gpu.notes(args)
        return
    if args.policy is None:
        yield "no --policy: no measurement, no configuration and no machine was compared"
    if args.report_data is None:
        yield "no --report-data: the evidence may be old, or of somebody else's making"
        if is_padded_hash(bytes.fromhex(fields["report_data"])):
            yield "REPORT_DATA is 32 bytes and zeros: a paravisor (Azure) puts a virtual TPM's key there"


def _print_table(fields: Mapping[str, Any]) -> None:
    width = max(map(len, fields))
    for name, value in fields.items():
        print(f"{name:<{width}}  {printable(_shown(value), _SHOWN)}")


def _shown(value: object) -> str:
    """`-` for nothing; what belongs together stands on one line."""
    if isinstance(value, Mapping):
        return " ".join(f"{key}={_shown(each)}" for key, each in value.items())
    if isinstance(value, list):
        return " ".join(map(_shown, value)) or "-"
    return "-" if value is None else str(value)


def _policy(path: str | None) -> EvidencePolicy:
    data = _optional(path, MAX_TOPOLOGY_SIZE)
    return STRICT if data is None else parse_evidence_policy(data)


def _moment(text: str | None) -> int:
    """Unix seconds; without `text`, this machine's clock."""
    if text is None:
        return int(time.time())
    expected = "Unix seconds, or RFC 3339 like 2026-01-31T12:00:00Z"
    if re.fullmatch(r"[0-9]{1,12}", text, re.ASCII) and int(text) <= MAX_TIME:
        return int(text)
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise UsageError.of(Reason.USAGE, "--at", text, expected)
    try:
        return int(datetime.fromisoformat("".join(match.groups()).upper()).timestamp())
    except ValueError as error:
        raise UsageError.of(Reason.USAGE, "--at", text, expected) from error


def _report_data(text: str | None) -> bytes | None:
    """All 64 bytes or none: what is shorter would be compared with something padded (E4)."""
    if text is None:
        return None
    if re.fullmatch(rf"[0-9a-fA-F]{{{2 * REPORT_DATA_SIZE}}}", text, re.ASCII) is None:
        expected = f"{REPORT_DATA_SIZE} bytes in hexadecimal"
        raise UsageError.of(Reason.USAGE, "--report-data", text, expected)
    return bytes.fromhex(text)


def _part(args: argparse.Namespace, name: str, limit: int = _MAX_CERTIFICATES_SIZE) -> bytes | None:
    """The content of the file that option `name` gives, None without it. Raises UsageError."""
    return expect_content(f"--{name}", _optional(getattr(args, name), limit))


def _optional(path: str | None, limit: int) -> bytes | None:
    return None if path is None else read_once(path, limit)
