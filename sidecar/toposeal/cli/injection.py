"""What `inject` and `webhook` are told alike: topology, each role's initdata, what the operator decides."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable

from toposeal.cli.owner_keys import read_owner
from toposeal.errors import Reason, UsageError
from toposeal.host.files import read_once
from toposeal.kubernetes.initdata import ALGORITHMS, Initdata, PodIdentity, build
from toposeal.kubernetes.parts import Settings
from toposeal.limits import MAX_INITDATA_SIZE, MAX_TOPOLOGY_SIZE, MAX_VERSION
from toposeal.topology.author import payload_from_yaml
from toposeal.topology.model import Topology
from toposeal.topology.owner import OwnerRoot
from toposeal.topology.parse import parse_topology

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,511}", re.ASCII)
_OBJECT = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)


def add_declared(parser: argparse.ArgumentParser) -> None:
    """What is measured into the pods."""
    add = parser.add_argument
    add("--topology", metavar="FILE", required=True, help="the declaration, YAML")
    add("--owner", metavar="FILE", required=True, help="owner root; it is measured into the pods")
    add("--min-version", metavar="N", type=int, required=True, help="lowest topology version; measured")
    add("--tee", choices=sorted(ALGORITHMS), help="kind of the machines, where the roles are for both")
    add(
        "--add",
        metavar="[ROLE/]NAME=FILE",
        action="append",
        default=[],
        help="aa.toml, cdh.toml or policy.rego for the initdata of all roles or of one; repeatable",
    )


def add_settings(parser: argparse.ArgumentParser) -> None:
    """What the operator decides."""
    add = parser.add_argument
    add("--image", metavar="IMAGE", help="image of the sidecar, best by digest")
    add("--runtime-class", metavar="NAME", help="runtime class of confidential pods")
    add(
        "--config-map",
        metavar="NAME",
        default="toposeal",
        help="topology and collateral (default %(default)s)",
    )


def read_declared(args: argparse.Namespace) -> tuple[OwnerRoot, Topology]:
    """Raises UsageError or TopologyError."""
    owner = read_owner(args.owner)
    return owner, parse_topology(payload_from_yaml(read_once(args.topology, MAX_TOPOLOGY_SIZE), owner))


def read_settings(args: argparse.Namespace) -> Settings:
    """Raises UsageError for a name that is none."""
    _matched("--image", args.image, _IMAGE, "the name of an image")
    object_name("--runtime-class", args.runtime_class, "RuntimeClass")
    object_name("--config-map", args.config_map, "ConfigMap")
    return Settings(args.image, args.runtime_class, args.config_map)


def object_name(option: str, value: str | None, kind: str) -> None:
    """Raises UsageError unless an object can be called so."""
    _matched(option, value, _OBJECT, f"the name of a {kind}")


def _matched(option: str, value: str | None, pattern: re.Pattern[str], expected: str) -> None:
    """Raises UsageError unless `value` is of the form."""
    if value is None or pattern.fullmatch(value) is None:
        raise UsageError.of(Reason.USAGE, option, "nothing" if value is None else value, expected)


def kind_of(topology: Topology, roles: Iterable[str]) -> str:
    """The one kind of machine that all `roles` are for. Raises UsageError."""
    kinds = {kind for name in roles for kind in ALGORITHMS if getattr(topology.roles[name], kind)}
    if len(kinds) > 1:
        raise UsageError.of(Reason.USAGE, "--tee", "nothing", "tdx or snp: the roles have references of both")
    return kinds.pop() if kinds else "tdx"


def read_initdata(
    args: argparse.Namespace, owner: OwnerRoot, topology: Topology, roles: Iterable[str], kind: str
) -> dict[str, Initdata]:
    """Each role's document. Raises UsageError."""
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
        added[role, name] = read_text(path, MAX_INITDATA_SIZE)
    return added


def read_text(path: str, limit: int) -> str:
    """A file of at most `limit` bytes in UTF-8. Raises UsageError."""
    try:
        return read_once(path, limit).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError.of(Reason.MALFORMED, path, error, "UTF-8") from error
