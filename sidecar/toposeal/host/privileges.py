"""From root to the daemon's own user, by util-linux setpriv, with an empty environment (T11, F5).

The daemon keeps what it uses and nothing else: NET_ADMIN for the rules, DAC_OVERRIDE for configfs-tsm,
SETUID, SETGID and KILL for Envoy and the probe, CHOWN for the files that Envoy reads.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Sequence
from typing import NoReturn

from toposeal.errors import PodError, Reason, UsageError
from toposeal.limits import DAEMON_UID

CAPABILITIES = ("net_admin", "dac_override", "setuid", "setgid", "kill", "chown")
SETPRIV = ("/usr/bin/setpriv", "/bin/setpriv")
_PR_SET_DUMPABLE = 4
# Where core_pattern is a pipe the kernel looks at no other limit than this one (linux fs/coredump.c);
# for a file it is too little.
_NO_CORE = 1
# Set by Python itself in the C locale (PEP 538).
_OWN_VARIABLES = frozenset({"LC_CTYPE"})


def is_daemon() -> bool:
    """Whether this process has already become the daemon's user; UsageError for any third user."""
    uid = os.geteuid()
    if uid not in (0, DAEMON_UID):
        raise UsageError.of(Reason.USAGE, "uid", uid, f"0, or {DAEMON_UID} with {' '.join(CAPABILITIES)}")
    return uid == DAEMON_UID


def is_isolated() -> bool:
    """Whether nothing outside the arguments can have had a say: no environment, no user's site."""
    return bool(sys.flags.isolated) and _OWN_VARIABLES.issuperset(os.environ)


def become_daemon(further: Sequence[str] = ()) -> NoReturn:
    """Replace this process by itself as DAEMON_UID: isolated Python, no environment at all, and no
    capability but CAPABILITIES and `further`.
    """
    caps = ",".join(f"+{name}" for name in (*CAPABILITIES, *further))
    command = [
        find_setpriv(),
        f"--reuid={DAEMON_UID}",
        f"--regid={DAEMON_UID}",
        "--clear-groups",
        f"--inh-caps=-all,{caps}",
        f"--ambient-caps=-all,{caps}",
        "--no-new-privs",
        "--",
        sys.executable,
        "-I",
        *isolated_arguments(sys.orig_argv[1:]),
    ]
    os.execve(command[0], command, {})  # noqa: S606


def isolated_arguments(arguments: list[str]) -> list[str]:
    """This process's own arguments without a second `-I`."""
    return [a for n, a in enumerate(arguments) if not (a == "-I" and n == 0)]


def harden() -> None:
    """No core dump, no ptrace, no reading of this process's memory by its equals (F3). Children keep
    the limit: Envoy, which holds keys too, has a core dump neither to a file nor to a program.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    limit = min(hard, _NO_CORE) if hard != resource.RLIM_INFINITY else _NO_CORE
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise PodError.of(Reason.INTERNAL, "PR_SET_DUMPABLE", os.strerror(ctypes.get_errno()), "0")
    os.umask(0o077)
    os.environ.clear()
    # gRPC's log repeats what strangers say (C2), waits for its reader, and has no other switch.
    os.environ["GRPC_VERBOSITY"] = "NONE"


def find_setpriv() -> str:
    """The absolute path of util-linux setpriv. Raises PodError."""
    for path in SETPRIV:
        if os.access(path, os.X_OK):
            return path
    raise PodError.of(Reason.INTERNAL, "setpriv", "missing", " or ".join(SETPRIV))
