"""`toposeal topology`: draft, check, sign and digest the owner's declaration, make the owner's keys."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from toposeal.cli import topology_from
from toposeal.cli.owner_keys import make_key, read_owner, read_private_key
from toposeal.cli.topology_push import register_push
from toposeal.errors import Reason, TopologyError, UsageError
from toposeal.host.files import read_once, write_new
from toposeal.limits import DIGEST_SIZE, MAX_TOPOLOGY_ENVELOPE_SIZE, MAX_TOPOLOGY_SIZE
from toposeal.names import mesh_id
from toposeal.topology.accept import accept, check_succession
from toposeal.topology.author import compile_yaml, payload_from_yaml
from toposeal.topology.dsse import add_signatures, decode_envelope, sign
from toposeal.topology.egress import Egress
from toposeal.topology.gpu import GpuDemand
from toposeal.topology.http import LOGS
from toposeal.topology.model import KINDS, Role, Topology
from toposeal.topology.owner import OwnerRoot, PrivateKey
from toposeal.topology.parse import WORKLOAD_API, parse_topology

_FIRST_VERSION = 1


def register(subparsers: Any) -> None:
    """Add `topology` and its commands."""
    parser = subparsers.add_parser("topology", help="draft, check, sign and digest the owner's declaration")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    topology_from.register(commands)
    _register_check(commands)
    _register_sign(commands)
    _register_digest(commands)
    _register_keygen(commands)
    register_push(commands)


def _register_check(commands: Any) -> None:
    command = commands.add_parser("check", help="check a declaration and print what it says")
    command.add_argument("file", metavar="FILE", help="the declaration, YAML")
    command.add_argument("--owner", metavar="FILE", help="owner root: print the digests too")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.set_defaults(run=_check)


def _register_sign(commands: Any) -> None:
    command = commands.add_parser("sign", help="sign a declaration that has no mistakes")
    add = command.add_argument
    add("file", metavar="FILE", help="the declaration, YAML")
    add("--owner", metavar="FILE", required=True, help="owner root")
    add(
        "--key",
        metavar="FILE",
        required=True,
        action="append",
        help="private key, PEM, mode 0600; repeatable",
    )
    add("--add-to", metavar="FILE", help="envelope of the same declaration that others have signed")
    add("--after", metavar="FILE", help="envelope in use now: refuse a version that may not follow it")
    add("--out", metavar="FILE", required=True, help="new file for the envelope")
    add("--json", action="store_true", help="print one JSON object")
    command.set_defaults(run=_sign)


def _register_digest(commands: Any) -> None:
    command = commands.add_parser("digest", help="print the digests of a declaration or an envelope")
    command.add_argument("file", metavar="FILE", help="YAML, or an envelope, whose signatures must hold")
    command.add_argument("--owner", metavar="FILE", required=True, help="owner root")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.set_defaults(run=_digest)


def _register_keygen(commands: Any) -> None:
    command = commands.add_parser("keygen", help="make an Ed25519 key and, if asked, the owner root")
    add = command.add_argument
    add("--out", metavar="DIR", help="put owner.key, owner.key.pub and owner.json here")
    add("--key", metavar="FILE", help="new file for the private key; the public one goes to FILE.pub")
    add("--owner", metavar="FILE", help="new file for the owner root")
    add(
        "--add",
        metavar="FILE",
        action="append",
        default=[],
        help="another party's public key, PEM; repeatable",
    )
    add("--threshold", metavar="K", type=int, help="how many parties must sign (default: all)")
    command.set_defaults(run=_keygen)


def _check(args: argparse.Namespace) -> int:
    root = read_owner(args.owner) if args.owner else None
    text = read_once(args.file, MAX_TOPOLOGY_SIZE)
    try:
        payload = payload_from_yaml(text, root) if root else compile_yaml(text, bytes(DIGEST_SIZE))
    except TopologyError as error:
        if args.json:
            _print_json({"ok": False, "mismatches": [vars(mismatch) for mismatch in error.mismatches]})
        raise
    topology = parse_topology(payload)
    report = {**_summary(topology), **(_digests(topology, root) if root else {})}
    if args.json:
        _print_json({"ok": True, **report})
    else:
        _print_summary(report)
    return 0


def _sign(args: argparse.Namespace) -> int:
    root = read_owner(args.owner)
    payload = payload_from_yaml(read_once(args.file, MAX_TOPOLOGY_SIZE), root)
    topology = parse_topology(payload)
    keys = [read_private_key(path, root) for path in args.key]
    if args.after:
        known = read_once(args.after, MAX_TOPOLOGY_ENVELOPE_SIZE)
        check_succession(accept(known, root, topology.mesh, _FIRST_VERSION).topology, topology)
    envelope = _add_to(args.add_to, payload, keys) if args.add_to else sign(payload, keys)
    unmet = [str(mismatch) for mismatch in root.unmet(decode_envelope(envelope).signers(root))]
    write_new(args.out, envelope, 0o644)
    report = {**_digests(topology, root), "complete": not unmet, "unmet": unmet}
    if args.json:
        _print_json(report)
    else:
        _print_digests(report)
        print("every group of the owner root has signed" if not unmet else "\n".join(unmet))
    return 0


def _add_to(path: str, payload: bytes, keys: Sequence[PrivateKey]) -> bytes:
    """Countersign only what this party has checked itself: its own file must say the same."""
    envelope = decode_envelope(read_once(path, MAX_TOPOLOGY_ENVELOPE_SIZE))
    if envelope.payload != payload:
        expected = "the payload that your own file makes"
        raise TopologyError.of(Reason.TOPOLOGY_MISMATCH, "envelope.payload", "another declaration", expected)
    return add_signatures(envelope, keys)


def _digest(args: argparse.Namespace) -> int:
    root = read_owner(args.owner)
    data = read_once(args.file, MAX_TOPOLOGY_ENVELOPE_SIZE)
    if data.startswith(b"{"):
        mesh = parse_topology(decode_envelope(data).payload).mesh
        topology = accept(data, root, mesh, _FIRST_VERSION).topology
    else:
        topology = parse_topology(payload_from_yaml(data, root))
    report = _digests(topology, root)
    if args.json:
        _print_json(report)
    else:
        _print_digests(report)
    return 0


def _keygen(args: argparse.Namespace) -> int:
    key, owner = args.key, args.owner
    if (args.out is None) == (key is None) or (args.out is not None and owner is not None):
        raise _usage("keygen", "another combination", "--out DIR, or --key FILE with or without --owner FILE")
    if args.out is not None:
        key, owner = os.path.join(args.out, "owner.key"), os.path.join(args.out, "owner.json")
    if owner is None and (args.add or args.threshold is not None):
        raise _usage("--owner", "nothing", "a file for the owner root that --add and --threshold describe")
    make_key(key, owner, args.add, args.threshold)
    print(key)
    return 0


def _usage(field: str, found: str, expected: str) -> UsageError:
    return UsageError.of(Reason.USAGE, field, found, expected)


def _summary(topology: Topology) -> dict[str, Any]:
    """What both the human and the machine are told (C5)."""
    roles = topology.roles.values()
    return {
        "mesh": topology.mesh,
        "version": topology.version,
        "issued_at": _rfc3339(topology.issued_at),
        "members": {"min": sum(r.min_replicas for r in roles), "max": sum(r.max_replicas for r in roles)},
        "roles": {role.name: _role_summary(role) for role in roles},
    }


def _role_summary(role: Role) -> dict[str, Any]:
    return {
        "replicas": {"min": role.min_replicas, "max": role.max_replicas},
        "serves": list(role.serves),
        "addresses": list(role.addresses),
        "calls": [f"{call.role}:{call.port}" for call in role.calls],
        "ingress": [f"{entry.port}->{entry.target}" for entry in role.ingress],
        "http": [f"{entry.port}, {LOGS[entry.logs_requests]} logged" for entry in role.http],
        "proxy_protocol": list(role.proxy_protocol),
        "egress": [_destination(entry) for entry in role.egress],
        "probes": [f"{probe.port}{probe.path}->{probe.target}" for probe in role.probes],
        "metrics": role.metrics,
        "workload_api": WORKLOAD_API[role.workload_api],
        "references": {kind: len(getattr(role, kind)) for kind in KINDS if getattr(role, kind)},
        "platforms": {kind: _machines(role, kind) for kind in KINDS if getattr(role, kind)},
        "gpus": None if role.gpus is None else _gpus(role.gpus),
    }


def _destination(entry: Egress) -> str:
    """`tls://` where the other end has to prove its name; else bytes go as the application sends them."""
    return f"{'tcp' if entry.tls_ca is None else 'tls'}://{entry.host or entry.cidr}:{entry.port}"


def _gpus(demand: GpuDemand) -> dict[str, Any]:
    return {"count": demand.count, "models": sorted(demand.models)}


def _machines(role: Role, kind: str) -> str | int:
    admitted = getattr(role.platforms, kind)
    return "any" if admitted is None else len(admitted)


def _digests(topology: Topology, root: OwnerRoot) -> dict[str, Any]:
    return {
        "topo_digest": topology.digest.hex(),
        "mesh_id": mesh_id(root.canonical, topology.mesh).hex(),
        "owner_root": root.digest.hex(),
    }


def _print_summary(report: Mapping[str, Any]) -> None:
    print(f"OK: mesh {report['mesh']}, version {report['version']}, issued {report['issued_at']}")
    print(f"  {_bounds(report['members'])} members")
    for name, role in report["roles"].items():
        print(f"  {name}: {_bounds(role['replicas'])}")
        for field in ("serves", "calls", "ingress"):
            print(f"    {field} {', '.join(map(str, role[field])) or 'nothing'}")
        for field in ("addresses", "http", "proxy_protocol", "egress", "probes"):
            if role[field]:
                print(f"    {field} {', '.join(map(str, role[field]))}")
        if role["metrics"] is not None:
            print(f"    metrics {role['metrics']}")
        if role["workload_api"] != WORKLOAD_API[False]:
            print(f"    workload_api {role['workload_api']}")
        for kind, count in role["references"].items():
            print(f"    {kind}: references {count}, platforms {role['platforms'][kind]}")
        if role["gpus"] is not None:
            print(f"    gpus {role['gpus']['count']} of {', '.join(role['gpus']['models'])}")
    if "topo_digest" in report:
        _print_digests(report)


def _rfc3339(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _bounds(bounds: Mapping[str, int]) -> str:
    low, high = bounds["min"], bounds["max"]
    return str(high) if low == high else f"{low} to {high}"


def _print_digests(report: Mapping[str, Any]) -> None:
    for name in ("topo_digest", "mesh_id", "owner_root"):
        print(f"{name} {report[name]}")


def _print_json(report: Mapping[str, Any]) -> None:
    print(json.dumps(report))
