"""SPDM 1.1 measurement transcripts: GET_MEASUREMENTS and its answer as one value, or a refusal. No IO.

Layout: DMTF DSP0274 1.1, GET_MEASUREMENTS and MEASUREMENTS, little-endian. Profile: one signed request for
all measurements, each of them a SHA-384 digest, as NVIDIA's GPUs and switches answer it. Nothing here is
believed before `verification.gpu_authentic` has checked the signature over it.
"""

from __future__ import annotations

from dataclasses import dataclass

from toposeal.errors import EvidenceError, Reason
from toposeal.limits import MAX_GPU_REPORT_SIZE, NONCE_SIZE

REQUEST_SIZE = 37
SIGNATURE_SIZE = 96  # r, then s, big-endian, on P-384
MEASUREMENT_SIZE = 48
GET_ALL_SIGNED = bytes.fromhex("11e001ff")  # version 1.1, code, "sign", "all of them"
_MEASUREMENTS = bytes.fromhex("116000")  # version 1.1, code, no count
_MAX_SLOT = 7
_DMTF = 1
_MAX_VALUE_TYPE = 0x0A  # DSP0274 names fewer; bit 7 would mean a raw value
_VALUE_HEADER = 3  # value type, value size


@dataclass(frozen=True)
class SpdmTranscript:
    """What was asked and answered. `measurements` starts at SPDM's index 1; each has 48 bytes."""

    nonce: bytes  # 32, the requester's
    slot: int
    measurements: tuple[bytes, ...]
    responder_nonce: bytes  # 32
    opaque: bytes
    signature_r: int
    signature_s: int
    signed: bytes
    raw: bytes


class Cursor:
    """A place in `data` that never passes its end. Refusals name `field`."""

    def __init__(self, data: bytes, field: str) -> None:
        self._data = data
        self._field = field
        self._offset = 0

    def take(self, size: int, name: str) -> bytes:
        """The next `size` bytes."""
        end = self._offset + size
        if end > len(self._data):
            left = len(self._data) - self._offset
            raise self.refusal(name, f"{left} bytes", f"{size} bytes")
        piece = self._data[self._offset : end]
        self._offset = end
        return piece

    def number(self, size: int, name: str) -> int:
        """The next `size` bytes as a little-endian number."""
        return int.from_bytes(self.take(size, name), "little")

    def more(self) -> bool:
        return self._offset < len(self._data)

    def end(self, name: str) -> None:
        """Refuse whatever follows."""
        if self.more():
            raise self.refusal(name, f"{len(self._data) - self._offset} bytes more", "nothing after it")

    def refusal(self, name: str, found: object, expected: object) -> EvidenceError:
        return EvidenceError.of(Reason.QUOTE_FORMAT, f"{self._field}.{name}", found, expected)


def parse_spdm_transcript(data: bytes) -> SpdmTranscript:
    """Parse all of `data`, or raise EvidenceError: QUOTE_FORMAT, or TOO_LARGE."""
    if len(data) > MAX_GPU_REPORT_SIZE:
        expected = f"at most {MAX_GPU_REPORT_SIZE}"
        raise EvidenceError.of(Reason.TOO_LARGE, "report", f"{len(data)} bytes", expected)
    cursor = Cursor(data, "report")
    nonce, slot = _request(cursor)
    measurements = _measurements(cursor, slot)
    responder_nonce = cursor.take(NONCE_SIZE, "response.nonce")
    opaque = cursor.take(cursor.number(2, "opaque_length"), "opaque")
    r, s = (int.from_bytes(cursor.take(SIGNATURE_SIZE // 2, "signature"), "big") for _ in range(2))
    cursor.end("signature")
    return SpdmTranscript(
        nonce=nonce,
        slot=slot,
        measurements=measurements,
        responder_nonce=responder_nonce,
        opaque=opaque,
        signature_r=r,
        signature_s=s,
        signed=data[:-SIGNATURE_SIZE],
        raw=data,
    )


def _request(cursor: Cursor) -> tuple[bytes, int]:
    """Nonce and certificate slot of the request, which the signature covers."""
    header = cursor.take(len(GET_ALL_SIGNED), "request.header")
    if header != GET_ALL_SIGNED:
        raise cursor.refusal("request.header", header.hex(), GET_ALL_SIGNED.hex())
    nonce = cursor.take(NONCE_SIZE, "request.nonce")
    slot = cursor.number(1, "request.slot")
    if slot > _MAX_SLOT:
        raise cursor.refusal("request.slot", slot, f"at most {_MAX_SLOT}")
    return nonce, slot


def _measurements(cursor: Cursor, slot: int) -> tuple[bytes, ...]:
    header = cursor.take(len(_MEASUREMENTS), "response.header")
    if header != _MEASUREMENTS:
        raise cursor.refusal("response.header", header.hex(), _MEASUREMENTS.hex())
    answered = cursor.number(1, "response.slot")
    if answered != slot:
        raise cursor.refusal("response.slot", answered, f"{slot}, as requested")
    count = cursor.number(1, "number_of_blocks")
    if not count:
        raise cursor.refusal("number_of_blocks", 0, "one or more")
    record = cursor.take(cursor.number(3, "record_length"), "measurements")
    blocks = Cursor(record, "report.measurements")
    values = tuple(_block(blocks, index) for index in range(1, count + 1))
    blocks.end(f"{count}")
    return values


def _block(cursor: Cursor, index: int) -> bytes:
    """One measurement block. They stand in order and none is left out: all were asked for."""
    found = cursor.number(1, "index")
    if found != index:
        raise cursor.refusal("index", found, index)
    specification, size = cursor.number(1, f"{index}"), cursor.number(2, f"{index}")
    value_type, value_size = cursor.number(1, f"{index}"), cursor.number(2, f"{index}")
    if specification != _DMTF:
        raise cursor.refusal(f"{index}.specification", specification, f"{_DMTF}, DMTF")
    if value_type > _MAX_VALUE_TYPE:
        raise cursor.refusal(f"{index}.value_type", value_type, f"a digest, at most {_MAX_VALUE_TYPE}")
    if (size, value_size) != (MEASUREMENT_SIZE + _VALUE_HEADER, MEASUREMENT_SIZE):
        raise cursor.refusal(f"{index}.size", value_size, f"{MEASUREMENT_SIZE}, in a block that fits")
    return cursor.take(MEASUREMENT_SIZE, f"{index}")
