"""Report directories behind a real FUSE mount, served by a child of this process."""

from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from toposeal_lab.tsm import ReportDirectory
from toposeal_lab.tsmfs import serve


@contextmanager
def served(directories: Mapping[str, ReportDirectory]) -> Iterator[Path]:
    """Mount `directories` while the block runs, reachable for every user. Skips without FUSE."""
    require_fuse()
    with tempfile.TemporaryDirectory(prefix="toposeal-tsm-") as folder:
        os.chmod(folder, 0o755)
        mountpoint = Path(folder) / "mount"
        mountpoint.mkdir()
        with _serving(directories, mountpoint):
            yield mountpoint


def require_fuse() -> None:
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        pytest.skip("mounting a FUSE file system needs root and /dev/fuse")


@contextmanager
def _serving(directories: Mapping[str, ReportDirectory], mountpoint: Path) -> Iterator[None]:
    server = multiprocessing.get_context("fork").Process(target=_serve, args=(directories, mountpoint))
    server.start()
    try:
        end = time.monotonic() + 10
        while not os.path.ismount(mountpoint):
            assert server.is_alive() and time.monotonic() < end, "the file system did not come up"
            time.sleep(0.005)
        yield
    finally:
        server.terminate()
        server.join(2)
        if server.is_alive():
            server.kill()
            server.join()
        if os.path.ismount(mountpoint):
            subprocess.run(["umount", "--lazy", str(mountpoint)], check=True)


def _serve(directories: Mapping[str, ReportDirectory], mountpoint: Path) -> None:
    """Never collect what was there before the fork: a gRPC server among it waits for threads that are not
    here."""
    gc.freeze()
    serve(directories, mountpoint)


def read(path: Path) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()


def write(path: Path, data: bytes) -> None:
    with open(path, "wb", buffering=0) as file:
        file.write(data)
