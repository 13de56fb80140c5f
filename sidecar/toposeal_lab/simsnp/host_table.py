"""What a simulated host puts into its guest's certificate table: well-meant, neglected or hostile."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum
from types import MappingProxyType

from toposeal.evidence.ghcb_table import ARK, ASK, ENTRY_SIZE, VCEK, VLEK
from toposeal.evidence.snp_certs import KeyKind
from toposeal_lab.simsnp.chip import LabChip
from toposeal_lab.simsnp.pki import der
from toposeal_lab.simsnp.table import certificate_table

Entries = list[tuple[bytes, bytes]]


class HostTable(StrEnum):
    """What may stand in auxblob. The last five are refused as tables."""

    FULL = "full"  # endorsement, CA and root
    EMPTY = "empty"  # no table at all
    NO_ENDORSEMENT = "no-endorsement"  # CA and root alone
    OLD_ENDORSEMENT = "old-endorsement"  # that of older firmware, as after an update
    FOREIGN_ENDORSEMENT = "foreign-endorsement"  # that of another chip
    UNTERMINATED = "unterminated"
    OVERLAPPING = "overlapping"  # one blob inside another
    SELF_CONTAINED = "self-contained"  # a blob that is the entries themselves
    ESCAPING = "escaping"  # a blob that ends outside
    DUPLICATED = "duplicated"  # one GUID twice


def host_table(chip: LabChip, choice: HostTable) -> bytes:
    """The bytes of auxblob for a guest on `chip`."""
    return _TABLES[choice](chip)


def _full(chip: LabChip, certificate: bytes | None = None) -> Entries:
    own = (VCEK, chip.vendor.ask) if chip.kind is KeyKind.VCEK else (VLEK, chip.vendor.asvk)
    return [(own[0], certificate or chip.certificate), (ASK, der(own[1])), (ARK, der(chip.vendor.ark))]


def _old(chip: LabChip) -> bytes:
    """Another TCB has another key, so another certificate."""
    tcb = replace(chip.tcb, snp=chip.tcb.snp - 1)
    return certificate_table(_full(chip, LabChip(chip.vendor, chip.hwid, chip.kind, tcb).certificate))


def _foreign(chip: LabChip) -> bytes:
    hwid = bytes(byte ^ 0xFF for byte in chip.hwid)
    return certificate_table(_full(chip, LabChip(chip.vendor, hwid, chip.kind).certificate))


def _moved(chip: LabChip, offset: int, size: int) -> bytes:
    """A full table whose first entry says something else."""
    table = bytearray(certificate_table(_full(chip)))
    struct.pack_into("<II", table, 16, offset, size)
    return bytes(table)


_AFTER = 4 * ENTRY_SIZE  # three entries and the terminator
_TABLES: Mapping[HostTable, Callable[[LabChip], bytes]] = MappingProxyType(
    {
        HostTable.FULL: lambda chip: certificate_table(_full(chip)),
        HostTable.EMPTY: lambda chip: b"",
        HostTable.NO_ENDORSEMENT: lambda chip: certificate_table(_full(chip)[1:]),
        HostTable.OLD_ENDORSEMENT: _old,
        HostTable.FOREIGN_ENDORSEMENT: _foreign,
        HostTable.UNTERMINATED: lambda chip: certificate_table(_full(chip))[: 3 * ENTRY_SIZE],
        HostTable.OVERLAPPING: lambda chip: _moved(chip, _AFTER + 1, len(chip.certificate)),
        HostTable.SELF_CONTAINED: lambda chip: _moved(chip, 0, _AFTER),
        HostTable.ESCAPING: lambda chip: _moved(chip, _AFTER, (1 << 32) - 1),
        HostTable.DUPLICATED: lambda chip: certificate_table(_full(chip) + _full(chip)[:1]),
    }
)
