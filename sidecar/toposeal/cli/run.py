"""`toposeal run`: the daemon of one pod. Arguments or one measured file; the environment is ignored."""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Mapping
from typing import Any

from toposeal.errors import Reason, UsageError

_DEFAULTS = {"state_dir": "/run/toposeal", "collateral": "/etc/toposeal/collateral.json"}
# Argument, its value's name, its help.
_ARGUMENTS = {
    "role": ("ROLE", "the role of this pod; its evidence must show the same"),
    "mesh": ("NAME", "the mesh that the topology is for"),
    "owner": ("FILE", "the owner root: whose signatures a topology needs"),
    "topology": ("FILE", "the signed topology (DSSE envelope)"),
    "min_version": ("N", "the lowest topology version that is accepted"),
    "initdata": ("FILE", "instead of --role, --mesh, --owner, --min-version: initdata, gzip in base64"),
    "peers": ("HOST:PORT,...", "where other members may be; names are asked for again and again"),
    "state_dir": ("DIR", "a tmpfs for what Envoy reads"),
    "collateral": ("FILE", "a bundle of collateral, or TDX collateral (dcap-qvl form)"),
    "collateral_cache": ("DIR", "keep collateral here and fetch it; then --collateral has no default"),
    "pccs": ("URL", "with the cache: your PCCS instead of Intel's PCS"),
    "kds": ("URL", "with the cache: a mirror of AMD's KDS"),
    "service_ca": ("FILE", "roots of the certificates of --pccs and --kds, PEM"),
    "quote_source": ("NAME", "who is asked for quotes: configfs-tsm (default), coco-aa or dstack"),
    "event_log": ("FILE", "what the measured guest itself extends into RTMR3, where a reference admits it"),
}


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "run", help="attest this pod and open its network once the mesh is sealed", description=__doc__
    )
    add_arguments(parser)
    parser.set_defaults(run=_run)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `values` reads."""
    parser.add_argument("--config", metavar="FILE", help="TOML file with all of these instead (measured)")
    for name, (metavar, text) in _ARGUMENTS.items():
        default = f" (default {_DEFAULTS[name]})" if name in _DEFAULTS else ""
        parser.add_argument(f"--{name.replace('_', '-')}", metavar=metavar, help=text + default)


def _run(args: argparse.Namespace) -> int:
    given = values(args)
    child = enter_pod(given)

    from toposeal.daemon.service import Platform, run_pod

    return run_pod(given, Platform(anchors=args.anchors), child)


def enter_pod(given: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """As the daemon's user from here on. The renderer's child imports while its parent does."""
    from toposeal.daemon.entry import enter
    from toposeal.host.render_spawn import spawn

    enter(given["state_dir"])
    return spawn()


def values(args: argparse.Namespace) -> dict[str, str]:
    """The configuration's values from the file or from the arguments, never from both."""
    from toposeal.daemon.config_file import read_config_file

    given = named(args)
    if args.config is None:
        return _with_defaults(given)
    if given:
        raise UsageError.of(Reason.USAGE, f"--{sorted(given)[0]}", "besides --config", "one or the other")
    return _with_defaults(read_config_file(args.config))


def named(args: argparse.Namespace) -> dict[str, str]:
    """Those that were given as arguments."""
    every = {name: getattr(args, name) for name in _ARGUMENTS}
    return {name: value for name, value in every.items() if value is not None}


def _with_defaults(given: Mapping[str, str]) -> dict[str, str]:
    """With a cache, a file of collateral is there only if somebody names it."""
    unwanted = "collateral" if "collateral_cache" in given else None
    return {**{name: value for name, value in _DEFAULTS.items() if name != unwanted}, **given}
