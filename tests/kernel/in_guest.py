"""The conformance script inside the virtual machine: a scenario is a load of the module tsm_soft."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

from kernel.conformance import SCENARIOS, SNP_OFFSET, TDX_OFFSET, run

MROWNER_OFFSET = 280
_REPORT = "/sys/kernel/config/tsm/report"
_BUSYBOX = "/bin/busybox"
_DEVICE = Path("/dev/tsm_soft")
_TEMPLATES = Path("/templates")


class Kernel:
    """A real configfs: one report directory, one driver at a time."""

    def directory(self, name: str) -> str:
        for entry in os.listdir(_REPORT):
            os.rmdir(f"{_REPORT}/{entry}")
        self.unload()
        if failed := self.load(name):
            raise OSError(failed, os.strerror(failed))
        return _REPORT

    def unload(self) -> int | None:
        return _module("rmmod", "tsm_soft")

    def load(self, name: str) -> int | None:
        chosen = SCENARIOS[name]
        blob = (_TEMPLATES / chosen.blob).read_bytes()
        table = (_TEMPLATES / "table").read_bytes() if chosen.sev else b""
        options = {
            "provider": chosen.provider,
            "sev": int(chosen.sev),
            "floor_level": chosen.floor,
            "offset": _offset(chosen.blob),
            "aux": len(table),
            "fail": getattr(errno, chosen.fail, 0),
            "times": chosen.times,
            "delay_ms": chosen.delay_ms,
        }
        words = [f"{option}={value}" for option, value in options.items()]
        failed = _module("insmod", "/modules/tsm_soft.ko", *words)
        if not failed:
            with open(_DEVICE, "wb", buffering=0) as device:
                device.write(blob + table)
        return failed


def _offset(blob: str) -> int:
    """Where the driver puts the report data; in `foreign` that is MROWNER."""
    return {"snp": SNP_OFFSET, "foreign": MROWNER_OFFSET}.get(blob, TDX_OFFSET)


def _module(*words: str) -> int:
    """What the kernel says to insmod or rmmod: 0 or an errno."""
    done = subprocess.run([_BUSYBOX, *words], capture_output=True, text=True, check=False)
    if not done.returncode:
        return 0
    return next((number for number in errno.errorcode if os.strerror(number) in done.stderr), errno.EPERM)


if __name__ == "__main__":
    run(Kernel())
