"""Which member of the lab runs on which simulated machine: TDX, SNP, or some on each."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum

from toposeal.evidence.snp_tcb import Product
from toposeal_lab.simsnp import HostTable, LabAmd, LabChip, host_table, lab_snp_measurements
from toposeal_lab.simtdx import lab_measurements
from toposeal_lab.tsm_config import SnpTee, TdxTee, Tee


class TeeChoice(StrEnum):
    """What the members of one lab run on; `mixed` takes TDX and SNP in turn."""

    TDX = "tdx"
    SNP = "snp"
    MIXED = "mixed"

    @property
    def kinds(self) -> tuple[str, ...]:
        """As topologies name them."""
        return ("tdx", "snp") if self is TeeChoice.MIXED else (self.value,)

    def amd(self, now: int) -> LabAmd | None:
        """A fresh simulated AMD, valid at `now` (Unix seconds), where somebody needs one: its keys take
        some seconds."""
        return None if self is TeeChoice.TDX else LabAmd.create(Product.GENOA, now)


def add_choice(parser: argparse.ArgumentParser) -> None:
    """`--tee KIND`."""
    choices = [choice.value for choice in TeeChoice]
    parser.add_argument("--tee", choices=choices, default="tdx", help="what the members run on (default tdx)")


def lab_tees(
    roles: Mapping[str, str], mesh: str, choice: TeeChoice = TeeChoice.TDX, amd: LabAmd | None = None
) -> dict[str, Tee]:
    """A TEE for every member (name to role), each on a machine of its own.

    `amd` makes the chips of SNP members, and their hosts hand out a full certificate table. Raises
    ValueError where it is missing.
    """
    kinds = {TeeChoice.TDX: (False,), TeeChoice.SNP: (True,), TeeChoice.MIXED: (False, True)}[choice]
    return {
        name: _snp(role, mesh, amd) if kinds[index % len(kinds)] else _tdx(role, mesh)
        for index, (name, role) in enumerate(roles.items())
    }


def _tdx(role: str, mesh: str) -> TdxTee:
    return TdxTee(lab_measurements(role, mesh), secrets.token_bytes(16))


def _snp(role: str, mesh: str, amd: LabAmd | None) -> SnpTee:
    if amd is None:
        raise ValueError("SNP members need a simulated AMD")
    chip = LabChip(amd, secrets.token_bytes(amd.product.hwid_size))
    guest = replace(lab_snp_measurements(role, mesh), report_id=secrets.token_bytes(32))
    return SnpTee(guest, chip, host_table(chip, HostTable.FULL))
