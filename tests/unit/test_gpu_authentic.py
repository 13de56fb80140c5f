"""A report is authentic only under the pinned root, for our nonce, by a device and firmware NVIDIA names."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from support.gpu import MODELS, NONCE, NOW, SHAPE, anchors, authentic, gpu, nvidia, odd
from support.tdx import refusal

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.gpu_certs import GpuEvidence
from toposeal.evidence.gpu_report import GpuMode
from toposeal.verification.anchors import VENDOR_ANCHORS
from toposeal.verification.gpu_authentic import GpuArchitecture, authenticate_gpu
from toposeal.verification.model import TrustAnchors
from toposeal_lab.simgpu import GpuShape, LabGpu, LabNvidia
from toposeal_lab.simgpu.pki import ca, firmware, issue, new_key, subject

ARCHITECTURES = dict(zip(MODELS, GpuArchitecture, strict=True))


def reason(
    evidence: GpuEvidence, nonce: bytes = NONCE, trusted: TrustAnchors | None = None, now: int = NOW
) -> Reason:
    return refusal(authenticate_gpu, evidence, nonce, trusted or anchors(), now)


@cache
def stranger() -> LabNvidia:
    """Another NVIDIA with keys of its own, under the same names."""
    return LabNvidia.create(NOW)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("headed", [False, True])
def test_a_genuine_report_is_authentic(model: str, headed: bool) -> None:
    device = gpu(model)
    found = authentic(device, GpuShape(headed=headed))
    assert (found.model, found.architecture) == (model, ARCHITECTURES[model])
    assert (found.device_serial, found.pdi, len(found.device_id)) == (device.serial, device.pdi, 32)
    assert found.measurements == tuple(device.measurements())
    assert found.vbios_version == ("96.10.55.00.01" if model == "LS_10" else "96.00.9F.00.01")
    assert found.driver_version == ("" if model == "LS_10" else "550.90.07")
    assert found.expires_at == int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())


def test_the_verdict_ends_with_its_first_part() -> None:
    end = datetime.fromtimestamp(NOW + 500, UTC)
    device = odd(not_after=end)
    assert authentic(device).expires_at == NOW + 500
    for outside in (NOW + 501, NOW - 86401, 0):
        assert reason(device.evidence(NONCE), now=outside) is Reason.COLLATERAL_INVALID


def test_E17_the_simulated_root_is_refused_by_a_production_build() -> None:
    assert reason(gpu().evidence(NONCE), trusted=VENDOR_ANCHORS) is Reason.QUOTE_SIGNATURE
    assert reason(gpu().evidence(NONCE), trusted=TrustAnchors(b"")) is Reason.QUOTE_SIGNATURE


def test_E17_a_root_of_the_same_name_is_another() -> None:
    assert reason(LabGpu(stranger()).evidence(NONCE)) is Reason.QUOTE_SIGNATURE
    borrowed = stranger().root_key
    below = issue(
        nvidia().identity.subject, nvidia().identity_key, nvidia().root.subject, borrowed, NOW, ca()
    )
    device = LabGpu(replace(nvidia(), identity=below))
    assert reason(device.evidence(NONCE)) is Reason.QUOTE_SIGNATURE


@pytest.mark.parametrize("old", [bytes(32), NONCE[:31] + b"\xff", NONCE[:31], NONCE + b"\0", b""])
def test_E18_an_old_nonce_is_refused(old: bytes) -> None:
    assert reason(gpu().evidence(NONCE), nonce=old) is Reason.NONCE_MISMATCH


def test_E18_evidence_of_another_machine_is_refused() -> None:
    """Our GPU's certificates under another GPU's report, and the other way round."""
    ours, other = gpu(), gpu("GH100", 2)
    for mixed in (
        GpuEvidence(other.report(NONCE), ours.chain),
        GpuEvidence(ours.report(NONCE), other.chain),
        GpuEvidence(ours.report(NONCE), gpu("GB100").chain),
    ):
        assert reason(mixed) is Reason.QUOTE_SIGNATURE


def test_E13_no_byte_of_the_report_is_free() -> None:
    report = gpu().report(NONCE)
    for offset in range(36, len(report), 97):
        changed = report[:offset] + bytes([report[offset] ^ 1]) + report[offset + 1 :]
        assert reason(GpuEvidence(changed, gpu().chain)) in (Reason.QUOTE_SIGNATURE, Reason.QUOTE_FORMAT)


@pytest.mark.parametrize("scalar", [bytes(48), b"\xff" * 48])
def test_E13_a_signature_of_impossible_numbers_is_refused(scalar: bytes) -> None:
    report = gpu().report(NONCE)
    for forged in (report[:-96] + scalar + report[-48:], report[:-48] + scalar):
        assert reason(GpuEvidence(forged, gpu().chain)) is Reason.QUOTE_SIGNATURE


def test_E18_a_device_cannot_invent_others_below_itself() -> None:
    """Its own key may sign certificates: with one more level it would be a CA of devices."""
    owner = gpu()
    below = replace(nvidia(), provisioner=owner.device, provisioner_key=owner.key)
    invented = LabGpu(below, 99)
    levels = (invented.leaf, invented.device, owner.device, *nvidia().authorities())
    longer = b"".join(each.public_bytes(Encoding.PEM) for each in levels)
    assert reason(GpuEvidence(invented.report(NONCE), longer)) is Reason.CERTIFICATE_INVALID
    shorter = b"".join(
        each.public_bytes(Encoding.PEM)
        for each in (invented.leaf, invented.device, owner.device, nvidia().provisioner, nvidia().root)
    )
    assert reason(GpuEvidence(invented.report(NONCE), shorter)) is Reason.QUOTE_SIGNATURE


def test_E18_a_key_below_a_leaf_is_no_device() -> None:
    device = gpu()
    chain = device.chain.replace(
        device.device.public_bytes(Encoding.PEM), device.leaf.public_bytes(Encoding.PEM), 1
    )
    assert reason(GpuEvidence(device.report(NONCE), chain)) is Reason.QUOTE_SIGNATURE


@pytest.mark.parametrize(
    "shape",
    [
        {"model": "GA100"},  # Ampere knows no confidential computing
        {"stepping": "A1"},
        {"responder": "FSP"},  # a chip's second identity
        {"responder": "SEC2"},
        {"serial": ""},
        {"leaf_name": "GH100 A01 GSP FMC"},
        {"leaf_name": "GB100 A01 GSP FMC LF"},
        {"leaf_name": "GH100 A02 GSP FMC LF"},
        {"leaf_is_ca": True},
        {"name": b"\x0c\x1dNVIDIA:GB100:48B02D92494BADF4"},
    ],
)
def test_E18_only_nvidias_names_count(shape: dict[str, object]) -> None:
    assert reason(odd(**shape).evidence(NONCE)) is Reason.SIGNING_KEY


def test_E18_a_provisioner_speaks_for_its_own_model() -> None:
    assert reason(odd(model="GH200").evidence(NONCE)) is Reason.SIGNING_KEY
    for level, wanted in (("provisioner", "NVIDIA GH100 Intermediate"), ("identity", "NVIDIA GH100")):
        vendor, key = nvidia(), new_key()
        named = issue(subject(wanted), key, vendor.root.subject, vendor.root_key, NOW, ca())
        if level == "identity":
            lower = vendor.provisioner.subject
            below = issue(lower, vendor.provisioner_key, named.subject, key, NOW, ca())
            other = replace(vendor, identity=named, identity_key=key, provisioner=below)
        else:
            named = issue(subject(wanted), key, vendor.identity.subject, vendor.identity_key, NOW, ca())
            other = replace(vendor, provisioner=named, provisioner_key=key)
        assert reason(LabGpu(other).evidence(NONCE)) is Reason.SIGNING_KEY


@pytest.mark.parametrize("flags", ["0090000001", "00a0000001", "00c0000001"])
def test_E18_a_device_open_to_debuggers_is_refused(flags: str) -> None:
    """Where its certificate can say so: Blackwell's does, Hopper's has no such flags."""
    vendor = nvidia("GB100")
    shape = replace(gpu("GB100").shape, flags=bytes.fromhex(flags))
    assert reason(LabGpu(vendor, 3, shape).evidence(NONCE)) is Reason.GPU_MODE


@pytest.mark.parametrize("model", ["GH100", "GB100"])
@pytest.mark.parametrize("flag", [None, b""])
@pytest.mark.parametrize(("headed", "version"), [(False, b"\x01\x00"), (True, None), (True, b"\x00\x00")])
def test_E18_a_device_that_has_to_say_how_it_isolates_says_so(
    model: str, flag: bytes | None, headed: bool, version: bytes | None
) -> None:
    """Silence would pass where PPCIE, said, does not."""
    silent, spoken = {34: version, 36: flag}, {34: version, 36: b"\x01\x00"}
    assert reason(gpu(model).evidence(NONCE, GpuShape(opaque=silent, headed=headed))) is Reason.GPU_MODE
    assert authentic(gpu(model), GpuShape(opaque=spoken, headed=headed)).report.mode is GpuMode.MULTI


@pytest.mark.parametrize("version", [None, b"\x00\x00"])
def test_a_device_older_than_modes_says_none(version: bytes | None) -> None:
    assert authentic(shape=GpuShape(opaque={34: version})).report.mode is GpuMode.UNSAID


def test_E18_other_firmware_than_certified_is_refused() -> None:
    for opaque in ({20: bytes(48)}, {20: None}):
        assert reason(gpu().evidence(NONCE, GpuShape(opaque=opaque))) is Reason.MEASUREMENT
    assert reason(gpu("LS_10").evidence(NONCE, GpuShape(opaque={20: bytes(48)}))) is Reason.MEASUREMENT


def test_E18_a_leaf_names_the_key_above_it() -> None:
    extension = firmware(new_key(), gpu().shape)
    assert reason(odd(firmware=extension).evidence(NONCE)) is Reason.SIGNING_KEY


def test_E14_what_cannot_be_read_is_refused() -> None:
    evidence = gpu().evidence(NONCE, SHAPE)
    assert reason(GpuEvidence(b"", evidence.chain)) is Reason.QUOTE_FORMAT
    assert reason(GpuEvidence(evidence.report, b"")) is Reason.CERTIFICATE_INVALID


def test_the_refusal_names_what_was_found() -> None:
    with pytest.raises(EvidenceError) as refused:
        authenticate_gpu(gpu().evidence(NONCE), NONCE, VENDOR_ANCHORS, NOW)
    assert refused.value.mismatches[0].field == "chain.root"
    assert refused.value.mismatches[0].found.startswith("NVIDIA Device Identity CA with key ")
