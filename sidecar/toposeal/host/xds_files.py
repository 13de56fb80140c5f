"""The pod's directories, on a tmpfs, and the file that Envoy reads (F1, F2, F6). No key is in any."""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from toposeal.dataplane.layout import BOOTSTRAP_FILE, CLOSED_MARK, OPEN_MARK
from toposeal.errors import PodError, Reason
from toposeal.names import WORKLOAD_DIRECTORY

_TMPFS_MAGIC = 0x0102_1994  # linux/magic.h
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_MODE = 0o640
# Others may pass to the one directory that the application is given, and see nothing on the way.
_STATE_MODE = 0o751
_MODES = {"xds": 0o750, "sockets": 0o750, "envoy": 0o770, WORKLOAD_DIRECTORY: 0o755}
_STATFS_SIZE = 256  # struct statfs is 120 bytes on 64-bit Linux; its first word is the magic


class XdsDirectory:
    """The open directory that Envoy starts in."""

    def __init__(self, path: str, *, group: int) -> None:
        """Raises PodError(STATE_DIR) unless `path` is a directory of ours on a tmpfs."""
        self._path, self._group = path, group
        with _errors(path):
            self._descriptor = os.open(path, _DIRECTORY)
        try:
            _check_directory(self._descriptor, path)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        os.close(self._descriptor)

    def reset(self, bootstrap: bytes) -> None:
        """Make the directory hold exactly the bootstrap, marked as closed; without room, nothing. Only
        while no Envoy runs. Raises PodError(STATE_DIR).
        """
        with _errors(self._path):
            self._clear()
            try:
                self._create(BOOTSTRAP_FILE, bootstrap)
                self._create(CLOSED_MARK, b"")
            except BaseException:
                self._clear()
                raise

    def mark_open(self) -> None:
        """Raises PodError(STATE_DIR), but not for want of room: no file is made."""
        self._rename(CLOSED_MARK, OPEN_MARK)

    def mark_closed(self) -> None:
        """Also if it was never open. Raises PodError(STATE_DIR)."""
        if OPEN_MARK in os.listdir(self._descriptor):
            self._rename(OPEN_MARK, CLOSED_MARK)

    def _rename(self, name: str, other: str) -> None:
        with _errors(self._path):
            os.rename(name, other, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)

    def _clear(self) -> None:
        for name in os.listdir(self._descriptor):
            os.unlink(name, dir_fd=self._descriptor)

    def _create(self, name: str, data: bytes) -> None:
        """Readable for the group only once it is whole and belongs to the right one."""
        descriptor = os.open(name, _CREATE, 0o600, dir_fd=self._descriptor)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchown(descriptor, -1, self._group)
            os.fchmod(descriptor, _FILE_MODE)


def prepare(state_dir: str, *, owner: int, group: int) -> None:
    """Make the directories below `state_dir`, a tmpfs: `owner` writes, `group` (Envoy) reads, and may
    write in `envoy` alone, where its admin socket is; others see `workload`. Existing ones are repaired or
    refused (F2).

    Raises PodError(STATE_DIR), also for a directory that holds anything else: it is not ours to change.
    """
    _check_reachable(state_dir)
    _prepare_one(state_dir, _STATE_MODE, owner, group, frozenset(_MODES))
    for name, mode in _MODES.items():
        _prepare_one(f"{state_dir}/{name}", mode, owner, group, None)


def examine(state_dir: str, *, owner: int) -> bool:
    """Whether the directories are there as `prepare` leaves them; False where it has yet to make them, and
    can. Changes nothing.

    Raises PodError(STATE_DIR) for what `prepare` refuses, and for directories of `owner` with another mode.
    """
    _check_reachable(state_dir)
    if not os.path.lexists(state_dir):
        parent = os.path.dirname(state_dir)
        with _errors(parent), _opened(parent) as descriptor:
            _check_tmpfs(descriptor, parent)
        return False
    made = _examine_one(state_dir, _STATE_MODE, owner, frozenset(_MODES))
    return made and all(
        os.path.lexists(f"{state_dir}/{name}") and _examine_one(f"{state_dir}/{name}", mode, owner, None)
        for name, mode in _MODES.items()
    )


def _examine_one(path: str, mode: int, owner: int, names: frozenset[str] | None) -> bool:
    with _errors(path), _opened(path) as descriptor:
        _check_free(descriptor, path, owner, names)
        found = os.fstat(descriptor)
    if found.st_uid != owner:
        return False
    if stat.S_IMODE(found.st_mode) != mode:
        raise PodError.of(
            Reason.STATE_DIR, path, f"mode {stat.S_IMODE(found.st_mode):04o}", f"mode {mode:04o}"
        )
    return True


def _prepare_one(path: str, mode: int, owner: int, group: int, names: frozenset[str] | None) -> None:
    """`names` is all that may be in it already; None for anything."""
    with _errors(path):
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        with _opened(path) as descriptor:
            _check_free(descriptor, path, owner, names)
            # A mode is its owner's to change; root without CAP_FOWNER, as in a container, is nobody special.
            os.fchown(descriptor, os.geteuid(), group)
            os.fchmod(descriptor, mode)
            os.fchown(descriptor, owner, group)


def _check_free(descriptor: int, path: str, owner: int, names: frozenset[str] | None) -> None:
    """A directory on a tmpfs that is ours or will be, with nothing in it but `names`."""
    found = os.fstat(descriptor)
    if found.st_uid not in (owner, os.geteuid()):
        raise PodError.of(Reason.STATE_DIR, path, f"owner {found.st_uid}", f"owner {owner}")
    strange = sorted(set(os.listdir(descriptor)) - names) if names is not None else []
    if strange:
        raise PodError.of(Reason.STATE_DIR, path, strange[0], "a directory for the pod alone")
    _check_tmpfs(descriptor, path)


def _check_reachable(path: str) -> None:
    """Envoy asks for the full name of its directory and ends if it may not see the way there."""
    while (path := os.path.dirname(path)) != "/":
        with _errors(path):
            mode = stat.S_IMODE(os.stat(path).st_mode)
        if not mode & stat.S_IXOTH:
            raise PodError.of(Reason.STATE_DIR, path, f"mode {mode:04o}", "open for other users to pass")


def _check_directory(descriptor: int, path: str) -> None:
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid():
        raise PodError.of(Reason.STATE_DIR, path, f"owner {found.st_uid}", f"owner {os.geteuid()}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IRWXO):
        mode = f"mode {stat.S_IMODE(found.st_mode):04o}"
        raise PodError.of(Reason.STATE_DIR, path, mode, "mode 0750, writable for its owner alone")
    _check_tmpfs(descriptor, path)


def _check_tmpfs(descriptor: int, path: str) -> None:
    """Anything else than memory would leave what Envoy starts with where the host can change it (F1)."""
    buffer = ctypes.create_string_buffer(_STATFS_SIZE)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fstatfs(descriptor, buffer) != 0:
        raise OSError(ctypes.get_errno(), "fstatfs")
    magic = int.from_bytes(buffer.raw[: ctypes.sizeof(ctypes.c_long)], "little")
    if magic != _TMPFS_MAGIC:
        raise PodError.of(Reason.STATE_DIR, path, f"file system {magic:#x}", f"tmpfs, {_TMPFS_MAGIC:#x}")


@contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, _DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _errors(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PodError.of(Reason.STATE_DIR, path, error.strerror, "a tmpfs with room") from error
