"""What the lab needs of the machine, said all at once and before anything is started."""

from __future__ import annotations

import ctypes.util
import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from toposeal.errors import Mismatch, Reason, UsageError
from toposeal_lab.pods import SEARCH_PATH

# Program and the Debian package that brings it.
SIDECAR_PROGRAMS = {"nft": "nftables", "ip": "iproute2", "setpriv": "util-linux"}
SHOP_PROGRAMS = {
    "nginx": "nginx-light",
    "python3": "python3",
    "redis-server": "redis-server",
    "redis-cli": "redis-tools",
}
CLIENT_PROGRAMS = {"curl": "curl"}
_FUSE = Path("/dev/fuse")


def check_machine(programs: dict[str, str]) -> None:
    """Raise UsageError naming everything that is missing; `programs` as the tables above have them."""
    missing = list(_missing(programs))
    if missing:
        raise UsageError(*missing)


def _missing(programs: dict[str, str]) -> Iterator[Mismatch]:
    if os.geteuid() != 0:
        why = "root: the lab makes network namespaces, firewall rules and a FUSE mount"
        yield Mismatch(Reason.USAGE, "user", f"uid {os.geteuid()}", why)
    for program, package in programs.items():
        if shutil.which(program, path=SEARCH_PATH) is None:
            yield Mismatch(Reason.USAGE, program, "nothing", f"the program; apt-get install {package}")
    if not os.access(_FUSE, os.R_OK | os.W_OK):
        yield Mismatch(Reason.USAGE, str(_FUSE), "nothing usable", "a FUSE device for the simulated platform")
    if ctypes.util.find_library("fuse3") is None:
        yield Mismatch(Reason.USAGE, "libfuse3", "nothing", "the library; apt-get install libfuse3-3")
    for module, extra in (("grpc", "sidecar"), ("mfusepy", "lab"), ("envoy_data_plane", "sidecar")):
        if find_spec(module) is None:
            yield Mismatch(Reason.USAGE, module, "nothing", f"pip install 'toposeal[{extra}]'")
