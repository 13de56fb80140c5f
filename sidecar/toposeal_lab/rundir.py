"""The lab's directory: a small tmpfs of its own under /run, gone when the run ends."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from toposeal.errors import Reason, UsageError

PARENT = Path("/run")
_NAME = re.compile(r"toposeal-lab-(\d+)-[0-9a-f]{6}")
_OPTIONS = "size=256m,mode=755,nosuid,nodev"


@contextmanager
def run_directory() -> Iterator[Path]:
    """An empty tmpfs while the block runs; removes what killed runs left behind. Raises UsageError."""
    _sweep()
    path = PARENT / f"toposeal-lab-{os.getpid()}-{secrets.token_hex(3)}"
    path.mkdir(mode=0o755)
    try:
        _mount(path)
        yield path
    finally:
        _remove(path)


def _mount(path: Path) -> None:
    command = ["mount", "-t", "tmpfs", "-o", _OPTIONS, "toposeal-lab", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise UsageError.of(Reason.USAGE, "tmpfs", done.stderr.strip(), "a system where root can mount one")


def _remove(path: Path) -> None:
    """Innermost mount first, and lazily, since a killed reader may linger."""
    inside = [point for point in _mount_points() if point == str(path) or point.startswith(f"{path}/")]
    for point in sorted(inside, reverse=True):
        subprocess.run(["umount", "--lazy", point], check=False)  # noqa: S603, S607
    with suppress(OSError):  # another run may sweep at the same time
        path.rmdir()


def _sweep() -> None:
    for path in PARENT.iterdir():
        match = _NAME.fullmatch(path.name)
        if match and not Path("/proc", match[1]).exists():
            _remove(path)


def _mount_points() -> list[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line.split(" ")[1] for line in lines]
