"""A simulated TD's run-time registers, and the kernel's files of them, which `tsmfs` serves.

`/sys/devices/virtual/misc/tdx_guest/measurements` of Linux 6.16 (drivers/virt/coco/guest/tsm-mr.c): reads
of 48 bytes; a write to `rtmrN:sha384` extends the register and has to be 48 bytes at offset 0. What the
module extends, its quotes carry from then on. MOUNTPOINT/measurements/<pod>/ is a pod's directory. (sysfs
cuts a longer write at the file's size before the driver sees it; here it is refused, as the ABI says.)
"""

from __future__ import annotations

import errno
import hashlib
import threading
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NoReturn

from toposeal_lab.simtdx import TdxMeasurements

FOLDER = "measurements"
REGISTER_SIZE = 48
RTMR3 = "rtmr3:sha384"
_FIELDS = ("mrconfigid", "mrowner", "mrownerconfig", "mrtd:sha384")
_RTMRS: Mapping[str, int] = MappingProxyType({f"rtmr{index}:sha384": index for index in range(4)})
# RTMR[0] and RTMR[1] are the firmware's: the module takes extensions of all four, the kernel of 2 and 3 too.
MODES: Mapping[str, int] = MappingProxyType({**dict.fromkeys(_FIELDS, 0o444), **dict.fromkeys(_RTMRS, 420)})


class Registers:
    """What the TDX module measures of one TD: set at its launch, RTMRs extended since. Thread-safe."""

    def __init__(self, launched: TdxMeasurements) -> None:
        self._now = launched
        self._lock = threading.Lock()

    def now(self) -> TdxMeasurements:
        """As a quote made at this moment has them."""
        with self._lock:
            return self._now

    def extend(self, index: int, digest: bytes) -> None:
        """TDG.MR.RTMR.EXTEND: RTMR[index] becomes SHA-384 of itself and `digest` (48 bytes)."""
        with self._lock:
            values = list(self._now.rtmr)
            values[index] = hashlib.sha384(values[index] + digest).digest()
            first, second, third, fourth = values
            self._now = replace(self._now, rtmr=(first, second, third, fourth))


class MeasurementFiles:
    """One pod's files: read whole, extended by whole writes. It names them as an entry's provider does."""

    attributes = frozenset(MODES)

    def __init__(self, registers: Registers) -> None:
        self._registers = registers
        self.provider = self

    def read(self, name: str) -> bytes:
        """The 48 bytes of a file."""
        found = self._registers.now()
        if name in _RTMRS:
            return found.rtmr[_RTMRS[name]]
        value: bytes = getattr(found, name.removesuffix(":sha384"))
        return value

    def write(self, name: str, data: bytes, offset: int) -> None:
        """Raises OSError(EINVAL) for anything but one whole digest."""
        if offset or len(data) != REGISTER_SIZE:
            raise OSError(errno.EINVAL, "an extension is one write of 48 bytes at offset 0")
        self._registers.extend(_RTMRS[name], data)


class MeasurementFolder:
    """Every pod's files; nobody makes or removes a directory."""

    def __init__(self, pods: Mapping[str, Registers]) -> None:
        self.entries = {name: MeasurementFiles(registers) for name, registers in pods.items()}

    def mkdir(self, name: str) -> NoReturn:
        raise OSError(errno.EPERM, name)

    def rmdir(self, name: str) -> NoReturn:
        raise OSError(errno.EPERM, name)
