"""`toposeal inject`: put the sidecar into pods of Kubernetes manifests, and print their config digests."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import Any

from toposeal.cli.injection import (
    add_declared,
    add_settings,
    kind_of,
    read_declared,
    read_initdata,
    read_settings,
    read_text,
)
from toposeal.errors import Reason, UsageError
from toposeal.host.files import read_once, write_folder, write_new
from toposeal.kubernetes.helm import library_chart
from toposeal.kubernetes.inject import Injection, inject, roles_of
from toposeal.kubernetes.kustomize import initdata_component
from toposeal.kubernetes.measured import measured_images, references
from toposeal.limits import MAX_MANIFEST_FILE, MAX_TOPOLOGY_SIZE

_MODE = 0o644


def register(subparsers: Any) -> None:
    """Add `inject`."""
    parser = subparsers.add_parser(
        "inject", help="put the sidecar into the pods of Kubernetes manifests", description=__doc__
    )
    add = parser.add_argument
    add("-f", "--file", metavar="FILE", required=True, help="the application's manifests, YAML")
    add_declared(parser)
    add(
        "--role",
        metavar="ROLE=KIND/NAME",
        action="append",
        default=[],
        help="role of a workload that has no label or annotation toposeal.dev/role; repeatable",
    )
    add_settings(parser)
    add(
        "--out",
        metavar="FILE",
        help="new file for the result (default: standard output); with --helm the chart",
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument(
        "--digests", action="store_true", help="print the config digests for the topology alone"
    )
    add("--measured", metavar="FILE", help="with --digests: guest images, YAML, for whole references")
    only.add_argument("--draft", action="store_true", help="leave out comparing digests: for genpolicy")
    add("--kustomize", action="store_true", help="check the same, print a component with the initdata alone")
    add("--helm", action="store_true", help="check the same, make a library chart: the new folder --out")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    _check_result(args)
    owner, topology = read_declared(args)
    text = read_text(args.file, MAX_MANIFEST_FILE)
    named = _named(args.role)
    roles = roles_of(text, topology, named)
    kind = args.tee or kind_of(topology, roles)
    initdata = read_initdata(args, owner, topology, roles, kind)
    if args.digests:
        given = args.measured is not None
        images = measured_images(read_once(args.measured, MAX_TOPOLOGY_SIZE), kind) if given else []
        _put(references(initdata, kind, images), args.out)
        return 0
    injection = Injection(topology, kind, initdata, read_settings(args), draft=args.draft)
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
    if args.measured is not None and not args.digests:
        raise UsageError.of(Reason.USAGE, "--measured", "no --digests", "both")
    if args.helm and args.out is None:
        raise UsageError.of(Reason.USAGE, "--out", "nothing", "a new folder for the chart")


def _named(options: Iterable[str]) -> dict[str, str]:
    """`Kind/name` to role."""
    named: dict[str, str] = {}
    for option in options:
        role, equals, workload = option.partition("=")
        if not equals or not role or workload.count("/") != 1 or workload in named:
            raise UsageError.of(Reason.USAGE, "--role", option, "ROLE=KIND/NAME, each workload once")
        named[workload] = role
    return named


def _put(text: str, path: str | None) -> None:
    if path is None:
        sys.stdout.write(text)
    else:
        write_new(path, text.encode("utf-8"), _MODE)
