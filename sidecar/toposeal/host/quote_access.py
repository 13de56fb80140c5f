"""Nobody else in the pod reaches an interface that gives quotes: shown at start, or no member seals.

A quote names the virtual machine and not the process, so whoever can ask for one can be the pod (E16).
Shown here is what a process can find out from where it stands: an ordinary user without capabilities is
refused by every interface, nobody but root and the daemon owns one, no group but the daemon's own may use
one, and no other process that is visible holds one open or has it in its own mounts. Root in another
container, out of sight, cannot be judged.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from toposeal.errors import Mismatch, PodError, Reason, printable
from toposeal.host.child import confined
from toposeal.host.configfs_tsm import REPORT_DIRECTORY
from toposeal.host.pod_processes import Place, holders
from toposeal.host.rtmr import FILE, MEASUREMENTS
from toposeal.limits import MAX_MISMATCHES

COMMAND = (sys.executable, "-I", "-m", "toposeal.host.quote_access_child")
# To read its own code below /root, and to become a stranger; it drops all of it before it tries anything.
_CAPABILITIES = ("dac_override", "setuid", "setgid")
_TIMEOUT_S = 30
_MAX_ANSWER = 64 << 10
_EXPECTED = "nobody but the daemon"
_ACL = "system.posix_acl_access"
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})
_WITHOUT_ACL = frozenset({errno.ENODATA, errno.EOPNOTSUPP})


@dataclass(frozen=True)
class Interfaces:
    """Where quotes come from in the guests that we know of. Absent ones are nobody's."""

    report_dir: str = REPORT_DIRECTORY
    devices: tuple[str, ...] = ("/dev/tdx_guest", "/dev/tdx-guest", "/dev/sev-guest")
    # No quotes, but whoever extends it spoils the member's. Everybody may read it.
    registers: tuple[str, ...] = (os.path.join(MEASUREMENTS, FILE),)
    sockets: tuple[str, ...] = (
        "/run/confidential-containers/attestation-agent/attestation-agent.sock",
        "/var/run/dstack.sock",
        "/var/run/tappd.sock",
    )
    # The attestation agent: /aa/evidence of api-server-rest, and gRPC.
    ports: tuple[int, ...] = (8006, 50002)


def check(interfaces: Interfaces | None = None) -> tuple[Mismatch, ...]:
    """Everything that lets somebody else ask for quotes, empty if nothing does; blocks up to 30 s.

    Raises PodError(QUOTE_ACCESS) when it cannot be found out, which is no better.
    """
    tested = interfaces or Interfaces()
    found = [*_owned_by_others(tested), *_reached_by_a_stranger(tested), *_held_by_others(tested)]
    return tuple(found[:MAX_MISMATCHES])


def _owned_by_others(interfaces: Interfaces) -> Iterator[Mismatch]:
    """Owners, groups and lists, which no single stranger stands for; he tries what others may."""
    for path in (interfaces.report_dir, *interfaces.devices, *interfaces.registers, *interfaces.sockets):
        try:
            found = os.stat(path)
        except OSError as error:
            if error.errno not in _ABSENT:
                yield _mismatch(path, f"cannot be judged: {error.strerror}")
            continue
        # Reading a device is using it; of everything else it is writing that counts.
        group = 0o060 if stat.S_ISCHR(found.st_mode) else 0o020
        if found.st_uid not in (0, os.geteuid()):
            yield _mismatch(path, f"owner {found.st_uid}")
        # Group 0 is no owner: a container that is given a user and no group runs in it.
        if found.st_gid != (os.getegid() or None) and found.st_mode & group:
            yield _mismatch(path, f"group {found.st_gid}, mode {stat.S_IMODE(found.st_mode):04o}")
        if _has_acl(path):
            yield _mismatch(path, "an access control list")


def _has_acl(path: str) -> bool:
    """Whether users are named besides owner and group. What cannot be told counts as so."""
    try:
        os.getxattr(path, _ACL)
    except OSError as error:
        return error.errno not in _WITHOUT_ACL
    return True


def _reached_by_a_stranger(interfaces: Interfaces) -> Iterator[Mismatch]:
    """What the child reaches as an ordinary user. Its own failure is one of the test."""
    try:
        done = subprocess.run(  # noqa: S603 (absolute paths, no environment)
            confined(COMMAND, uid=None, capabilities=_CAPABILITIES),
            input=json.dumps(asdict(interfaces)).encode("ascii"),
            capture_output=True,
            timeout=_TIMEOUT_S,
            env={},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PodError.of(Reason.QUOTE_ACCESS, "stranger", error, "an answer") from error
    if done.returncode or len(done.stdout) > _MAX_ANSWER:
        last = done.stderr.decode("ascii", "replace").strip().rpartition("\n")[2]
        raise PodError.of(
            Reason.QUOTE_ACCESS, "stranger", f"exit code {done.returncode}: {last}", "an answer"
        )
    for interface, how in _answers(done.stdout):
        yield _mismatch(interface, f"an ordinary user: {how}")


def _answers(data: bytes) -> list[tuple[str, str]]:
    try:
        value: Any = json.loads(data)
        return [(str(interface), str(how)) for interface, how in value["reached"]]
    except (ValueError, TypeError, KeyError) as error:
        raise PodError.of(Reason.QUOTE_ACCESS, "stranger", data[:80], "an answer") from error


def _held_by_others(interfaces: Interfaces) -> Iterator[Mismatch]:
    """Other processes, as far as this one may look into them."""
    paths = (interfaces.report_dir, *interfaces.devices, *interfaces.sockets)
    for holder in holders([Place.of(path) for path in paths]):
        yield _mismatch(holder.path, f"process {holder.pid}, user {holder.uid}: {holder.how}")


def _mismatch(interface: str, found: str) -> Mismatch:
    return Mismatch(Reason.QUOTE_ACCESS, printable(interface), printable(found), _EXPECTED)
