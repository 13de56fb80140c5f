"""Genuine devices and manifests of NVIDIA's, under the production roots."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from support.gpu import NOW as SIMULATED_NOW
from support.gpu import anchors, gpu
from support.tdx import refusal

from toposeal.errors import PolicyError, Reason
from toposeal.evidence.gpu_certs import GpuEvidence, parse_gpu_chain
from toposeal.evidence.gpu_report import GpuMode, parse_gpu_report
from toposeal.evidence.rim import parse_rim
from toposeal.topology.gpu import GpuDemand
from toposeal.verification.anchors import VENDOR_ANCHORS
from toposeal.verification.gpu_authentic import AuthenticGpu, GpuArchitecture, authenticate_gpu
from toposeal.verification.gpu_check import gpu_fields
from toposeal.verification.gpu_policy import require_gpus
from toposeal.verification.gpu_rim import authenticate_rim, require_rims
from toposeal.verification.nvidia_root import NVIDIA_ROOTS

OWN = Path(__file__).parent / "nvidia"
SIGNED_AT = 1_710_000_000  # both manifests' certificates were in force then
LS10 = GpuEvidence((OWN / "ls10/report.bin").read_bytes(), (OWN / "ls10/chain.pem").read_bytes())


@dataclass(frozen=True)
class Vector:
    """The entry of the manifest, with its files."""

    entry: dict[str, Any]
    evidence: GpuEvidence
    root: bytes
    now: int

    @property
    def nonce(self) -> bytes:
        return bytes.fromhex(self.entry["expected_fields"]["nonce"])

    def authentic(self) -> AuthenticGpu:
        return authenticate_gpu(self.evidence, self.nonce, VENDOR_ANCHORS, self.now)


@pytest.fixture(scope="module")
def hopper(shared_vectors: Path) -> Vector:
    entries = json.loads((shared_vectors / "manifest.json").read_text())
    (entry,) = (each for each in entries if each["kind"] == "gpu")
    folder = shared_vectors / entry["dir"]
    files = [(folder / name).read_bytes() for name in ("report.bin", "certchain.pem")]
    root = (shared_vectors / "gpu" / "nvidia_device_root.pem").read_bytes()
    now = datetime.fromisoformat(entry["reference_time_iso"].split()[0]).astimezone(UTC)
    return Vector(entry, GpuEvidence(*files), root, int(now.timestamp()))


def test_the_pinned_root_is_nvidias(hopper: Vector) -> None:
    root = x509.load_pem_x509_certificate(hopper.root)
    assert (root.public_bytes(Encoding.DER),) == NVIDIA_ROOTS


def test_hopper_is_authentic_with_the_manifests_fields(hopper: Vector) -> None:
    found = hopper.authentic()
    assert (found.model, found.architecture) == ("GH100", GpuArchitecture.HOPPER)
    assert (found.driver_version, found.vbios_version) == ("550.90.07", "96.00.9F.00.01")
    assert (found.device_serial, found.pdi.hex()) == ("41431D480FE5E87274", "48b02d92494badf4")
    assert (found.report.nvdec0, found.report.mode) == (False, GpuMode.UNSAID)
    assert (found.report.project, found.report.project_sku, found.report.chip_sku) == ("1010", "0200", "882")
    chain = parse_gpu_chain(hopper.evidence.chain)
    assert gpu_fields(found.report, chain) == hopper.entry["expected_fields"]
    require_gpus([found], GpuDemand(1, frozenset({"GH100"})))


def test_ls10_is_authentic() -> None:
    nonce = parse_gpu_report(LS10.report).transcript.nonce
    found = authenticate_gpu(LS10, nonce, VENDOR_ANCHORS, SIGNED_AT)
    assert (found.model, found.architecture, found.vbios_version) == (
        "LS_10",
        GpuArchitecture.LS10,
        "96.10.55.00.01",
    )
    assert (found.device_serial, len(found.measurements)) == ("50203EB31AD9ED0008", 31)


def test_the_chain_of_a_blackwell_is_read() -> None:
    chain = parse_gpu_chain((OWN / "gb100/chain.pem").read_bytes())
    assert (chain.model, chain.device.common_name) == ("GB100", "GB100 A01 GSP BROM")
    assert (chain.firmware.unsafe, chain.firmware.fwid.hex()[:16]) == ((), "d090cab1b6e6ffdd")
    levels = chain.levels()
    assert all(each.issued_by(issuer) for each, issuer in zip(levels, [*levels[1:], chain.root], strict=True))
    assert chain.root.der in VENDOR_ANCHORS.nvidia_roots


def test_E18_a_genuine_device_in_debug_says_so() -> None:
    """Of a laboratory of NVIDIA's: the second identity of a Blackwell chip."""
    chain = parse_gpu_chain((OWN / "gb100/fsp-debug-chain.pem").read_bytes())
    assert (chain.firmware.unsafe, chain.leaf.common_name) == (("debug",), "GB100 A01 FSP FMC LF")
    assert chain.root.der in VENDOR_ANCHORS.nvidia_roots


def test_E18_reports_and_chains_are_not_interchangeable(hopper: Vector) -> None:
    for report, chain in (
        (hopper.evidence.report, LS10.chain),
        (hopper.evidence.report, (OWN / "gb100/chain.pem").read_bytes()),
    ):
        mixed = GpuEvidence(report, chain)
        assert refusal(authenticate_gpu, mixed, hopper.nonce, VENDOR_ANCHORS, hopper.now) in (
            Reason.QUOTE_SIGNATURE,
            Reason.SIGNING_KEY,
        )


def test_E18_another_nonce_is_refused(hopper: Vector) -> None:
    arguments = (hopper.evidence, bytes(32), VENDOR_ANCHORS, hopper.now)
    assert refusal(authenticate_gpu, *arguments) is Reason.NONCE_MISMATCH


def test_E17_neither_side_believes_the_other(hopper: Vector) -> None:
    simulated = gpu().evidence(hopper.nonce)
    arguments = (simulated, hopper.nonce, VENDOR_ANCHORS, SIMULATED_NOW)
    assert refusal(authenticate_gpu, *arguments) is Reason.QUOTE_SIGNATURE
    arguments = (hopper.evidence, hopper.nonce, anchors(), hopper.now)
    assert refusal(authenticate_gpu, *arguments) is Reason.QUOTE_SIGNATURE


@pytest.mark.parametrize("name", ["driver-545.00", "vbios-96.00.5E.00.01"])
def test_manifests_are_nvidias(name: str) -> None:
    data = (OWN / f"rim/{name}.swidtag").read_bytes()
    rim = parse_rim(data)
    assert (rim.product, rim.version) == ("GH100", name.partition("-")[2])
    assert authenticate_rim(rim, VENDOR_ANCHORS, SIGNED_AT).rim is rim
    assert refusal(authenticate_rim, rim, VENDOR_ANCHORS, 1_790_000_000) is Reason.RIM  # expired
    for old, new in ((b'index="9" active="True"', b'index="9" active="False"'), (b'="GH100"', b'="GH10O"')):
        if old in data:
            changed = parse_rim(data.replace(old, new))
            assert refusal(authenticate_rim, changed, VENDOR_ANCHORS, SIGNED_AT) is Reason.RIM


def test_a_vbios_of_another_version_has_other_measurements(hopper: Vector) -> None:
    """Of twelve that its manifest lists, those of the boot ROM alone are the same."""
    rims = [
        authenticate_rim(parse_rim((OWN / f"rim/{name}.swidtag").read_bytes()), VENDOR_ANCHORS, SIGNED_AT)
        for name in ("driver-545.00", "vbios-96.00.5E.00.01")
    ]
    with pytest.raises(PolicyError) as refused:
        require_rims(hopper.authentic(), rims)
    assert {mismatch.reason for mismatch in refused.value.mismatches} == {Reason.RIM}
    report = replace(hopper.authentic().report, driver_version="545.00", vbios_version="96.00.5E.00.01")
    with pytest.raises(PolicyError) as refused:
        require_rims(replace(hopper.authentic(), report=report), rims)
    wrong = {mismatch.field for mismatch in refused.value.mismatches}
    assert "report.measurements[1]" in wrong
    assert "report.measurements[3]" not in wrong
