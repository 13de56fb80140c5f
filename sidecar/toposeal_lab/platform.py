"""`toposeal-lab platform DIR`: the simulated platform and the owner's files, for pods that others run.

What docker-compose.yml starts once and every sidecar reads. DIR/tsm/<pod> is a pod's configfs-tsm. There is
one pod more than the shop needs, to take another's place, and the owner's next: DIR/topology-2.json.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from toposeal_lab.scenario import MEMBERS, MESH, REDIS_PORT, VERSION, Cast, declare, public_files
from toposeal_lab.simtdx import LabPki
from toposeal_lab.tees import TeeChoice, add_choice, lab_tees
from toposeal_lab.tsm_config import TsmConfig
from toposeal_lab.tsmfs import serve

_SIGNED_BEFORE_S = 60  # clocks of verifiers may be a little behind
PODS = {**MEMBERS, "api-3": "api"}  # the last one in place of another, in a VM of its own
_NEXT = Cast(version=VERSION + 1, calls={"web": (("db", REDIS_PORT),)})  # web may also call db


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("platform", help="serve the simulated platform", description=__doc__)
    parser.add_argument("directory", metavar="DIR", type=Path, help="made if missing; readable by every pod")
    add_choice(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    """Write the files, then serve until terminated. The vendor's and the owner's keys never leave memory."""
    now = int(time.time())
    choice = TeeChoice(args.tee)
    vendor, amd = LabPki.create(now), choice.amd(now)
    tees = lab_tees(PODS, MESH, choice, amd)
    mountpoint = _empty_mountpoint(args.directory)
    owner, issued_at = Ed25519PrivateKey.generate(), now - _SIGNED_BEFORE_S
    files = public_files(declare(issued_at, owner, choice), vendor, amd)
    files["topology-2.json"] = declare(issued_at, owner, choice, _NEXT).envelope
    for name, content in files.items():
        path = args.directory / name
        path.write_bytes(content)
        path.chmod(0o644)
    serve(TsmConfig(vendor, tees).directories(), mountpoint)
    return 0


def _empty_mountpoint(directory: Path) -> Path:
    """DIR/tsm, without the mount that a killed predecessor left."""
    os.umask(0o022)
    mountpoint = directory / "tsm"
    command = ["/usr/bin/umount", "--lazy", str(mountpoint)]
    subprocess.run(command, check=False, stderr=subprocess.DEVNULL)  # noqa: S603
    mountpoint.mkdir(parents=True, exist_ok=True)
    return mountpoint
