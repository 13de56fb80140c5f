"""NVIDIA's measurement reports: an SPDM transcript with the fields that NVIDIA puts into it. No IO, no trust.

The opaque data is a list of type (u16), size (u16), value, little-endian; from major version 2 on it has a
header of its own, and a u16 type of value before each size. Field numbers and formats: NVIDIA's verifiers
(github.com/NVIDIA/attestation-sdk and nvtrust). A field of an unknown number is kept and not interpreted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.spdm import Cursor, SpdmTranscript, parse_spdm_transcript

OPAQUE_FIELDS: Mapping[int, str] = {
    1: "CERT_ISSUER_NAME",
    2: "CERT_AUTHORITY_KEY_IDENTIFIER",
    3: "DRIVER_VERSION",
    4: "GPU_INFO",
    5: "SKU",
    6: "VBIOS_VERSION",
    7: "MANUFACTURER_ID",
    8: "TAMPER_DETECTION",
    9: "SMC",
    10: "VPR",
    11: "NVDEC0_STATUS",
    12: "MSRSCNT",
    13: "CPRINFO",
    14: "BOARD_ID",
    15: "CHIP_SKU",
    16: "CHIP_SKU_MOD",
    17: "PROJECT",
    18: "PROJECT_SKU",
    19: "PROJECT_SKU_MOD",
    20: "FWID",
    21: "PROTECTED_PCIE_STATUS",
    22: "SWITCH_PDI",
    23: "FLOORSWEPT_PORTS",
    24: "POSITION_ID",
    25: "LOCK_SWITCH_STATUS",
    32: "GPU_LINK_CONN",
    33: "SYS_ENABLE_STATUS",
    34: "OPAQUE_DATA_VERSION",
    35: "CHIP_INFO",
    36: "FEATURE_FLAG",
}
_BY_NAME = {name: number for number, name in OPAQUE_FIELDS.items()}
_TEXTS = ("CHIP_SKU", "CHIP_SKU_MOD", "DRIVER_VERSION", "PROJECT", "PROJECT_SKU", "PROJECT_SKU_MOD")
_MAGIC = b"NVDAOD"
_HEADED_VERSIONS = (2,)
_BARE_VERSIONS = (0, 1)
_VBIOS_SIZE, _FWID_SIZE, _MAX_VERSION_SIZE = 8, 48, 8
_NVDEC0 = {b"\xaa": True, b"\x55": False}


class GpuMode(StrEnum):
    """FEATURE_FLAG: how the driver says that it isolates. UNSAID by switches and old drivers."""

    SINGLE = "SPT"  # one GPU passed through
    MULTI = "MPT"  # several, each link encrypted
    PROTECTED_PCIE = "PPCIE"  # several, where NVLink between them is not encrypted
    UNSAID = "unsaid"


_MODES = {0: GpuMode.SINGLE, 1: GpuMode.MULTI, 2: GpuMode.PROTECTED_PCIE}


@dataclass(frozen=True)
class GpuReport:
    """What the device says of itself. Texts are printable ASCII, empty where the report has none."""

    transcript: SpdmTranscript
    opaque: Mapping[int, bytes]  # by field number, as they stand
    opaque_version: int  # of its header, else OPAQUE_DATA_VERSION; 0 where there is neither
    driver_version: str  # "550.90.07"; a switch has none
    vbios_version: str  # "96.00.9F.00.01"
    project: str
    project_sku: str
    project_sku_mod: str
    chip_sku: str
    chip_sku_mod: str
    fwid: bytes  # 48: digest of the firmware that holds the signing key; empty on a switch
    nvdec0: bool | None  # whether the video decoder is on; None where the report does not say
    mode: GpuMode

    @property
    def measurements(self) -> tuple[bytes, ...]:
        """48 bytes each. NVIDIA's manifests count from 0, SPDM from 1; here it is 0."""
        return self.transcript.measurements


def parse_gpu_report(data: bytes) -> GpuReport:
    """Parse one report. Raises EvidenceError: QUOTE_FORMAT or TOO_LARGE."""
    transcript = parse_spdm_transcript(data)
    opaque, version = _opaque(transcript.opaque)
    named = {name: opaque.get(number, b"") for name, number in _BY_NAME.items()}
    texts = {name.lower(): _text(named[name], name) for name in _TEXTS}
    if named["FWID"] and len(named["FWID"]) != _FWID_SIZE:
        raise _refusal("FWID", f"{len(named['FWID'])} bytes", _FWID_SIZE)
    return GpuReport(
        transcript=transcript,
        opaque=MappingProxyType(opaque),
        opaque_version=version,
        vbios_version=_vbios_version(named["VBIOS_VERSION"]),
        fwid=named["FWID"],
        nvdec0=_nvdec0(named["NVDEC0_STATUS"]),
        mode=_mode(named["FEATURE_FLAG"]),
        **texts,
    )


def _opaque(data: bytes) -> tuple[dict[int, bytes], int]:
    """Fields and version. Every field once: a second one could mean another to another reader."""
    cursor = Cursor(data, "report.opaque")
    headed = _header(cursor) if data.startswith(_MAGIC) else None
    fields: dict[int, bytes] = {}
    while cursor.more():
        number = cursor.number(2, "type")
        if headed is not None:
            cursor.number(2, "value_type")
        if number in fields:
            raise cursor.refusal(f"{number}", "twice", "once")
        fields[number] = cursor.take(cursor.number(2, "size"), f"{number}")
    if headed is not None:
        return fields, headed
    stated = fields.get(_BY_NAME["OPAQUE_DATA_VERSION"], b"")
    if len(stated) > _MAX_VERSION_SIZE:
        raise cursor.refusal(
            "OPAQUE_DATA_VERSION", f"{len(stated)} bytes", f"at most {_MAX_VERSION_SIZE} bytes"
        )
    version = int.from_bytes(stated, "little")
    if version not in _BARE_VERSIONS:
        raise cursor.refusal("OPAQUE_DATA_VERSION", version, _BARE_VERSIONS)
    return fields, version


def _header(cursor: Cursor) -> int:
    """Magic, profile (u16, 0), major and minor version, two bytes that are reserved; the major version."""
    cursor.take(len(_MAGIC), "magic")
    profile, major = cursor.number(2, "profile"), cursor.number(1, "major")
    cursor.take(3, "minor")
    if profile or major not in _HEADED_VERSIONS:
        raise cursor.refusal("version", f"profile {profile}, major {major}", f"0, {_HEADED_VERSIONS}")
    return major


def _text(value: bytes, name: str) -> str:
    """ASCII, padded with NULs at its end alone."""
    text = value.rstrip(b"\0").decode("ascii", "replace")
    if not all(" " <= character <= "~" for character in text):
        raise _refusal(name, value, "printable ASCII")
    return text


def _vbios_version(value: bytes) -> str:
    """Eight bytes of a GPU: four backwards and a fifth. A switch writes the text itself."""
    if len(value) != _VBIOS_SIZE:
        return _text(value, "VBIOS_VERSION").upper()
    return ".".join(f"{value[place]:02X}" for place in (3, 2, 1, 0, 4))


def _nvdec0(value: bytes) -> bool | None:
    if not value:
        return None
    if value not in _NVDEC0:
        raise _refusal("NVDEC0_STATUS", value, "aa or 55")
    return _NVDEC0[value]


def _mode(value: bytes) -> GpuMode:
    if not value:
        return GpuMode.UNSAID
    number = int.from_bytes(value, "little")
    if number not in _MODES:
        raise _refusal("FEATURE_FLAG", value, "one of 0 to 2")
    return _MODES[number]


def _refusal(name: str, found: object, expected: object) -> EvidenceError:
    return EvidenceError.of(Reason.QUOTE_FORMAT, f"report.opaque.{name}", found, expected)
