"""The kernel's configfs-tsm report semantics in memory; `tsmfs` puts a file system in front of it.

As measured on Linux 6.12 (drivers/virt/coco/tsm.c): inblob is committed by close, not by write, and
what the commit thinks of it is thrown away; a read of outblob makes the report, or serves the one of
this generation again. Errors are OSErrors with the kernel's numbers.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Protocol

from toposeal_lab.simsnp import LabChip, SnpMeasurements
from toposeal_lab.simtdx import LabHost, TdxMeasurements

MAX_INBLOB = 64
REPORT_DATA_SIZE = 64
HANG_SECONDS = 1.5
CLOUD_QUOTE_SIZE = 8000  # what one cloud's hosts pad every quote to
_HOST = threading.Lock()  # quotes of one machine are made one after the other


@dataclass(frozen=True)
class Attribute:
    """Mode and apparent size, as stat shows them; binary ones have size 0."""

    mode: int
    binary: bool = False


ATTRIBUTES: Mapping[str, Attribute] = MappingProxyType(
    {
        "generation": Attribute(0o444),
        "provider": Attribute(0o444),
        "inblob": Attribute(0o200, binary=True),
        "outblob": Attribute(0o444, binary=True),
        "auxblob": Attribute(0o444, binary=True),
        "privlevel": Attribute(0o200),
        "privlevel_floor": Attribute(0o444),
    }
)


@dataclass(frozen=True)
class Blobs:
    """What one request to a driver makes; all of one generation."""

    outblob: bytes
    auxblob: bytes = b""


class Provider(Protocol):
    """What a TEE driver registers: its name, the attributes it shows, and how a report is made."""

    name: str
    attributes: frozenset[str]

    def report(self, inblob: bytes, privlevel: int) -> Blobs:
        """Raises OSError as the driver would."""


class TdxProvider:
    """`tdx_guest`: four attributes, exactly 64 bytes of report data, no privilege levels."""

    name = "tdx_guest"
    attributes = frozenset({"generation", "provider", "inblob", "outblob"})

    def __init__(self, host: LabHost, measurements: TdxMeasurements, delay_s: float = 0.0) -> None:
        self._host = host
        self._measurements = measurements
        self._delay_s = delay_s

    def report(self, inblob: bytes, privlevel: int) -> Blobs:
        if len(inblob) != REPORT_DATA_SIZE:
            raise OSError(errno.EINVAL, "TDX takes 64 bytes of report data")
        with _HOST:
            time.sleep(self._delay_s)
            return Blobs(self._host.quote(inblob, self._measurements))


class SnpProvider:
    """`sev_guest`: 64 bytes of report data, privilege levels, and `table`, the host's certificates."""

    name = "sev_guest"
    attributes = frozenset(ATTRIBUTES)

    def __init__(self, chip: LabChip, guest: SnpMeasurements, table: bytes, delay_s: float = 0.0) -> None:
        self._chip = chip
        self._guest = guest
        self._table = table
        self._delay_s = delay_s

    def report(self, inblob: bytes, privlevel: int) -> Blobs:
        if len(inblob) != REPORT_DATA_SIZE or privlevel < self._guest.vmpl:
            raise OSError(errno.EINVAL, "SNP takes 64 bytes of report data, at a level that the guest has")
        with _HOST:
            time.sleep(self._delay_s)
            report = self._chip.report(inblob, replace(self._guest, vmpl=privlevel))
        return Blobs(report, self._table)


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong `times` times at one point; tests script them.

    mkdir: an errno name. commit: `swallow` (the store fails, unseen) or `race` (another writer comes
    second). outblob: an errno name, `empty`, `garbage`, `pad`, `race` (another writer came in
    between), `foreign` (a report for other data, no trace of a writer) or `hang` (HANG_SECONDS).
    """

    at: str
    effect: str
    times: int = 1


class Faults:
    """A script of faults, consumed in order at each point; safe to ask from several threads."""

    def __init__(self, script: Iterable[Fault] = ()) -> None:
        self._pending = [fault for each in script for fault in [each] * each.times]
        self._lock = threading.Lock()

    def take(self, at: str) -> str | None:
        """The next effect at this point; an errno name is raised as that OSError."""
        with self._lock:
            fault = next((each for each in self._pending if each.at == at), None)
            if fault is None:
                return None
            self._pending.remove(fault)
        number = getattr(errno, fault.effect, None)
        if number is not None:
            raise OSError(number, f"scripted {fault.effect}")
        return fault.effect


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

    def read(self, attribute: str) -> bytes:
        """The content of a readable attribute. Raises OSError."""
        with self._lock:
            if attribute in ("outblob", "auxblob"):
                blobs = self._report()
                return blobs.outblob if attribute == "outblob" else blobs.auxblob
            texts = {"generation": self._generation, "provider": self.provider.name, "privlevel_floor": 0}
            return f"{texts[attribute]}\n".encode("ascii")

    def write_privlevel(self, text: bytes) -> None:
        """Takes effect at once, unlike inblob. Raises OSError(EINVAL) outside 0 to 3."""
        try:
            level = int(text.strip() or b"x", 0)
        except ValueError:
            level = -1
        if not 0 <= level <= 3:
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

    def _store(self, inblob: bytes) -> None:
        self._inblob = inblob
        self._generation += 1

    def _report(self) -> Blobs:
        if self._generation == 0:
            raise OSError(errno.EINVAL, "inblob was never written")
        effect = self._faults.take("outblob")
        if effect == "hang":
            time.sleep(HANG_SECONDS)
        if effect == "race":
            self._store(_foreign(self._inblob))
        if self._blobs is None or self._blobs[0] != self._generation or effect is not None:
            self._blobs = (self._generation, self._make(effect))
        return self._blobs[1]

    def _make(self, effect: str | None) -> Blobs:
        inblob = _foreign(self._inblob) if effect == "foreign" else self._inblob
        if not inblob:
            raise OSError(errno.EINVAL, "inblob is empty")
        made = self.provider.report(inblob, self._privlevel)
        padded = made.outblob.ljust(CLOUD_QUOTE_SIZE, b"\0")
        changed = {"empty": b"", "garbage": b"\xff" * 600, "pad": padded}
        return replace(made, outblob=changed.get(effect or "", made.outblob))


class ReportDirectory:
    """One pod's `report/`: mkdir makes an entry, rmdir removes it, nothing else is possible."""

    def __init__(self, provider: Provider | None, faults: Faults) -> None:
        self._provider = provider
        self._faults = faults
        self.entries: dict[str, Entry] = {}

    def mkdir(self, name: str) -> None:
        self._faults.take("mkdir")
        if self._provider is None:
            raise OSError(errno.ENXIO, "no provider is registered")
        if len(name) > 255:
            raise OSError(errno.ENAMETOOLONG, name)
        if name in self.entries:
            raise OSError(errno.EEXIST, name)
        self.entries[name] = Entry(self._provider, self._faults)

    def rmdir(self, name: str) -> None:
        if self.entries.pop(name, None) is None:
            raise OSError(errno.ENOENT, name)


def _foreign(inblob: bytes) -> bytes:
    """What another process of the pod would have asked for."""
    return bytes(byte ^ 0xFF for byte in inblob)
