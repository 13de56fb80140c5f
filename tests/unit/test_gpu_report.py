"""NVIDIA's fields are read by number, each once, in either layout."""

from __future__ import annotations

import pytest
from support.gpu import NONCE, gpu
from support.tdx import refusal

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.gpu_report import OPAQUE_FIELDS, GpuMode, GpuReport, parse_gpu_report
from toposeal_lab.simgpu import GpuShape

DRIVER, VBIOS, NVDEC0, FWID, VERSION, FLAG = 3, 6, 11, 20, 34, 36


def parsed(opaque: dict[int, bytes | None] | None = None, headed: bool = False) -> GpuReport:
    return parse_gpu_report(gpu().report(NONCE, GpuShape(opaque=opaque or {}, headed=headed)))


@pytest.mark.parametrize(("headed", "mode"), [(False, GpuMode.UNSAID), (True, GpuMode.SINGLE)])
def test_the_fields_are_read(headed: bool, mode: GpuMode) -> None:
    found = parsed(headed=headed)
    assert (found.driver_version, found.vbios_version) == ("550.90.07", "96.00.9F.00.01")
    assert (found.project, found.project_sku, found.project_sku_mod) == ("1010", "0200", "")
    assert (found.chip_sku, found.chip_sku_mod) == ("882", "0")
    assert (found.nvdec0, found.mode, found.fwid) == (False, mode, gpu().shape.fwid)
    assert found.measurements == found.transcript.measurements
    assert found.opaque[21] == b"\x55"


def test_a_switch_writes_its_version_as_text_and_has_no_driver() -> None:
    found = parse_gpu_report(gpu("LS_10").report(NONCE))
    assert (found.vbios_version, found.driver_version) == ("96.10.55.00.01", "")
    assert (found.fwid, found.nvdec0, found.project) == (b"", None, "")


def test_what_nobody_knows_is_kept() -> None:
    assert parsed({26: b"\x01" * 128, 999: b""}).opaque[999] == b""
    assert 26 not in OPAQUE_FIELDS


@pytest.mark.parametrize(
    ("value", "mode"),
    [
        (b"\x00\x00", GpuMode.SINGLE),
        (b"\x01\x00", GpuMode.MULTI),
        (b"\x02", GpuMode.PROTECTED_PCIE),
        (None, GpuMode.UNSAID),
    ],
)
def test_the_mode_is_the_drivers_word(value: bytes | None, mode: GpuMode) -> None:
    assert parsed({FLAG: value, VERSION: b"\x01\x00"}).mode is mode


def test_the_version_is_the_headers_else_the_fields() -> None:
    assert [parsed().opaque_version, parsed({VERSION: b"\x01\x00"}).opaque_version] == [0, 1]
    assert parsed({VERSION: b"\x00"}, headed=True).opaque_version == 2


def test_the_decoder_is_on_off_or_unsaid() -> None:
    assert parsed({NVDEC0: b"\xaa"}).nvdec0 is True
    assert parsed({NVDEC0: None}).nvdec0 is None


@pytest.mark.parametrize(
    "opaque",
    [
        {DRIVER: b"550\n\0"},
        {DRIVER: b"550\0.90\0"},
        {DRIVER: "550é".encode()},
        {VBIOS: b"\xff" * 7},
        {NVDEC0: b"\x00"},
        {NVDEC0: b"\xaa\xaa"},
        {FWID: bytes(47)},
        {FWID: bytes(49)},
        {FLAG: b"\x03"},
        {VERSION: b"\x02"},
        {VERSION: b"\x00\x01"},
        {VERSION: b"\x01" + bytes(8)},
        {VERSION: b"\xff" * 2000},
    ],
)
def test_E14_a_field_is_what_it_has_to_be(opaque: dict[int, bytes | None]) -> None:
    with pytest.raises(EvidenceError) as refused:
        parsed(opaque)
    assert refused.value.reason is Reason.QUOTE_FORMAT


def test_E14_no_field_stands_twice() -> None:
    twice = gpu().report(NONCE)
    opaque = parse_gpu_report(twice).transcript.opaque
    made = opaque + bytes.fromhex("0b00010055")
    assert _with(made) is Reason.QUOTE_FORMAT


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_E14_a_field_is_whole(cut: int) -> None:
    opaque = parse_gpu_report(gpu().report(NONCE)).transcript.opaque
    assert _with(opaque[:-cut]) is Reason.QUOTE_FORMAT


@pytest.mark.parametrize("header", ["000100020000", "000001000000", "000003000000"])
def test_E14_another_version_of_the_layout_is_refused(header: str) -> None:
    assert _with(b"NVDAOD" + bytes.fromhex(header)) is Reason.QUOTE_FORMAT
    assert _with(b"NVDAOD\0\0\2") is Reason.QUOTE_FORMAT


def _with(opaque: bytes) -> Reason:
    report = gpu().report(NONCE)
    start = 37 + 8 + 64 * 55 + 32
    made = report[:start] + len(opaque).to_bytes(2, "little") + opaque + report[-96:]
    return refusal(parse_gpu_report, made)
