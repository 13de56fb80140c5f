"""One simulated device: its certificates, and measurement reports shaped like Hopper, Blackwell or LS10."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding

from toposeal.evidence.gpu_certs import GpuEvidence
from toposeal_lab.simgpu.pki import GENUINE, DeviceShape, LabNvidia, new_key

_GPU_BLOCKS, _SWITCH_BLOCKS = 64, 31
_VBIOS = bytes.fromhex("009f009601000000")  # 96.00.9F.00.01
_HEADER = b"NVDAOD" + bytes.fromhex("000002000000")


@dataclass(frozen=True)
class GpuShape:
    """The parts of a report that no caller chooses; the defaults are genuine, tests change them."""

    measurements: Mapping[int, bytes] = field(default_factory=dict)  # by NVIDIA's index, from 0
    opaque: Mapping[int, bytes | None] = field(default_factory=dict)  # by number; None leaves one out
    headed: bool = False  # opaque data in the layout with a header
    patches: Mapping[int, bytes] = field(default_factory=dict)  # by offset, before the signature
    body: bytes | None = None  # instead of request and response


SHAPE = GpuShape()


class LabGpu:
    """A device of `vendor`. `number` tells it from its siblings."""

    def __init__(self, vendor: LabNvidia, number: int = 1, shape: DeviceShape | None = None) -> None:
        self.vendor = vendor
        self.shape = shape or DeviceShape(model=vendor.model)
        self.serial = self.shape.serial if self.shape.serial is not None else f"{number:018X}"
        self.pdi = self.shape.pdi or b"\x48\xb0\x2d" + number.to_bytes(5, "big")
        self.key, self._leaf_key = new_key(), new_key()
        self.device = vendor.device(self.key, self.serial, self.shape)
        self.leaf = vendor.leaf(self._leaf_key, self.device, self.key, self.pdi, self.shape)

    @property
    def chain(self) -> bytes:
        """PEM, leaf first, as the driver hands it out."""
        levels = (self.leaf, self.device, *self.vendor.authorities())
        return b"".join(each.public_bytes(Encoding.PEM) for each in levels)

    def evidence(self, nonce: bytes, shape: GpuShape = SHAPE) -> GpuEvidence:
        return GpuEvidence(self.report(nonce, shape), self.chain)

    def report(self, nonce: bytes, shape: GpuShape = SHAPE) -> bytes:
        """A signed report. `nonce` is exactly 32 bytes. Raises ValueError for another size."""
        if len(nonce) != 32:
            raise ValueError("a nonce takes 32 bytes")
        body = bytearray(shape.body if shape.body is not None else self._body(nonce, shape))
        for offset, piece in shape.patches.items():
            body[offset : offset + len(piece)] = piece
        return bytes(body) + self.sign(bytes(body))

    def sign(self, body: bytes) -> bytes:
        """r, then s, 48 bytes each."""
        r, s = utils.decode_dss_signature(self._leaf_key.sign(body, ec.ECDSA(hashes.SHA384())))
        return r.to_bytes(48, "big") + s.to_bytes(48, "big")

    def _body(self, nonce: bytes, shape: GpuShape) -> bytes:
        values = self.measurements(shape)
        record = b"".join(block(index, value) for index, value in enumerate(values, 1))
        opaque = self._opaque(shape)
        request = bytes.fromhex("11e001ff") + nonce + b"\0"
        head = bytes.fromhex("11600000") + bytes([len(values)]) + len(record).to_bytes(3, "little")
        answer_nonce = hashlib.sha256(b"answer" + nonce).digest()
        return request + head + record + answer_nonce + len(opaque).to_bytes(2, "little") + opaque

    def measurements(self, shape: GpuShape = SHAPE) -> Sequence[bytes]:
        """Alike on all devices of a model. The upper half is unused, as it is on genuine ones."""
        count = _SWITCH_BLOCKS if self.shape.model == "LS_10" else _GPU_BLOCKS
        made = [
            hashlib.sha384(f"{self.shape.model} {index}".encode()).digest()
            if index < count // 2
            else bytes(48)
            for index in range(count)
        ]
        for index, value in shape.measurements.items():
            made[index] = value
        return made

    def _opaque(self, shape: GpuShape) -> bytes:
        fields = {**self._fields(shape.headed), **shape.opaque}
        value_type = b"\x82\x00" if shape.headed else b""
        parts = [
            number.to_bytes(2, "little") + value_type + len(value).to_bytes(2, "little") + value
            for number, value in fields.items()
            if value is not None
        ]
        return (_HEADER if shape.headed else b"") + b"".join(parts)

    def _fields(self, headed: bool) -> dict[int, bytes]:
        """A GPU's with a header say the mode: one GPU passed through."""
        if self.shape.model == "LS_10":
            return {6: b"96.10.55.00.01", 22: self.pdi, 24: b"\x02\x00", 25: b"\x01\x00"}
        return {
            6: _VBIOS,
            15: b"882\0\0\0\0\0\0",
            16: b"0\0\0\0\0",
            17: b"1010\0",
            18: b"0200\0",
            19: b"\0\0",
            3: b"550.90.07\0",
            13: bytes.fromhex("0000c001"),
            11: b"\x55",
            20: self.shape.fwid,
            21: b"\x55",
            **({36: b"\x00\x00"} if headed else {}),
        }


def block(index: int, value: bytes) -> bytes:
    """One measurement block with a digest of mutable firmware."""
    inner = b"\x01" + len(value).to_bytes(2, "little") + value
    return bytes([index, 1]) + len(inner).to_bytes(2, "little") + inner


__all__ = ["GENUINE", "GpuShape", "LabGpu", "block"]
