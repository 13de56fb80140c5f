"""Start and stop the file system of `tsmfs` as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from toposeal.errors import Reason, UsageError
from toposeal_lab.tsm_config import TsmConfig

_START_SECONDS = 60.0


@contextmanager
def mounted(config: TsmConfig, folder: Path) -> Iterator[Path]:
    """Serve `config` at `folder`/tsm while the block runs; the configuration is beside it, 0600.

    Needs root and /dev/fuse. The server ends with the calling thread even if that is killed.
    Raises UsageError when it does not come up.
    """
    mountpoint, state, log = folder / "tsm", folder / "tsm.json", folder / "tsm.log"
    mountpoint.mkdir()
    state.touch(mode=0o600)
    state.write_bytes(config.dump())
    command = [sys.executable, "-m", "toposeal_lab.tsmfs", "--config", str(state), str(mountpoint)]
    with log.open("wb") as stderr:  # libfuse has a good deal to say
        server = subprocess.Popen(  # noqa: S603
            ["/usr/bin/setpriv", "--pdeathsig", "TERM", *command], stdin=subprocess.DEVNULL, stderr=stderr
        )
    try:
        _wait(server, mountpoint, log)
        yield mountpoint
    finally:
        _stop(server, mountpoint)


def _wait(server: subprocess.Popen[bytes], mountpoint: Path, log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while not os.path.ismount(mountpoint):
        if server.poll() is not None or time.monotonic() > end:
            said = log.read_text(errors="replace").strip() or "no mount"
            raise UsageError.of(Reason.USAGE, "tsmfs", said, "root, /dev/fuse and libfuse3")
        time.sleep(0.01)


def _stop(server: subprocess.Popen[bytes], mountpoint: Path) -> None:
    """SIGTERM makes the server unmount; a server that hangs is unmounted lazily and killed."""
    server.terminate()
    try:
        server.wait(2)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    if os.path.ismount(mountpoint):
        subprocess.run(["/usr/bin/umount", "--lazy", str(mountpoint)], check=False)  # noqa: S603
