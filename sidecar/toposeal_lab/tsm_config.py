"""Which simulated TEE each pod of one mount has, as values and as the JSON that `tsmfs` is started with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from toposeal_lab.simsnp import SimulatedChip, SnpMeasurements
from toposeal_lab.simtdx import LabHost, LabPki, TdxMeasurements
from toposeal_lab.tsm import ReportDirectory
from toposeal_lab.tsm_faults import Fault, Faults
from toposeal_lab.tsm_providers import Provider, SnpProvider, TdxProvider


@dataclass(frozen=True)
class TdxTee:
    """The simulated TD of one pod: machine (PPID, 16 bytes), measured fields, and what goes wrong when."""

    measurements: TdxMeasurements
    ppid: bytes
    faults: tuple[Fault, ...] = ()

    def dump(self) -> dict[str, object]:
        return {"kind": "tdx", "measurements": self.measurements.dump(), "ppid": self.ppid.hex()}


@dataclass(frozen=True)
class SnpTee:
    """The simulated SNP guest of one pod. `table` is what its host gives for auxblob, up to 32 KiB."""

    measurements: SnpMeasurements
    chip: SimulatedChip
    table: bytes = b""
    faults: tuple[Fault, ...] = ()

    def dump(self) -> dict[str, object]:
        fields = asdict(self.measurements).items()
        measured = {name: value.hex() if isinstance(value, bytes) else value for name, value in fields}
        return {
            "kind": "snp",
            "measurements": measured,
            "chip": self.chip.dump(),
            "table": self.table.hex(),
        }


Tee = TdxTee | SnpTee


@dataclass(frozen=True)
class TsmConfig:
    """All pods of one mount. `delay_ms` is added to every report; they are made one after the other."""

    pki: LabPki
    pods: Mapping[str, Tee]
    delay_ms: int = 0

    def dump(self) -> bytes:
        """The JSON form that `load` reads; it holds the machines' private keys."""
        pods = {
            name: {**tee.dump(), "faults": [asdict(fault) for fault in tee.faults]}
            for name, tee in self.pods.items()
        }
        state = {"pki": json.loads(self.pki.dump()), "pods": pods, "delay_ms": self.delay_ms}
        return json.dumps(state).encode("ascii")

    @classmethod
    def load(cls, data: bytes) -> TsmConfig:
        """Read `dump`'s form. Raises ValueError, KeyError or TypeError for anything else."""
        state = json.loads(data)
        pods = {name: _load_tee(tee) for name, tee in state["pods"].items()}
        return cls(LabPki.load(json.dumps(state["pki"]).encode()), pods, int(state.get("delay_ms", 0)))

    def directories(self) -> dict[str, ReportDirectory]:
        """The report directory of each pod; one TDX machine per distinct PPID."""
        ppids = {tee.ppid for tee in self.pods.values() if isinstance(tee, TdxTee)}
        hosts = {ppid: LabHost(self.pki, ppid) for ppid in ppids}
        return {
            name: ReportDirectory(self._provider(tee, hosts), Faults(tee.faults))
            for name, tee in self.pods.items()
        }

    def _provider(self, tee: Tee, hosts: Mapping[bytes, LabHost]) -> Provider:
        delay_s = self.delay_ms / 1000
        if isinstance(tee, TdxTee):
            return TdxProvider(hosts[tee.ppid], tee.measurements, delay_s)
        return SnpProvider(tee.chip, tee.measurements, tee.table, delay_s)


def _load_tee(state: dict[str, Any]) -> Tee:
    faults = tuple(Fault(**fault) for fault in state.get("faults", ()))
    if state["kind"] == "tdx":
        return TdxTee(TdxMeasurements.load(state["measurements"]), bytes.fromhex(state["ppid"]), faults)
    if state["kind"] != "snp":
        raise ValueError("a pod's TEE is tdx or snp")
    measured: dict[str, Any] = dict(state["measurements"])
    measured |= {name: bytes.fromhex(value) for name, value in measured.items() if isinstance(value, str)}
    chip, table = SimulatedChip.load(state["chip"]), bytes.fromhex(state["table"])
    return SnpTee(SnpMeasurements(**measured), chip, table, faults)
