"""One simulated TDX machine: its PCK key, its quoting enclave, and quotes of any TD, version 4 or 5."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec

from toposeal_lab.simtdx.collateral import QE_ISVSVN, QE_MRSIGNER, raw_signature
from toposeal_lab.simtdx.measurements import TdxMeasurements
from toposeal_lab.simtdx.pki import Authority, LabPki
from toposeal_lab.simtdx.sgx_extension import PlatformIdentity

_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
_TEE_TDX = 0x81
_QE_AUTH_DATA = bytes(range(32))
_LATER = (
    ("tee_tcb_svn2", 16),
    ("mrservicetd", 48),
    ("vmid", 1),
    ("td_id", 32),
    ("dev_info", 48),
    ("init_servtd_hash", 48),
    ("init_servtd_attr", 8),
    ("init_cpu_svn", 16),
    ("init_tee_tcb_svn", 16),
    ("init_fmspc", 12),
    ("cur_servtd_hash", 48),
    ("cur_servtd_attr", 8),
)
_LATER_FIELDS = {1: 0, 2: 0, 3: 2, 4: len(_LATER), 5: len(_LATER)}  # types 1 and 5 do not exist


@dataclass(frozen=True)
class QuoteShape:
    """The parts of a quote that no TD chooses; the defaults are genuine, tests change them."""

    version: int = 4
    body_type: int = 2  # of version 5: 2 TD 1.0, 3 TD 1.5, 4 TD 1.5 with the extended fields
    body_size: int | None = None  # what the descriptor says; default: the truth
    later: Mapping[str, bytes] = field(default_factory=dict)  # fields of newer bodies to replace
    key_type: int = 2
    tee_type: int = _TEE_TDX
    reserved: int = 0
    vendor: bytes = _VENDOR
    outer_certification: int = 6
    inner_certification: int = 5
    qe_report_tail: bytes = bytes(32)
    qe_auth_data: bytes = _QE_AUTH_DATA
    pck_chain: str | None = None  # PEM instead of the machine's own
    padding: int = 0  # zero bytes after the quote; a cloud host pads to 8000 in all


class LabHost:
    """A machine certified by `pki`. `ppid` is its 16-byte platform identity."""

    def __init__(
        self,
        pki: LabPki,
        ppid: bytes,
        cpu_svn: bytes = bytes([2] * 16),
        pck: Authority | None = None,
        shape: QuoteShape = QuoteShape(),
    ) -> None:
        self.ppid = ppid
        self.shape = shape
        identity = PlatformIdentity(ppid, pki.fmspc, pki.pce_id, cpu_svn=cpu_svn)
        self.pck = pck or pki.issue_pck(identity)
        self._key = ec.generate_private_key(ec.SECP256R1())
        point = self._key.public_key().public_numbers()
        self._public = point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big")
        chain = shape.pck_chain or self.pck.pem() + pki.platform_ca.pem() + pki.root.pem()
        self._certification = self._certify(cpu_svn, chain.encode("ascii") + b"\0")
        self._header = self._make_header()

    def quote(self, report_data: bytes, measurements: TdxMeasurements) -> bytes:
        """A signed quote; `report_data` is exactly 64 bytes. Raises ValueError for another size."""
        signed = self._header + self._described(_body(report_data, measurements), measurements)
        signature = raw_signature(self._key, signed) + self._public + self._certification
        return signed + struct.pack("<I", len(signature)) + signature + bytes(self.shape.padding)

    def _described(self, body: bytes, measured: TdxMeasurements) -> bytes:
        """The body as it stands in version 4; in version 5 its newer fields too, behind a descriptor."""
        shape = self.shape
        if shape.version == 4:
            return body
        count = _LATER_FIELDS[shape.body_type]
        fields = {name: bytes(size) for name, size in _LATER[:count]}
        genuine = {"tee_tcb_svn2": measured.tee_tcb_svn, "td_id": hashlib.sha256(measured.mrtd).digest()}
        fields |= {name: value for name, value in (genuine | dict(shape.later)).items() if name in fields}
        whole = body + b"".join(fields.values())
        size = len(whole) if shape.body_size is None else shape.body_size
        return struct.pack("<HI", shape.body_type, size) + whole

    def _make_header(self) -> bytes:
        shape = self.shape
        start = struct.pack("<HHII", shape.version, shape.key_type, shape.tee_type, shape.reserved)
        return start + shape.vendor + self.ppid + bytes(4)

    def _certify(self, cpu_svn: bytes, chain: bytes) -> bytes:
        shape = self.shape
        binding = hashlib.sha256(self._public + shape.qe_auth_data).digest()
        report = _qe_report(cpu_svn, binding + shape.qe_report_tail)
        inner = (
            report
            + raw_signature(self.pck.key, report)
            + struct.pack("<H", len(shape.qe_auth_data))
            + shape.qe_auth_data
            + struct.pack("<HI", shape.inner_certification, len(chain))
            + chain
        )
        return struct.pack("<HI", shape.outer_certification, len(inner)) + inner


def _body(report_data: bytes, measured: TdxMeasurements) -> bytes:
    """TDREPORT 1.0, 584 bytes (Intel TDX DCAP quote format, A.3.2)."""
    body = b"".join(
        (
            measured.tee_tcb_svn,
            measured.mrseam,
            measured.mrsignerseam,
            measured.seam_attributes,
            measured.td_attributes,
            measured.xfam,
            measured.mrtd,
            measured.mrconfigid,
            measured.mrowner,
            measured.mrownerconfig,
            *measured.rtmr,
            report_data,
        )
    )
    if len(report_data) != 64 or len(body) != 584:
        raise ValueError("report_data takes 64 bytes and every measured field its own size")
    return body


def _qe_report(cpu_svn: bytes, report_data: bytes) -> bytes:
    """SGX REPORT body of the TD quoting enclave, 384 bytes."""
    report = bytearray(384)
    report[0:16] = cpu_svn
    report[48:64] = bytes([0x11]) + bytes(15)
    report[64:96] = hashlib.sha256(b"simulated TD quoting enclave").digest()
    report[128:160] = QE_MRSIGNER
    struct.pack_into("<HH", report, 256, 2, QE_ISVSVN)
    report[320:384] = report_data
    return bytes(report)
