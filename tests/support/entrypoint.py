"""toposeal-wait as its own script builds it, where every user can run it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "images" / "wait" / "wait.c"
COMPILES = any(shutil.which(name) for name in ("musl-gcc", "gcc"))


@contextmanager
def built() -> Iterator[str]:
    """The path of the program."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        program = f"{directory}/toposeal-wait"
        subprocess.run([str(ROOT / "images" / "wait" / "build"), program], check=True)
        yield program
