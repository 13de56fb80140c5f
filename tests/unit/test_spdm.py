"""A transcript is one request for all measurements and its whole answer, or it is refused by field."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from support.gpu import NONCE, gpu
from support.tdx import refusal

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.spdm import parse_spdm_transcript
from toposeal.limits import MAX_GPU_REPORT_SIZE
from toposeal_lab.simgpu import GpuShape

RESPONSE = 37
RECORD = RESPONSE + 8
BLOCK = 55
OPAQUE_LENGTH = RECORD + 64 * BLOCK + 32


def refused(patches: Mapping[int, bytes]) -> str:
    with pytest.raises(EvidenceError) as found:
        parse_spdm_transcript(gpu().report(NONCE, GpuShape(patches=patches)))
    assert found.value.reason is Reason.QUOTE_FORMAT
    return found.value.mismatches[0].field


def test_what_the_device_wrote_is_read() -> None:
    report = gpu().report(NONCE)
    found = parse_spdm_transcript(report)
    assert (found.nonce, found.slot, found.raw) == (NONCE, 0, report)
    assert found.measurements == tuple(gpu().measurements())
    assert found.signed == report[:-96]
    assert found.signature_r.to_bytes(48, "big") + found.signature_s.to_bytes(48, "big") == report[-96:]
    assert len(found.responder_nonce) == 32
    assert report[OPAQUE_LENGTH + 2 : -96] == found.opaque


@pytest.mark.parametrize(
    ("offset", "piece", "field"),
    [
        (0, b"\x12", "report.request.header"),  # SPDM 1.2 signs other bytes
        (1, b"\xe1", "report.request.header"),
        (2, b"\x00", "report.request.header"),  # no signature asked for
        (3, b"\x01", "report.request.header"),  # one measurement alone
        (36, b"\x08", "report.request.slot"),
        (RESPONSE, b"\x10", "report.response.header"),
        (RESPONSE + 1, b"\x7f", "report.response.header"),  # ERROR
        (RESPONSE + 2, b"\x01", "report.response.header"),
        (RESPONSE + 3, b"\x01", "report.response.slot"),
        (RESPONSE + 4, b"\x00", "report.number_of_blocks"),
        (RESPONSE + 4, b"\x3f", "report.measurements.63"),
        (RESPONSE + 4, b"\x41", "report.measurements.index"),
        (RESPONSE + 5, b"\x00\x00\x00", "report.measurements.index"),
        (RESPONSE + 5, b"\xff\xff\xff", "report.measurements"),
        (RECORD, b"\x02", "report.measurements.index"),
        (RECORD + BLOCK, b"\x01", "report.measurements.index"),
        (RECORD + 1, b"\x02", "report.measurements.1.specification"),
        (RECORD + 2, b"\x34", "report.measurements.1.size"),
        (RECORD + 2, b"\xff\xff", "report.measurements.1.size"),
        (RECORD + 4, b"\x81", "report.measurements.1.value_type"),  # raw, not a digest
        (RECORD + 5, b"\x00\x00", "report.measurements.1.size"),
        (OPAQUE_LENGTH, b"\xff\xff", "report.opaque"),
        (OPAQUE_LENGTH, b"\x00\x00", "report.signature"),
    ],
)
def test_E14_each_field_is_checked(offset: int, piece: bytes, field: str) -> None:
    assert refused({offset: piece}) == field


@pytest.mark.parametrize("size", [0, 1, 3, 4, 36, 37, 44, 45, 100, 3600])
def test_E14_no_part_is_a_whole(size: int) -> None:
    assert refusal(parse_spdm_transcript, gpu().report(NONCE)[:size]) is Reason.QUOTE_FORMAT


def test_E14_nothing_follows_and_nothing_is_huge() -> None:
    assert refusal(parse_spdm_transcript, gpu().report(NONCE) + b"\0") is Reason.QUOTE_FORMAT
    assert refusal(parse_spdm_transcript, bytes(MAX_GPU_REPORT_SIZE + 1)) is Reason.TOO_LARGE
