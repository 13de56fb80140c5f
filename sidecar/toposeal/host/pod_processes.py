"""Other processes of the pod and what they hold, as far as /proc lets this process look.

Linux shows descriptors and mounts of another process to who may trace it (proc(5), ptrace(2)): in a pod
with one process namespace for all containers those of the same user, or all of them to root. What cannot be
looked into is passed over; nothing here can prove an absence.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

_DAC_OVERRIDE = 1 << 1
_MAX_PROCESSES = 65_536


@dataclass(frozen=True)
class Place:
    """A directory, device or socket that only the daemon may use; `found` is None where it has none."""

    path: str
    found: os.stat_result | None

    @classmethod
    def of(cls, path: str) -> Place:
        """The place as this process sees it now."""
        with suppress(OSError):
            return cls(os.path.realpath(path), os.stat(path))
        return cls(path, None)

    def is_of(self, other: os.stat_result, link: str) -> bool:
        """Whether an open file is this place, or lies in it: by device number, by inode, or by name where
        this process has nothing to compare with."""
        if self.found is None:
            return link == self.path or link.startswith(f"{self.path}/")
        if stat.S_ISCHR(self.found.st_mode):
            return stat.S_ISCHR(other.st_mode) and other.st_rdev == self.found.st_rdev
        if other.st_dev != self.found.st_dev:
            return False
        return other.st_ino == self.found.st_ino or link.startswith(f"{self.path}/")


@dataclass(frozen=True)
class Holder:
    """Another process, and how it has a place."""

    pid: int
    uid: int
    path: str
    how: str


@dataclass(frozen=True)
class Credentials:
    """What the kernel judges a process by, as far as modes go."""

    uid: int  # of the file system
    gids: frozenset[int]
    overrides: bool  # CAP_DAC_OVERRIDE

    def may_use(self, found: os.stat_result) -> bool:
        """Whether the mode lets it write, which making an entry and connecting need too."""
        if self.overrides:
            return True
        if self.uid == found.st_uid:
            return bool(found.st_mode & stat.S_IWUSR)
        group = found.st_gid in self.gids
        return bool(found.st_mode & (stat.S_IWGRP if group else stat.S_IWOTH))


def holders(places: Sequence[Place]) -> Iterator[Holder]:
    """Every visible other process that has one of `places` open, or can use it in mounts of its own."""
    for pid in _others():
        with suppress(OSError, ValueError, KeyError):  # it has ended, or may not be looked into
            who = _credentials(pid)
            for path in _opened(pid, places):
                yield Holder(pid, who.uid, path, "has it open")
            if _is_another_container(pid):
                for place in places:
                    if _can_use(pid, who, place):
                        yield Holder(pid, who.uid, place.path, "has it in its mounts")


def _others() -> list[int]:
    pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    return [pid for pid in pids[:_MAX_PROCESSES] if pid != os.getpid()]


def _credentials(pid: int) -> Credentials:
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        status = dict(line.rstrip("\n").split(":", 1) for line in file if ":" in line)
    gids = [*status["Gid"].split(), *status["Groups"].split()]
    return Credentials(
        uid=int(status["Uid"].split()[-1]),
        gids=frozenset(int(gid) for gid in gids),
        overrides=bool(int(status["CapEff"], 16) & _DAC_OVERRIDE),
    )


def _opened(pid: int, places: Sequence[Place]) -> list[str]:
    """Each place once, whatever the number of descriptors."""
    folder = f"/proc/{pid}/fd"
    opened: set[str] = set()
    for name in os.listdir(folder):
        with suppress(OSError):
            found, link = os.stat(f"{folder}/{name}"), os.readlink(f"{folder}/{name}")
            opened |= {place.path for place in places if place.is_of(found, link)}
    return sorted(opened)


def _is_another_container(pid: int) -> bool:
    """In this pod's network, and with mounts of its own."""

    def same(namespace: str) -> bool:
        theirs, ours = f"/proc/{pid}/ns/{namespace}", f"/proc/self/ns/{namespace}"
        return os.readlink(theirs) == os.readlink(ours)

    return same("net") and not same("mnt")


def _can_use(pid: int, who: Credentials, place: Place) -> bool:
    """Whether the place stands at the same path under its root, and its mode lets it in."""
    try:
        found = os.stat(f"/proc/{pid}/root{place.path}")
    except OSError:
        return False
    return place.is_of(found, place.path) and who.may_use(found)
