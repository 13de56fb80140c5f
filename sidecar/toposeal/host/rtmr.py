"""RTMR[3] through the kernel's measurement files: read, and extended once with this boot's instance.

Linux 6.16 or later, ABI sysfs-devices-virtual-misc-tdx_guest: a file of 48 bytes; a write extends, and has
to be one of exactly 48 bytes at offset 0.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from toposeal.errors import PodError, Reason
from toposeal.evidence import rtmr
from toposeal.limits import DIGEST_SIZE

MEASUREMENTS = "/sys/devices/virtual/misc/tdx_guest/measurements"
FILE = "rtmr3:sha384"
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO})


class Rtmr3:
    """The register of this guest. `directory` holds the kernel's measurement files."""

    def __init__(self, directory: str = MEASUREMENTS) -> None:
        self._path = os.path.join(directory, FILE)
        self._extended = False

    def read(self) -> bytes:
        """The register, 48 bytes.

        Raises PodError: RTMR_ABSENT where there is no such file (an older kernel, or no TDX), so that a
        caller whose topology asks for no event can go on; RTMR_EXTEND for any other failure.
        """
        with self._open(os.O_RDONLY) as file:
            value = b""
            while piece := os.read(file, DIGEST_SIZE + 1 - len(value)):
                value += piece
        if len(value) != DIGEST_SIZE:
            raise self._refusal(f"{len(value)} bytes", f"{DIGEST_SIZE} bytes")
        return value

    def extend_once(self, iid: bytes) -> bytes:
        """Extend the register with the event of the instance `iid` (48 bytes) and return it, 48 bytes.

        Once for each object; verifiers refuse a second such event. Whatever else moved the register
        meanwhile is a refusal: nobody could tell afterwards what the register stands for. Raises
        PodError as `read` does.
        """
        event = rtmr.instance_event(iid)
        if self._extended:
            raise self._refusal("a second extension", "one in each boot")
        before = self.read()
        self._extended = True
        self._write(event)
        after, expected = self.read(), rtmr.extend(before, event)
        if after != expected:
            raise self._refusal(after.hex(), f"{expected.hex()} after the extension")
        return after

    def _write(self, event: bytes) -> None:
        with self._open(os.O_WRONLY) as file:
            written = os.write(file, event)
        if written != len(event):
            raise self._refusal(f"{written} bytes written", len(event))

    @contextmanager
    def _open(self, flags: int) -> Iterator[int]:
        """A descriptor; every OSError inside, that of close included, becomes a PodError."""
        try:
            file = os.open(self._path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                yield file
            finally:
                os.close(file)
        except OSError as error:
            reason = Reason.RTMR_ABSENT if error.errno in _ABSENT else Reason.RTMR_EXTEND
            found = f"{errno.errorcode.get(error.errno or 0)}: {error.strerror}"
            raise PodError.of(reason, self._path, found, "the register's file") from error

    def _refusal(self, found: object, expected: object) -> PodError:
        return PodError.of(Reason.RTMR_EXTEND, self._path, found, expected)
