"""The stranger of the quote self-test: becomes an ordinary user, then tries every interface that it is told.

`python -I -m toposeal.host.quote_access_child` reads what to try from standard input and answers with one
JSON object: what let it in, and how. Whatever is not a clear refusal counts as reached.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from toposeal.limits import STRANGER_UID

_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_LISTENING = b"0A"  # of /proc/net/tcp
_CONNECT_S = 2.0
_MAX_INPUT = 64 << 10
_MAX_ENTRIES = 256
_REFUSED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS})
# Nobody listens, or this pod has no such address.
_UNANSWERED = frozenset(
    {errno.ECONNREFUSED, errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EAFNOSUPPORT}
)
_OPENINGS = {"read": os.O_RDONLY, "write": os.O_WRONLY, "read and write": os.O_RDWR}

Attempt = tuple[str, str, Callable[[], None]]  # interface, what is tried, trying it


def main() -> None:
    """Any failure ends the process with a traceback on stderr and no answer. Files are read as bytes: once
    a stranger, it can load nothing, not even a codec.
    """
    told = json.loads(sys.stdin.buffer.read(_MAX_INPUT))
    become_stranger()
    answer = {"reached": [*reached(told), *listening(told["ports"])]}
    sys.stdout.buffer.write(json.dumps(answer).encode())


def become_stranger() -> None:
    """No group, no capability, no way back. Raises OSError, or RuntimeError if the kernel says otherwise."""
    os.setgroups([])
    os.setresgid(STRANGER_UID, STRANGER_UID, STRANGER_UID)
    os.setresuid(STRANGER_UID, STRANGER_UID, STRANGER_UID)
    header = (ctypes.c_uint32 * 2)(_LINUX_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(ctypes.byref(header), ctypes.byref(nothing)) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    with open("/proc/thread-self/status", "rb") as file:
        status = dict(line.rstrip(b"\n").split(b":", 1) for line in file)
    users = {int(user) for user in (status[b"Uid"] + status[b"Gid"]).split()}
    powers = [int(status[name], 16) for name in (b"CapInh", b"CapPrm", b"CapEff", b"CapAmb")]
    if users != {STRANGER_UID} or status[b"Groups"].split() or any(powers):
        raise RuntimeError("still somebody else")


def reached(told: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Each interface of `told` that lets this process in, with what was possible."""
    for interface, what, attempt in _attempts(told):
        outcome = "possible"
        try:
            attempt()
        except OSError as error:
            if error.errno in _REFUSED or (what == "connecting" and error.errno in _UNANSWERED):
                continue
            outcome = f"{errno.errorcode.get(error.errno or 0, 'no answer')}, which is no refusal"
        yield interface, f"{what}: {outcome}"


def listening(ports: list[int]) -> Iterator[tuple[str, str]]:
    """Sockets on `ports` at whatever address of the pod: who cannot connect to one now may later."""
    for family in ("tcp", "tcp6"):
        with suppress(FileNotFoundError), open(f"/proc/self/net/{family}", "rb") as file:
            for line in file.readlines()[1:]:
                _, local, _, state, *_ = line.split()
                address, _, port = local.partition(b":")
                if state == _LISTENING and int(port, 16) in ports:
                    yield f"port {int(port, 16)}", f"{family} socket listening at {address.decode()}"


def _attempts(told: dict[str, Any]) -> Iterator[Attempt]:
    report_dir = told["report_dir"]
    entry = os.path.join(report_dir, f"toposeal-stranger-{os.getpid()}")
    yield report_dir, "making an entry", partial(_make_and_remove, entry)
    for name in _entries(report_dir):
        inblob = os.path.join(report_dir, name, "inblob")
        yield report_dir, f"writing to {name}", partial(_open, inblob, os.O_WRONLY)
    for path in told["devices"]:
        for what, flags in _OPENINGS.items():
            yield path, f"opening to {what}", partial(_open, path, flags)
    for path in told["registers"]:
        yield path, "opening to write", partial(_open, path, os.O_WRONLY)
    for path in told["sockets"]:
        yield path, "connecting", partial(_connect, socket.AF_UNIX, path)
    for port in told["ports"]:
        yield f"port {port}", "connecting", partial(_connect, socket.AF_INET, ("127.0.0.1", port))
        yield f"port {port}", "connecting", partial(_connect, socket.AF_INET6, ("::1", port))


def _entries(report_dir: str) -> list[str]:
    """Requests of others, if they can be seen: one that belongs to this user is an open door."""
    with suppress(OSError):
        return sorted(os.listdir(report_dir))[:_MAX_ENTRIES]
    return []


def _make_and_remove(path: str) -> None:
    os.mkdir(path)
    os.rmdir(path)


def _open(path: str, flags: int) -> None:
    os.close(os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK))


def _connect(family: socket.AddressFamily, address: Any) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(_CONNECT_S)
        connection.connect(address)


if __name__ == "__main__":
    main()
