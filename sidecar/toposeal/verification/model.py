"""Values that verification takes and gives. No IO; `now` and collateral are parameters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from toposeal.evidence.binding import Binding


@dataclass(frozen=True)
class TrustAnchors:
    """The roots a build trusts. Production has the vendors' alone; only toposeal_lab makes others."""

    intel_sgx_root_ca: bytes  # DER
    amd_roots: tuple[bytes, ...] = ()  # DER, one ARK for each product; none means that no SNP report passes
    nvidia_roots: tuple[bytes, ...] = ()  # DER; none means that no GPU's report passes
    nvidia_rim_roots: tuple[bytes, ...] = ()  # DER; none means that no reference manifest passes


@dataclass(frozen=True)
class AppraisalContext:
    """Everything besides the evidence that a verdict depends on."""

    anchors: TrustAnchors
    collateral: tuple[bytes, ...]  # dcap-qvl JSON, one per FMSPC; checked, never trusted
    now: int  # Unix seconds, the local wall clock: a second check, never the only one
    crls: tuple[bytes, ...] = ()  # AMD's revocation lists, DER; checked, never trusted


@dataclass(frozen=True)
class GpuDevice:
    """One verified GPU. `model` and `device_id` are NVIDIA's word, the versions are the device's own."""

    model: str
    device_id: bytes  # 32, SHA-256 of the device key
    driver_version: str
    vbios_version: str
    expires_at: int  # Unix seconds: the earliest end of its certificates


@dataclass(frozen=True)
class VerifiedEvidence:
    """Proof that a quote is authentic, acceptable, of `role` by measurement, and says `binding`.

    Constructed by `verification.appraise` alone.
    """

    tee: str  # "tdx" or "snp"
    role: str
    binding: Binding
    tcb_status: str  # TDX: Intel's word; SNP: product and the security patch levels of reported_tcb
    advisories: tuple[str, ...]  # none on SNP: AMD names none
    platform: bytes  # TDX: PPID, 16 bytes; SNP: CHIP_ID, 64, or nothing where it is masked or under a VLEK
    expires_at: int  # Unix seconds: the earliest expiry of what the verdict rests on
    guest: bytes | None = None  # SNP: REPORT_ID, 32, one for each guest; TDX has none
    gpus: tuple[GpuDevice, ...] = ()  # JOIN: the devices that answered for this member

    @cached_property
    def held(self) -> frozenset[bytes]:
        """What only one member can have: its guest, where evidence names it, and its GPUs."""
        guest = [] if self.guest is None else [self.guest]
        return frozenset([*guest, *(gpu.device_id for gpu in self.gpus)])
