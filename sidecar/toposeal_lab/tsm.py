"""The kernel's configfs-tsm report semantics in memory; `tsmfs` puts a file system in front of it.

As measured on Linux 6.12 (drivers/virt/coco/tsm.c): inblob is committed by close, not by write, and
what the commit thinks of it is thrown away; a read of a blob makes the report, or serves the one of
this generation again. Errors are OSErrors with the kernel's numbers.
"""

from __future__ import annotations

import errno
import threading
import time

from toposeal_lab.measurements_fs import Registers
from toposeal_lab.tsm_faults import HANG_SECONDS, THROTTLE_SECONDS, Faults
from toposeal_lab.tsm_providers import Blobs, Provider, TdxProvider

MAX_INBLOB = 64
MAX_PRIVLEVEL = 3
MAX_NAME = 255
LEFTOVER = "toposeal-0123456789abcdef"  # as a killed reader leaves it
MAX_BLOB = 32 << 10
CLOUD_QUOTE_SIZE = 8000  # what one cloud's hosts pad every quote to
DICE_SIZE = 9000
_JUMP = 5
_TEXT_FAULTS = {"foreign": b"arm_cca_guest\n", "garbage": b"\xff\xfe\0\n", "empty": b"\n"}


class Entry:
    """One report directory: its write counter, its inblob, and the report of the last read."""

    def __init__(self, provider: Provider, faults: Faults) -> None:
        self.provider = provider
        self._faults = faults
        self._lock = threading.RLock()
        self._generation = 0
        self._inblob = b""
        self._privlevel = 0
        self._blobs: tuple[int, Blobs] | None = None
        self.removed = False

    def read(self, attribute: str) -> bytes:
        """The content of a readable attribute. Raises OSError."""
        self._expect_there()
        with self._lock:
            if attribute in ("outblob", "auxblob"):
                return self._blob(attribute)
            return self._text(attribute)

    def write_privlevel(self, text: bytes) -> None:
        """Takes effect at once, unlike inblob. Raises OSError(EINVAL) outside the floor to 3."""
        try:
            level = int(text.strip() or b"x", 0)
        except ValueError:
            level = -1
        if not self.provider.privlevel_floor <= level <= MAX_PRIVLEVEL:
            raise OSError(errno.EINVAL, "no such privilege level")
        with self._lock:
            self._privlevel = level
            self._generation += 1

    def commit(self, inblob: bytes) -> None:
        """Close of an inblob that was written to, however much of it was taken."""
        effect = self._faults.take("commit")
        if effect == "swallow":
            return
        with self._lock:
            self._store(inblob)
            if effect == "race":
                self._store(_foreign(inblob))

    def _expect_there(self) -> None:
        """What is open of an entry that rmdir took can only be closed."""
        if self.removed:
            raise OSError(errno.ENOENT, "the entry is removed")

    def _store(self, inblob: bytes) -> None:
        self._inblob = inblob
        self._generation += 1

    def _text(self, attribute: str) -> bytes:
        if attribute == "privlevel_floor":
            return b"%d\n" % self.provider.privlevel_floor
        effect = self._faults.take(attribute)
        if effect in _TEXT_FAULTS:
            return _TEXT_FAULTS[effect]
        text = str(self._generation) if attribute == "generation" else self.provider.name
        if effect == "jump":
            self._generation += _JUMP
        return f"{text}\n".encode("ascii")

    def _blob(self, attribute: str) -> bytes:
        if not self._generation:
            raise OSError(errno.EINVAL, "inblob was never written")
        effect = self._faults.take(attribute)
        if effect in _DELAYS:
            time.sleep(_DELAYS[effect])
        if effect == "race":
            self._store(_foreign(self._inblob))
        blobs = self._report(effect)
        return _damaged(effect, blobs.outblob if attribute == "outblob" else blobs.auxblob)

    def _report(self, effect: str | None) -> Blobs:
        """The blobs of this generation, made when first asked for."""
        if self._blobs is None or self._blobs[0] != self._generation or effect is not None:
            self._faults.driver(effect)
            inblob = _foreign(self._inblob) if effect == "foreign" else self._inblob
            if not inblob:
                raise OSError(errno.EINVAL, "inblob is empty")
            self._blobs = (self._generation, self.provider.report(inblob, self._privlevel))
        return self._blobs[1]


_DELAYS = {"hang": HANG_SECONDS, "throttle": THROTTLE_SECONDS}


def _damaged(effect: str | None, blob: bytes) -> bytes:
    """The blob as the host or its driver hands it over."""
    changed = {
        "empty": b"",
        "garbage": b"\xff" * 600,
        "short": blob[: len(blob) // 2],
        "oversized": blob.ljust(MAX_BLOB + 1, b"\0"),
        "pad": blob.ljust(CLOUD_QUOTE_SIZE, b"\0"),
        "dice": blob.ljust(DICE_SIZE, b"\1"),
    }
    return changed.get(effect or "", blob)


class ReportDirectory:
    """One pod's `report/`: mkdir makes an entry, rmdir removes it, nothing else is possible."""

    def __init__(self, provider: Provider | None, faults: Faults) -> None:
        self._provider = provider
        self._faults = faults
        self.entries: dict[str, Entry] = {}

    @property
    def registers(self) -> Registers | None:
        """Those of the pod's TD; another TEE has none."""
        return self._provider.registers if isinstance(self._provider, TdxProvider) else None

    def register(self, provider: Provider | None) -> None:
        """Another driver, or none. Raises OSError(EBUSY) for one that comes while entries are left."""
        if provider is not None and self.entries:
            raise OSError(errno.EBUSY, "configfs/tsm/report not empty")
        self._provider = provider

    def mkdir(self, name: str) -> None:
        effect = self._faults.take("mkdir")
        if self._provider is None:
            raise OSError(errno.ENXIO, "no provider is registered")
        if len(name) > MAX_NAME:
            raise OSError(errno.ENAMETOOLONG, name)
        if name in self.entries:
            raise OSError(errno.EEXIST, name)
        if effect == "leftover":
            self.entries[LEFTOVER] = Entry(self._provider, self._faults)
        self.entries[name] = Entry(self._provider, self._faults)

    def rmdir(self, name: str) -> None:
        entry = self.entries.pop(name, None)
        if entry is None:
            raise OSError(errno.ENOENT, name)
        entry.removed = True


def _foreign(inblob: bytes) -> bytes:
    """What another process of the pod would have asked for."""
    return bytes(byte ^ 0xFF for byte in inblob)
