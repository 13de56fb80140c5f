"""`toposeal inject`: put the sidecar into pods of Kubernetes manifests, and print their config digests."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from toposeal.cli.owner_keys import read_owner
from toposeal.errors import Reason, UsageError
from toposeal.host.files import read_once, write_folder, write_new
from toposeal.kubernetes.helm import library_chart
from toposeal.kubernetes.initdata import ALGORITHMS, FIELDS, Initdata, PodIdentity, build
from toposeal.kubernetes.inject import Injection, inject, roles_of
from toposeal.kubernetes.kustomize import initdata_component
from toposeal.kubernetes.parts import Settings
from toposeal.limits import MAX_INITDATA_SIZE, MAX_MANIFEST_FILE, MAX_TOPOLOGY_SIZE, MAX_VERSION
from toposeal.topology.author import payload_from_yaml
from toposeal.topology.model import Topology
from toposeal.topology.owner import OwnerRoot
from toposeal.topology.parse import parse_topology

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,511}", re.ASCII)
_OBJECT = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)
_MODE = 0o644


def register(subparsers: Any) -> None:
    """Add `inject`."""
    parser = subparsers.add_parser(
        "inject", help="put the sidecar into the pods of Kubernetes manifests", description=__doc__
    )
    add = parser.add_argument
    add("-f", "--file", metavar="FILE", required=True, help="the application's manifests, YAML")
    add("--topology", metavar="FILE", required=True, help="the declaration, YAML")
    add("--owner", metavar="FILE", required=True, help="owner root; it is measured into the pods")
    add("--min-version", metavar="N", type=int, required=True, help="lowest topology version; measured")
    add("--tee", choices=sorted(ALGORITHMS), help="kind of the machines, where the roles are for both")
    add(
        "--role",
        metavar="ROLE=KIND/NAME",
        action="append",
        default=[],
        help="role of a workload that has no label or annotation toposeal.dev/role; repeatable",
    )
    add(
        "--add",
        metavar="[ROLE/]NAME=FILE",
        action="append",
        default=[],
        help="aa.toml, cdh.toml or policy.rego for the initdata of all roles or of one; repeatable",
    )
    add("--image", metavar="IMAGE", help="image of the sidecar, best by digest")
    add("--runtime-class", metavar="NAME", help="runtime class of confidential pods")
    add(
        "--config-map",
        metavar="NAME",
        default="toposeal",
        help="topology and collateral (default %(default)s)",
    )
    add(
        "--out",
        metavar="FILE",
        help="new file for the result (default: standard output); with --helm the chart",
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument(
        "--digests", action="store_true", help="print the config digests for the topology alone"
    )
    only.add_argument("--draft", action="store_true", help="leave out comparing digests: for genpolicy")
    add("--kustomize", action="store_true", help="check the same, print a component with the initdata alone")
    add("--helm", action="store_true", help="check the same, make a library chart: the new folder --out")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    _check_result(args)
    owner = read_owner(args.owner)
    topology = parse_topology(payload_from_yaml(read_once(args.topology, MAX_TOPOLOGY_SIZE), owner))
    text = _text(args.file, MAX_MANIFEST_FILE)
    named = _named(args.role)
    roles = roles_of(text, topology, named)
    kind = args.tee or _kind(topology, roles)
    initdata = _initdata(args, owner, topology, roles, kind)
    if args.digests:
        _put(_snippet(initdata, kind), args.out)
        return 0
    injection = Injection(topology, kind, initdata, _settings(args), draft=args.draft)
    if args.helm:
        files = library_chart(text, injection, named)
        write_folder(args.out, {name: one.encode("utf-8") for name, one in files.items()}, _MODE)
        return 0
    make = initdata_component if args.kustomize else inject
    _put(make(text, injection, named), args.out)
    return 0


def _check_result(args: argparse.Namespace) -> None:
    asked = [name for name in ("--digests", "--kustomize", "--helm") if getattr(args, name[2:])]
    if len(asked) > 1:
        raise UsageError.of(Reason.USAGE, asked[1], asked[0], "one of them")
    if args.helm and args.out is None:
        raise UsageError.of(Reason.USAGE, "--out", "nothing", "a new folder for the chart")


def _settings(args: argparse.Namespace) -> Settings:
    _matched("--image", args.image, _IMAGE, "the name of an image")
    _matched("--runtime-class", args.runtime_class, _OBJECT, "the name of a RuntimeClass")
    _matched("--config-map", args.config_map, _OBJECT, "the name of a ConfigMap")
    return Settings(args.image, args.runtime_class, args.config_map)


def _matched(option: str, value: str | None, pattern: re.Pattern[str], expected: str) -> None:
    if value is None or pattern.fullmatch(value) is None:
        raise UsageError.of(Reason.USAGE, option, "nothing" if value is None else value, expected)


def _named(options: Iterable[str]) -> dict[str, str]:
    """`Kind/name` to role."""
    named: dict[str, str] = {}
    for option in options:
        role, equals, workload = option.partition("=")
        if not equals or not role or workload.count("/") != 1 or workload in named:
            raise UsageError.of(Reason.USAGE, "--role", option, "ROLE=KIND/NAME, each workload once")
        named[workload] = role
    return named


def _kind(topology: Topology, roles: Iterable[str]) -> str:
    """The one kind of machine that all `roles` are for."""
    kinds = {kind for name in roles for kind in ALGORITHMS if getattr(topology.roles[name], kind)}
    if len(kinds) > 1:
        raise UsageError.of(Reason.USAGE, "--tee", "nothing", "tdx or snp: the roles have references of both")
    return kinds.pop() if kinds else "tdx"


def _initdata(
    args: argparse.Namespace, owner: OwnerRoot, topology: Topology, roles: Iterable[str], kind: str
) -> dict[str, Initdata]:
    if not 1 <= args.min_version <= min(topology.version, MAX_VERSION):
        expected = f"from 1 to the topology's version, {topology.version}"
        raise UsageError.of(Reason.USAGE, "--min-version", args.min_version, expected)
    added = _added(args.add, topology)
    return {
        role: build(
            kind,
            PodIdentity(owner.canonical, topology.mesh, role, args.min_version),
            {name: text for (only, name), text in sorted(added.items()) if only in ("", role)},
        )
        for role in roles
    }


def _added(options: Iterable[str], topology: Topology) -> dict[tuple[str, str], str]:
    """Role (empty for all of them) and name to text; sorted, a role's own file follows everybody's."""
    added: dict[tuple[str, str], str] = {}
    for option in options:
        place, equals, path = option.partition("=")
        role, slash, name = place.rpartition("/")
        if not equals or (slash and role not in topology.roles) or (role, name) in added:
            raise UsageError.of(Reason.USAGE, "--add", option, "[ROLE/]NAME=FILE, each once")
        added[role, name] = _text(path, MAX_INITDATA_SIZE)
    return added


def _snippet(initdata: Mapping[str, Initdata], kind: str) -> str:
    lines = [f'    {kind}:\n      - {FIELDS[kind]}: "{one.digest.hex()}"\n' for one in initdata.values()]
    return "roles:\n" + "".join(f"  {role}:\n{line}" for role, line in zip(initdata, lines, strict=True))


def _text(path: str, limit: int) -> str:
    try:
        return read_once(path, limit).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError.of(Reason.MALFORMED, path, error, "UTF-8") from error


def _put(text: str, path: str | None) -> None:
    if path is None:
        sys.stdout.write(text)
    else:
        write_new(path, text.encode("utf-8"), _MODE)
