"""The conformance script on the lab's file system: `python -m kernel.in_lab MOUNT MODULES`.

A scenario is a pod of MOUNT. MODULES gets the files of every Python module and shared library that the
script has needed, one a line.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import kernel.in_guest  # noqa: F401 - what it needs is needed too
from kernel.conformance import run


class Lab:
    """Every scenario has its report directory from the start; drivers neither come nor go."""

    def __init__(self, mount: str) -> None:
        self._mount = mount

    def directory(self, name: str) -> str:
        report = f"{self._mount}/{name}"
        for entry in os.listdir(report):
            os.rmdir(f"{report}/{entry}")
        return report

    def unload(self) -> int | None:
        return None

    def load(self, name: str) -> int | None:
        return None


def needed() -> set[str]:
    """Sources of modules with their compiled form, and everything executable that is mapped."""
    found = set()
    for module in list(sys.modules.values()):
        found |= {getattr(module, "__file__", None), getattr(module, "__cached__", None)}
    mapped = Path("/proc/self/maps").read_text().splitlines()
    found |= {line.split(maxsplit=5)[5] for line in mapped if " r-xp " in line and "/" in line}
    return {path for path in found if path and os.path.isfile(path)}


if __name__ == "__main__":
    run(Lab(sys.argv[1]))
    Path(sys.argv[2]).write_text("\n".join(sorted(needed())))
