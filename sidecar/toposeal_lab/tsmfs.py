"""A FUSE file system with the kernel's configfs-tsm semantics; MOUNTPOINT/<pod>/ is a pod's `report/`, and
MOUNTPOINT/measurements/<pod>/ holds the run-time registers of its TD.

Run as `python -m toposeal_lab.tsmfs --config FILE MOUNTPOINT`, as root; FILE is what TsmConfig.dump writes.
It serves until it is unmounted or terminated. What FUSE cannot show as the kernel does: a write of no
bytes never arrives, and lseek succeeds.
"""

from __future__ import annotations

import argparse
import errno
import itertools
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import mfusepy  # type: ignore[import-untyped]

from toposeal_lab.measurements_fs import FOLDER, MODES, REGISTER_SIZE, MeasurementFiles, MeasurementFolder
from toposeal_lab.tsm import MAX_INBLOB, Entry, ReportDirectory
from toposeal_lab.tsm_config import TsmConfig
from toposeal_lab.tsm_providers import ATTRIBUTES

_ENDED_BY_SIGNAL = 8  # libfuse's exit status after SIGTERM


@dataclass
class Handle:
    """One open file: an inblob being gathered, or the snapshot that its first read took."""

    entry: Entry | MeasurementFiles
    attribute: str
    gathered: bytearray | None = None
    snapshot: bytes | None = None


class TsmFileSystem(mfusepy.Operations):  # type: ignore[misc]
    """Paths are /pod, /pod/entry and /pod/entry/attribute, and /measurements/pod/register; anything else
    does not exist."""

    use_ns = True

    def __init__(self, directories: Mapping[str, ReportDirectory]) -> None:
        registers = {name: directory.registers for name, directory in directories.items()}
        measured = MeasurementFolder({name: each for name, each in registers.items() if each is not None})
        self._directories: Mapping[str, ReportDirectory | MeasurementFolder] = {
            **directories,
            FOLDER: measured,
        }
        self._handles: dict[int, Handle] = {}
        self._numbers = itertools.count(1)
        self._changed: dict[str, dict[str, int]] = {}  # path -> what chown and chmod set
        self._born = time.time_ns()

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        parts = _parts(path)
        times = {"st_atime": self._born, "st_mtime": self._born, "st_ctime": self._born}
        return {**times, "st_uid": 0, "st_gid": 0, **self._shape(parts), **self._changed.get(path, {})}

    def _shape(self, parts: list[str]) -> dict[str, int]:
        if len(parts) == 3:
            self._entry(parts, attribute=True)
            mode, size = _file(parts[2])
            return {"st_mode": stat.S_IFREG | mode, "st_nlink": 1, "st_size": size}
        if len(parts) == 2:
            self._entry(parts)
        elif parts:
            self._directory(parts)
        return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2, "st_size": 0}

    def readdir(self, path: str, fh: int) -> list[str]:
        parts = _parts(path)
        if not parts:
            names = list(self._directories)
        elif len(parts) == 1:
            names = list(self._directory(parts).entries)
        else:
            names = sorted(self._entry(parts).provider.attributes)
        return [".", "..", *names]

    def mkdir(self, path: str, mode: int) -> int:
        parts = _parts(path)
        if len(parts) != 2:
            _refuse(errno.EPERM)
        self._directory(parts).mkdir(parts[1])
        return 0

    def rmdir(self, path: str) -> int:
        parts = _parts(path)
        if len(parts) != 2:
            _refuse(errno.EPERM)
        self._directory(parts).rmdir(parts[1])
        for known in [known for known in self._changed if f"{known}/".startswith(f"{path}/")]:
            del self._changed[known]
        return 0

    def open(self, path: str, flags: int) -> int:
        parts = _parts(path)
        entry = self._entry(parts, attribute=True)
        mode, access = _file(parts[2])[0], flags & os.O_ACCMODE
        reads, writes = access != os.O_WRONLY, access != os.O_RDONLY
        if (reads and not mode & 0o444) or (writes and not mode & 0o222):
            _refuse(errno.EACCES)  # for root too
        number = next(self._numbers)
        self._handles[number] = Handle(entry, parts[2])
        return number

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        handle = self._handles[fh]
        if handle.snapshot is None or isinstance(handle.entry, MeasurementFiles):
            handle.snapshot = handle.entry.read(handle.attribute)
        return handle.snapshot[offset : offset + size]

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        handle = self._handles[fh]
        if isinstance(handle.entry, MeasurementFiles):
            handle.entry.write(handle.attribute, data, offset)
            return len(data)
        if handle.attribute != "inblob":
            handle.entry.write_privlevel(data)
            return len(data)
        handle.gathered = handle.gathered if handle.gathered is not None else bytearray()
        if offset + len(data) > MAX_INBLOB:
            _refuse(errno.EFBIG)
        handle.gathered[offset : offset + len(data)] = data
        return len(data)

    def flush(self, path: str, fh: int) -> int:
        """close(2), seen before it returns to its caller, which release is not."""
        handle = self._handles[fh]
        if handle.gathered is not None and isinstance(handle.entry, Entry):
            handle.entry.commit(bytes(handle.gathered))
            handle.gathered = None
        return 0

    def release(self, path: str, fh: int) -> int:
        del self._handles[fh]
        return 0

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        wanted = {"st_uid": uid, "st_gid": gid}
        known = self._changed.setdefault(path, {})
        known.update({name: value for name, value in wanted.items() if value != -1})
        return 0

    def chmod(self, path: str, mode: int) -> int:
        kind = stat.S_IFMT(self.getattr(path)["st_mode"])
        self._changed.setdefault(path, {})["st_mode"] = kind | stat.S_IMODE(mode)
        return 0

    def create(self, path: str, mode: int, fi: object = None) -> int:
        _refuse(errno.EACCES)

    def unlink(self, path: str) -> int:
        _refuse(errno.EPERM)

    def rename(self, old: str, new: str) -> int:
        _refuse(errno.EPERM)

    def symlink(self, target: str, source: str) -> int:
        _refuse(errno.EPERM)

    def link(self, target: str, source: str) -> int:
        _refuse(errno.EPERM)

    def _directory(self, parts: list[str]) -> ReportDirectory | MeasurementFolder:
        found = self._directories.get(parts[0])
        return found if found is not None else _refuse(errno.ENOENT)

    def _entry(self, parts: list[str], attribute: bool = False) -> Entry | MeasurementFiles:
        found = self._directory(parts).entries.get(parts[1])
        if found is None or (attribute and parts[2] not in found.provider.attributes):
            _refuse(errno.ENOENT)
        return found


def serve(directories: Mapping[str, ReportDirectory], mountpoint: Path) -> None:
    """Serve in the foreground until unmounted. The kernel checks permissions; nothing is cached."""
    try:
        mfusepy.FUSE(
            TsmFileSystem(directories),
            str(mountpoint),
            foreground=True,
            nothreads=False,
            max_threads=16,
            allow_other=True,
            default_permissions=True,
            direct_io=True,
            attr_timeout=0,
            entry_timeout=0,
            negative_timeout=0,
            fsname="tsmfs",
        )
    except RuntimeError as ended:
        if ended.args != (_ENDED_BY_SIGNAL,):
            raise


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m toposeal_lab.tsmfs", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON made by TsmConfig.dump")
    parser.add_argument("mountpoint", type=Path)
    arguments = parser.parse_args()
    serve(TsmConfig.load(arguments.config.read_bytes()).directories(), arguments.mountpoint)


def _file(name: str) -> tuple[int, int]:
    """Mode and apparent size."""
    if name in MODES:
        return MODES[name], REGISTER_SIZE
    attribute = ATTRIBUTES[name]
    return attribute.mode, 0 if attribute.binary else 4096


def _parts(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part]
    if len(parts) > 3:
        _refuse(errno.ENOENT)
    return parts


def _refuse(number: int) -> NoReturn:
    raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    main()
