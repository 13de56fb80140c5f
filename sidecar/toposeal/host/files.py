"""Files as one read and one write: what is checked is what is used, and nothing is clobbered."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from toposeal.errors import Reason, UsageError, printable

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_FOLDER = 0o755


def read_once(path: str, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes, read once from one descriptor (T10).

    Raises UsageError naming `path`: no file, a symbolic link, FIFO, directory or device, more than
    `limit` bytes (TOO_LARGE), or a file that changes while it is read. Links in parent directories
    are followed.
    """
    with _opened(path) as (descriptor, status):
        return _read(path, descriptor, status, limit)


def read_secret(path: str, limit: int) -> bytes:
    """`read_once` of a file that nobody but its owner may read or write, and that is ours (C1)."""
    with _opened(path) as (descriptor, status):
        if status.st_mode & 0o077:
            found = f"mode {stat.S_IMODE(status.st_mode):04o}"
            raise UsageError.of(Reason.USAGE, printable(path), found, "a key file of mode 0600 or 0400")
        if status.st_uid not in (0, os.geteuid()):
            raise UsageError.of(
                Reason.USAGE, printable(path), f"owner {status.st_uid}", "a key file of this user"
            )
        return _read(path, descriptor, status, limit)


def write_new(path: str, data: bytes, mode: int = 0o600) -> None:
    """Create `path` with exactly `data` and `mode`, whole or not at all; never replace anything (C3).

    Raises UsageError naming `path` when anything, a dangling link included, is there already.
    """
    with _errors(path, "a new file in a directory that can be written"):
        temporary = _write_beside(path, data, mode)
        try:
            os.link(temporary, path, follow_symlinks=False)
        finally:
            os.unlink(temporary)


def write_folder(path: str, files: Mapping[str, bytes], mode: int = 0o600) -> None:
    """Create the folder `path` with exactly `files`, by their names, which may have folders; whole or not at
    all; never replace anything (C3).

    Raises UsageError naming `path` when anything is there already.
    """
    with _errors(path, "a new folder in a directory that can be written"):
        temporary = f"{path.rstrip('/')}.new-{secrets.token_hex(8)}"
        os.mkdir(temporary, 0o700)
        try:
            for name, data in files.items():
                place = os.path.join(temporary, name)
                os.makedirs(os.path.dirname(place), _FOLDER, exist_ok=True)
                _write(place, data, mode)
            os.mkdir(path, 0o700)  # alone refuses an empty folder too, which the next line would replace
            os.rename(temporary, path)
            os.chmod(path, _FOLDER)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def write_atomic(path: str, data: bytes, mode: int = 0o600) -> None:
    """Replace `path` by a new file of `data` and `mode`: a reader sees the old or the new, whole.

    Raises UsageError naming `path`; then the old file is as it was.
    """
    with _errors(path, "a file in a directory that can be written"):
        temporary = _write_beside(path, data, mode)
        try:
            os.rename(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise


@contextmanager
def _opened(path: str) -> Iterator[tuple[int, os.stat_result]]:
    with _errors(path, "a regular file that can be read, and no symbolic link"):
        descriptor = os.open(path, _READ)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError.of(Reason.USAGE, printable(path), "no regular file", "a regular file")
        yield descriptor, status
    finally:
        os.close(descriptor)


def _read(path: str, descriptor: int, status: os.stat_result, limit: int) -> bytes:
    if status.st_size > limit:
        raise UsageError.of(Reason.TOO_LARGE, printable(path), f"{status.st_size} bytes", f"at most {limit}")
    with _errors(path, "a file that can be read"):
        data = b""
        while chunk := os.read(descriptor, limit + 1 - len(data)):
            data += chunk
        after = os.fstat(descriptor)
    if len(data) != status.st_size or (after.st_size, after.st_mtime_ns) != (
        status.st_size,
        status.st_mtime_ns,
    ):
        raise UsageError.of(
            Reason.USAGE, printable(path), "a file that changes while it is read", "one that does not"
        )
    return data


def _write_beside(path: str, data: bytes, mode: int) -> str:
    temporary = f"{path}.new-{secrets.token_hex(8)}"
    _write(temporary, data, mode)
    return temporary


def _write(path: str, data: bytes, mode: int) -> None:
    """A new file; none, where that fails."""
    descriptor = os.open(path, _CREATE, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
    except BaseException:
        os.unlink(path)
        raise


@contextmanager
def _errors(path: str, expected: str) -> Iterator[None]:
    """OSError, and the ValueError of a NUL in `path`, as UsageError."""
    try:
        yield
    except (OSError, ValueError) as error:
        found = error.strerror if isinstance(error, OSError) else error
        raise UsageError.of(Reason.USAGE, printable(path), found, expected) from error
