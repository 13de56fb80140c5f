"""What the daemon would meet on this machine, by the functions that it goes by itself; nothing is changed."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Callable

from toposeal.dataplane.firewall import Backend
from toposeal.errors import PodError, Reason, ToposealError
from toposeal.gate.doctor import Fine, Look, Unknown, Wrong
from toposeal.host import firewall, privileges, xds_files
from toposeal.host.entropy import random_bytes
from toposeal.host.envoy import check_version, find_envoy
from toposeal.host.quote_sources import quote_source
from toposeal.limits import DAEMON_UID, REPORT_DATA_SIZE

_TIMEOUT = 10  # seconds; envoy --version takes 0.1
_QUOTE_TIMEOUT = 60.0  # seconds; a slow host takes 30
_MAX_VERSION = 4096
_VERSION = re.compile(r"version: (\S+)")


def looked(look: Callable[[], str]) -> Look:
    """What `look` finds, or what it refuses."""
    try:
        return Fine(look())
    except ToposealError as error:
        return Wrong(error.mismatches)


def setpriv() -> Look:
    return looked(privileges.find_setpriv)


def envoy(binary: str | None = None) -> Look:
    """The binary as the daemon finds it (None), and whether what it says of itself is admitted."""
    return looked(lambda: _version(find_envoy(binary)))


def quotes(name: str, report_dir: str, ask: bool) -> Look:
    """Who answers as the source `name`, the kernel's in `report_dir`; with `ask` it has to give a report of
    random data.

    The kernel names its driver in an entry alone: one is made for the look and removed.
    """

    def look() -> str:
        source = quote_source(name, report_dir)
        if not ask:
            return f"{source.provider(_QUOTE_TIMEOUT)}; no report was asked for"
        report = source.report(random_bytes(REPORT_DATA_SIZE), _QUOTE_TIMEOUT)
        return f"{report.provider}, a report of {len(report.outblob)} bytes"

    return looked(look)


def back_end(capabilities: int | None) -> tuple[Look, Backend | None]:
    """What the daemon would choose. The kernel shows rules to nobody without NET_ADMIN."""
    if not _may_ask(capabilities):
        return Unknown("needs NET_ADMIN"), None
    try:
        chosen = firewall.choose()
    except PodError as error:
        return Wrong(error.mismatches), None
    return Fine(chosen.value), chosen


def rules(backend: Backend | None) -> Look:
    """Whether they stand, each of them and nothing else."""
    if backend is None:
        return Unknown("no back end to ask")
    return looked(lambda: f"as applied, by {firewall.check(backend)}")


def state_directory(path: str) -> str:
    """`path` as the daemon has it, or a place where it can make it. Raises PodError(STATE_DIR)."""
    made = xds_files.examine(path, owner=DAEMON_UID)
    return f"{path}, on a tmpfs" if made else f"{path}: the daemon makes it when it starts"


def _may_ask(capabilities: int | None) -> bool:
    net_admin = 12  # linux/capability.h
    return capabilities is not None and bool(capabilities >> net_admin & 1)


def _version(binary: str) -> str:
    """Raises PodError(ENVOY_FAILED)."""
    try:
        if not stat.S_ISREG(os.stat(binary).st_mode):
            raise PodError.of(Reason.ENVOY_FAILED, "envoy", "no regular file", binary)
        done = subprocess.run(  # noqa: S603 (absolute path, fixed arguments, no environment)
            [binary, "--version"], capture_output=True, env={}, timeout=_TIMEOUT, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PodError.of(Reason.ENVOY_FAILED, "envoy", error, f"{binary} to run") from error
    match = _VERSION.search(done.stdout[:_MAX_VERSION].decode("ascii", "replace"))
    if match is None:
        raise PodError.of(Reason.ENVOY_FAILED, "envoy.version", f"exit code {done.returncode}", "a version")
    check_version(match[1])
    return match[1]
