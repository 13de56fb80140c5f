"""The drivers behind a simulated configfs-tsm: `tdx_guest` and `sev_guest`.

As drivers/virt/coco/{tdx-guest,sev-guest} of Linux: what they show, what they take, which errors they give.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Protocol

from toposeal_lab.measurements_fs import Registers
from toposeal_lab.simsnp import SimulatedChip, SnpMeasurements
from toposeal_lab.simtdx import LabHost, TdxMeasurements

REPORT_DATA_SIZE = 64
_HOST = threading.Lock()  # reports of one machine are made one after the other


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
    privlevel_floor: int

    def report(self, inblob: bytes, privlevel: int) -> Blobs:
        """Raises OSError as the driver would."""


class TdxProvider:
    """`tdx_guest`: four attributes, exactly 64 bytes of report data, no privilege levels."""

    name = "tdx_guest"
    attributes = frozenset({"generation", "provider", "inblob", "outblob"})
    privlevel_floor = 0

    def __init__(self, host: LabHost, measurements: TdxMeasurements, delay_s: float = 0.0) -> None:
        self._host = host
        self.registers = Registers(measurements)
        self._delay_s = delay_s

    def report(self, inblob: bytes, privlevel: int) -> Blobs:
        if len(inblob) != REPORT_DATA_SIZE:
            raise OSError(errno.EINVAL, "TDX takes 64 bytes of report data")
        with _HOST:
            time.sleep(self._delay_s)
            return Blobs(self._host.quote(inblob, self.registers.now()))


class SnpProvider:
    """`sev_guest`: 64 bytes of report data, privilege levels from the guest's own (`vmpl`) on, and `table`,
    the host's certificates. The default level is 0, whatever the guest's own."""

    name = "sev_guest"
    attributes = frozenset(ATTRIBUTES)

    def __init__(
        self, chip: SimulatedChip, guest: SnpMeasurements, table: bytes, delay_s: float = 0.0
    ) -> None:
        self.privlevel_floor = guest.vmpl
        self._chip = chip
        self._guest = guest
        self._table = table
        self._delay_s = delay_s

    def report(self, inblob: bytes, privlevel: int) -> Blobs:
        if len(inblob) != REPORT_DATA_SIZE or privlevel < self.privlevel_floor:
            raise OSError(errno.EINVAL, "SNP takes 64 bytes of report data, at a level that the guest has")
        with _HOST:
            time.sleep(self._delay_s)
            report = self._chip.report(inblob, replace(self._guest, vmpl=privlevel))
        return Blobs(report, self._table)
