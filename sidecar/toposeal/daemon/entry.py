"""The first moments of a pod, as root: close it, make its directory, become the daemon's user.

Short on purpose, in code and in imports: until it ends, this process can do anything. The daemon's own
process comes by here too, and does not wait for what root alone needs: netlink takes 0.1 s to import.
"""

from __future__ import annotations

from typing import NoReturn

from toposeal.errors import Reason, UsageError
from toposeal.host import privileges
from toposeal.limits import DAEMON_UID, ENVOY_UID

_MAX_STATE_DIR = 64  # characters; Unix socket paths below it stay under the kernel's 108


def enter(state_dir: str) -> None:
    """Returns in the daemon's own process alone; as root this process is replaced by that one, and so
    is one of the daemon's user that was started with an environment or without `-I` (T11).

    Raises PodError or UsageError; the rules, once applied, stay.
    """
    if not privileges.is_daemon():
        _become_daemon(state_dir)
    elif privileges.is_isolated():
        privileges.harden()
    else:
        _become_daemon(None)


def _become_daemon(state_dir: str | None) -> NoReturn:
    """With a state directory: close the pod and make that first, as only root can."""
    from toposeal.dataplane.firewall import Backend
    from toposeal.host import firewall, xds_files

    if state_dir is None:
        backend = firewall.choose()
    else:
        backend = firewall.apply()
        xds_files.prepare(check_state_dir(state_dir), owner=DAEMON_UID, group=ENVOY_UID)
    # Legacy iptables speaks to the kernel through a raw socket.
    privileges.become_daemon(("net_raw",) if backend is Backend.LEGACY else ())


def check_state_dir(path: str) -> str:
    """A short absolute path without `..`, or UsageError."""
    if not path.startswith("/") or ".." in path.split("/") or len(path) > _MAX_STATE_DIR:
        raise UsageError.of(Reason.USAGE, "state_dir", path, "a short absolute path without ..")
    return path.rstrip("/")
