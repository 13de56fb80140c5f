"""Is a GPU's report authentic: signed by a device that NVIDIA made, for our nonce, by the firmware named?

Whether it is acceptable is for `verification.gpu_policy` and `verification.gpu_rim`. Revocation is not
checked: NVIDIA answers by OCSP and CRL, and nothing here asks a network (SECURITY.md). No IO.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from enum import StrEnum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.gpu_certs import GpuChain, GpuEvidence, NvidiaCertificate, parse_gpu_chain
from toposeal.evidence.gpu_report import GpuMode, GpuReport, parse_gpu_report
from toposeal.limits import NONCE_SIZE
from toposeal.verification.model import TrustAnchors

_MODEL = r"(?P<model>GH\d{3}|GB\d{3}|LS_10)"
_RESPONDER = {"GH": "GSP", "GB": "GSP", "LS": "FSP"}  # whose key signs; a Blackwell chip has an FSP's too
_MODES_SINCE = 1  # the opaque data version from which on a GPU's report has a FEATURE_FLAG
_DEVICE = re.compile(rf"{_MODEL} (?P<stepping>[A-Z]\d{{2}}) (?P<responder>GSP|FSP) BROM", re.ASCII)
_PROVISIONER = re.compile(rf"NVIDIA {_MODEL} Provisioner ICA \d+", re.ASCII)
_IDENTITY = re.compile(rf"NVIDIA {_MODEL} Identity", re.ASCII)


class GpuArchitecture(StrEnum):
    """By the model's letters. LS10 is an NVSwitch, not a GPU."""

    HOPPER = "GH"
    BLACKWELL = "GB"
    LS10 = "LS"


@dataclass(frozen=True)
class AuthenticGpu:
    """An authentic report with what NVIDIA's certificates say about the device that made it.

    `model` and `device_id` are NVIDIA's word. `pdi` and all of `report` are the device's own.
    """

    report: GpuReport
    architecture: GpuArchitecture
    model: str  # the chip: "GH100", "GB100", "LS_10". H100, H200 and GH200 are all GH100
    device_id: bytes  # 32, SHA-256 of the device key's SubjectPublicKeyInfo
    device_serial: str  # the device certificate's serialNumber, hexadecimal digits
    pdi: bytes  # 8, the device's public identifier
    expires_at: int  # Unix seconds: from here on some part is no longer in force

    @property
    def driver_version(self) -> str:
        return self.report.driver_version

    @property
    def vbios_version(self) -> str:
        return self.report.vbios_version

    @property
    def measurements(self) -> tuple[bytes, ...]:
        return self.report.measurements


def authenticate_gpu(evidence: GpuEvidence, nonce: bytes, anchors: TrustAnchors, now: int) -> AuthenticGpu:
    """Verify one device at `now` (Unix seconds) against the 32 bytes that it was asked with (E18).

    Raises EvidenceError; the reason names the cause.
    """
    report = parse_gpu_report(evidence.report)
    expect_nonce(report, nonce)
    return authenticate_report(report, parse_gpu_chain(evidence.chain), anchors, now)


def expect_nonce(report: GpuReport, nonce: bytes) -> None:
    """All 32 bytes, else an old report would do. Raises EvidenceError(NONCE_MISMATCH)."""
    found = report.transcript.nonce
    if len(nonce) != NONCE_SIZE or not hmac.compare_digest(found, nonce):
        raise _refusal(Reason.NONCE_MISMATCH, "report.request.nonce", found, nonce.hex())


def authenticate_report(report: GpuReport, chain: GpuChain, anchors: TrustAnchors, now: int) -> AuthenticGpu:
    """Verify `report` without regard to its nonce: alone, that proves no freshness. Raises EvidenceError."""
    # (1) The chain ends in the pinned root: its very key and name.
    _expect_root(chain.root, anchors)
    # (2) Every level is in force, and issued by the next.
    _expect_in_force(chain, now)
    _expect_issued(chain)
    # (3) The levels are what they have to be: only NVIDIA's CAs name devices, a device names no other.
    model, architecture = _expect_names(chain)
    # (4) The leaf's key signed these bytes.
    _expect_signature(report, chain.leaf)
    # (5) The firmware that NVIDIA's boot ROM certified is the one that reports, and not open to debuggers.
    _expect_firmware(report, chain, architecture)
    # (6) It says how it isolates, if it has a field for that: policy could not refuse what is left out.
    _expect_mode(report, architecture)
    return AuthenticGpu(
        report=report,
        architecture=architecture,
        model=model,
        device_id=hashlib.sha256(chain.device.public_key_info).digest(),
        device_serial=chain.device.serial_name,
        pdi=chain.pdi,
        expires_at=min(level.not_after for level in chain.levels()),
    )


def _expect_root(root: NvidiaCertificate, anchors: TrustAnchors) -> None:
    """The pinned certificate itself. A test root is thereby refused by a production build (E17)."""
    if root.der not in anchors.nvidia_roots:
        raise _refusal(Reason.QUOTE_SIGNATURE, "chain.root", _named(root), "a pinned root")


def _expect_in_force(chain: GpuChain, now: int) -> None:
    for level, each in enumerate(chain.levels()):
        if not each.not_before <= now <= each.not_after:
            window = f"{each.not_before} to {each.not_after}"
            raise _refusal(Reason.COLLATERAL_INVALID, f"chain[{level}]", f"now {now}", window)


def _expect_issued(chain: GpuChain) -> None:
    levels = chain.levels()
    for level, (each, issuer) in enumerate(zip(levels, (*levels[1:], chain.root), strict=True)):
        if not issuer.is_ca or not each.issued_by(issuer):
            raise _refusal(Reason.QUOTE_SIGNATURE, f"chain[{level}].issuer", "another", _named(issuer))


def _expect_names(chain: GpuChain) -> tuple[str, GpuArchitecture]:
    """Model and architecture. A device's key may sign certificates without limit, so that a device taken
    apart could invent others below itself: the fixed number of levels and NVIDIA's names prevent it."""
    provisioner = _name(_PROVISIONER, chain.provisioner, "chain.provisioner")
    _name(_IDENTITY, chain.identity, "chain.identity")
    device = _name(_DEVICE, chain.device, "chain.device")
    model, responder = device["model"], _RESPONDER[device["model"][:2]]
    if provisioner["model"] != model:
        raise _refusal(Reason.SIGNING_KEY, "chain.provisioner", provisioner["model"], model)
    if device["responder"] != responder or not chain.device.serial_name:
        raise _refusal(
            Reason.SIGNING_KEY, "chain.device", _named(chain.device), f"an {responder} with a number"
        )
    wanted = f"{model} {device['stepping']} {responder} FMC LF"
    if chain.leaf.is_ca or chain.leaf.common_name != wanted or chain.model != model:
        raise _refusal(Reason.SIGNING_KEY, "chain.leaf", f"{chain.leaf.common_name} of {chain.model}", wanted)
    return model, GpuArchitecture(model[:2])


def _name(pattern: re.Pattern[str], certificate: NvidiaCertificate, field: str) -> re.Match[str]:
    match = pattern.fullmatch(certificate.common_name)
    if match is None:
        raise _refusal(Reason.SIGNING_KEY, field, certificate.common_name, "one of NVIDIA's names")
    return match


def _expect_signature(report: GpuReport, leaf: NvidiaCertificate) -> None:
    transcript = report.transcript
    signature = utils.encode_dss_signature(transcript.signature_r, transcript.signature_s)
    try:
        leaf.public_key.verify(signature, transcript.signed, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature as error:
        raise _refusal(
            Reason.QUOTE_SIGNATURE, "report.signature", "one that does not hold", "one that holds"
        ) from error


def _expect_firmware(report: GpuReport, chain: GpuChain, architecture: GpuArchitecture) -> None:
    firmware = chain.firmware
    if firmware.unsafe:
        raise _refusal(Reason.GPU_MODE, "chain.leaf.flags", " ".join(firmware.unsafe), "none of these")
    if firmware.issuer_key and firmware.issuer_key != chain.device.public_key_info:
        raise _refusal(Reason.SIGNING_KEY, "chain.leaf.firmware", "another device key", _named(chain.device))
    if not report.fwid and architecture is GpuArchitecture.LS10:
        return  # a switch does not repeat it
    if not hmac.compare_digest(report.fwid, firmware.fwid):
        raise _refusal(Reason.MEASUREMENT, "report.opaque.FWID", report.fwid, firmware.fwid.hex())


def _expect_mode(report: GpuReport, architecture: GpuArchitecture) -> None:
    """NVIDIA defines no such field for a switch, and older drivers of a Hopper do not fill it."""
    if report.mode is not GpuMode.UNSAID or architecture is GpuArchitecture.LS10:
        return
    if report.opaque_version >= _MODES_SINCE:
        expected = f"a mode, in opaque data of version {report.opaque_version}"
        raise _refusal(Reason.GPU_MODE, "report.opaque.FEATURE_FLAG", "nothing", expected)


def _named(certificate: NvidiaCertificate) -> str:
    return f"{certificate.common_name} with key {hashlib.sha256(certificate.public_key_info).hexdigest()}"


def _refusal(reason: Reason, field: str, found: object, expected: object) -> EvidenceError:
    return EvidenceError.of(reason, field, found, expected)
