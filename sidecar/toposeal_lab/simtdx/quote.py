"""One simulated TDX machine: its PCK key, its quoting enclave, and version 4 quotes of any TD."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from toposeal_lab.simtdx.collateral import QE_ISVSVN, QE_MRSIGNER, raw_signature
from toposeal_lab.simtdx.measurements import TdxMeasurements
from toposeal_lab.simtdx.pki import Authority, LabPki
from toposeal_lab.simtdx.sgx_extension import PlatformIdentity

_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
_TEE_TDX = 0x81
_QE_AUTH_DATA = bytes(range(32))


@dataclass(frozen=True)
class QuoteShape:
    """The parts of a quote that no TD chooses; the defaults are genuine, tests change them."""

    version: int = 4
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
        body = _body(report_data, measurements)
        signed = self._header + body
        signature = raw_signature(self._key, signed) + self._public + self._certification
        return signed + struct.pack("<I", len(signature)) + signature + bytes(self.shape.padding)

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
