"""The quote parser takes one genuine layout and names field and offset for everything else."""

from __future__ import annotations

import struct
import time
from typing import Any

import pytest
from support.tdx import HOST, PKI, PPID, WEB, refusal

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.tdx_quote import parse_tdx_quote
from toposeal.limits import MAX_TDX_QUOTE_SIZE
from toposeal_lab.simtdx import LabHost, QuoteShape

REPORT_DATA = bytes(range(64))
QUOTE = HOST.quote(REPORT_DATA, WEB)
AUTH_LENGTH, AUTH = 632, 636
OUTER = AUTH + 128
QE_REPORT = OUTER + 6
AUTH_DATA_SIZE = QE_REPORT + 384 + 64
INNER = AUTH_DATA_SIZE + 2 + 32
QE = "quote.auth_data.qe_certification"
PCK = f"{QE}.pck_certification"


def changed(offset: int, data: bytes) -> bytes:
    return QUOTE[:offset] + data + QUOTE[offset + len(data) :]


def test_every_field_is_where_the_vendor_puts_it() -> None:
    quote = parse_tdx_quote(QUOTE)
    assert quote.report_data == REPORT_DATA
    assert quote.user_data == PPID + bytes(4)
    assert (quote.mrtd, quote.mrconfigid, quote.rtmr) == (WEB.mrtd, WEB.mrconfigid, WEB.rtmr)
    assert (quote.td_attributes, quote.xfam) == (WEB.td_attributes, WEB.xfam)
    assert (quote.mrseam, quote.tee_tcb_svn) == (WEB.mrseam, WEB.tee_tcb_svn)
    assert quote.signed == QUOTE[:AUTH_LENGTH]
    assert (quote.raw, quote.padding) == (QUOTE, 0)
    assert quote.auth.pck_chain.startswith(HOST.pck.pem().encode())
    assert quote.auth.pck_chain.endswith(PKI.root.pem().encode() + b"\0")
    assert (quote.auth.qe_report.isvprodid, quote.auth.qe_report.isvsvn) == (2, 4)


@pytest.mark.parametrize("padding", [1, 70, 8000 - len(QUOTE)])
def test_zero_padding_is_dropped_and_counted(padding: int) -> None:
    quote = parse_tdx_quote(QUOTE + bytes(padding))
    assert (quote.raw, quote.padding) == (QUOTE, padding)


@pytest.mark.parametrize("tail", [b"\x01", b"\0\0\x01", b"\x01" + bytes(99), QUOTE[:100]])
def test_E14_other_trailing_bytes_are_refused(tail: bytes) -> None:
    assert refusal(parse_tdx_quote, QUOTE + tail) is Reason.QUOTE_TRAILING


def test_E14_every_truncation_is_refused() -> None:
    for size in range(len(QUOTE)):
        with pytest.raises(EvidenceError):
            parse_tdx_quote(QUOTE[:size])


@pytest.mark.parametrize(
    ("offset", "data", "reason", "place"),
    [
        (0, struct.pack("<H", 6), Reason.UNKNOWN_VERSION, "quote.version at 0"),
        (0, struct.pack("<H", 3), Reason.UNKNOWN_VERSION, "quote.version at 0"),
        (2, struct.pack("<H", 3), Reason.QUOTE_FORMAT, "quote.attestation_key_type at 2"),
        (4, struct.pack("<I", 0), Reason.QUOTE_TEE_TYPE, "quote.tee_type at 4"),
        (4, struct.pack("<I", 0x80000081), Reason.QUOTE_TEE_TYPE, "quote.tee_type at 4"),
        (8, b"\x01", Reason.QUOTE_FORMAT, "quote.reserved at 8"),
        (12, b"\0", Reason.QUOTE_FORMAT, "quote.qe_vendor_id at 12"),
        (AUTH_LENGTH, b"\0\0\0\0", Reason.QUOTE_FORMAT, "quote.auth_data.signature at 636"),
        (AUTH_LENGTH, b"\xff\xff\xff\xff", Reason.QUOTE_FORMAT, "quote.auth_data at 636"),
        (
            AUTH_LENGTH,
            struct.pack("<I", 200),
            Reason.QUOTE_FORMAT,
            f"{QE}.size at 766",
        ),
        (OUTER, struct.pack("<H", 7), Reason.QUOTE_FORMAT, f"{QE}.type at 764"),
        (OUTER + 2, b"\0\0\0\0", Reason.QUOTE_FORMAT, f"{QE}.size at 766"),
        (OUTER + 2, b"\xff\xff\xff\xff", Reason.QUOTE_FORMAT, f"{QE}.size at 766"),
        (
            AUTH_DATA_SIZE,
            struct.pack("<H", 31),
            Reason.QUOTE_FORMAT,
            f"{QE}.qe_auth_data.size at 1218",
        ),
        (
            INNER,
            struct.pack("<H", 1),
            Reason.QUOTE_FORMAT,
            f"{PCK}.type at 1252",
        ),
        (
            INNER + 2,
            b"\0\0\0\0",
            Reason.QUOTE_FORMAT,
            f"{PCK}.size at 1254",
        ),
        (
            INNER + 2,
            b"\xff\xff\xff\xff",
            Reason.QUOTE_FORMAT,
            f"{PCK}.size at 1254",
        ),
    ],
)
def test_E14_one_wrong_field_is_refused_by_name_and_offset(
    offset: int, data: bytes, reason: Reason, place: str
) -> None:
    with pytest.raises(EvidenceError) as refused:
        parse_tdx_quote(changed(offset, data))
    assert [(m.reason, m.field) for m in refused.value.mismatches] == [(reason, place)]


def test_E14_versions_do_not_pass_for_each_other() -> None:
    with pytest.raises(EvidenceError) as refused:
        parse_tdx_quote(changed(0, struct.pack("<H", 5)))
    assert refused.value.mismatches[0].field == "quote.body_type at 48"
    later = described(3)
    assert parse_tdx_quote(later).version == 5
    with pytest.raises(EvidenceError):
        parse_tdx_quote(struct.pack("<H", 4) + later[2:])


def described(body_type: int, **shape: Any) -> bytes:
    """A quote of version 5."""
    made = QuoteShape(version=5, body_type=body_type, **shape)
    return LabHost(PKI, PPID, shape=made).quote(REPORT_DATA, WEB)


@pytest.mark.parametrize(("body_type", "size"), [(2, 584), (3, 648), (4, 885)])
def test_version_5_says_what_its_body_is(body_type: int, size: int) -> None:
    data = described(body_type)
    quote = parse_tdx_quote(data)
    assert (quote.version, quote.body_type) == (5, body_type)
    assert quote.signed == data[: 48 + 6 + size]
    assert (quote.mrtd, quote.report_data, quote.rtmr) == (WEB.mrtd, REPORT_DATA, WEB.rtmr)
    assert quote.tee_tcb_svn2 == (WEB.tee_tcb_svn if body_type > 2 else b"")
    assert quote.mrservicetd == (bytes(48) if body_type > 2 else b"")
    assert len(quote.td_id) == (32 if body_type > 3 else 0)


def test_the_extended_body_is_where_the_vendor_puts_it() -> None:
    sizes = {"tee_tcb_svn2": 16, "mrservicetd": 48, "vmid": 1, "td_id": 32, "dev_info": 48}
    sizes |= {"init_servtd_hash": 48, "init_servtd_attr": 8, "init_cpu_svn": 16, "init_tee_tcb_svn": 16}
    sizes |= {"init_fmspc": 12, "cur_servtd_hash": 48, "cur_servtd_attr": 8}
    later = {name: bytes([index]) * size for index, (name, size) in enumerate(sizes.items(), 1)}
    data = described(4, later=later)
    quote, offset = parse_tdx_quote(data), 48 + 6 + 584
    for name, value in later.items():
        assert getattr(quote, name) == value == data[offset : offset + len(value)]
        offset += len(value)
    assert offset == len(quote.signed)


@pytest.mark.parametrize("body_type", [0, 1, 5, 0xFFFF])
def test_E14_another_body_is_refused(body_type: int) -> None:
    """Type 1 is an SGX report."""
    data = described(2)
    data = data[:48] + struct.pack("<H", body_type) + data[50:]
    with pytest.raises(EvidenceError) as refused:
        parse_tdx_quote(data)
    assert refused.value.mismatches[0].field == "quote.body_type at 48"


@pytest.mark.parametrize("body_type", [2, 3, 4])
@pytest.mark.parametrize("size", [0, 583, 584, 585, 648, 885, 999, (1 << 32) - 1])
def test_E14_the_size_of_a_body_is_that_of_its_type(body_type: int, size: int) -> None:
    data = described(body_type, body_size=size)
    if size == {2: 584, 3: 648, 4: 885}[body_type]:
        assert parse_tdx_quote(data).body_type == body_type
        return
    with pytest.raises(EvidenceError) as refused:
        parse_tdx_quote(data)
    assert refused.value.mismatches[0].field == "quote.body_size at 50"


@pytest.mark.parametrize("body_type", [2, 3, 4])
def test_E14_every_truncation_of_version_5_is_refused(body_type: int) -> None:
    data = described(body_type)
    for size in range(40, 1200):
        with pytest.raises(EvidenceError):
            parse_tdx_quote(data[:size])


def test_E14_an_snp_report_is_not_a_tdx_quote() -> None:
    report = struct.pack("<IIQ", 3, 0, 0x30000) + bytes(1184 - 16)
    assert refusal(parse_tdx_quote, report) is Reason.QUOTE_TEE_TYPE


def test_an_sgx_quote_is_refused_whatever_its_version() -> None:
    for version in (3, 4):
        data = changed(0, struct.pack("<HHI", version, 2, 0))
        assert refusal(parse_tdx_quote, data) is Reason.QUOTE_TEE_TYPE


def test_a_quote_above_the_cap_is_refused_unread() -> None:
    data = QUOTE.ljust(MAX_TDX_QUOTE_SIZE, b"\0")
    assert parse_tdx_quote(data).raw == QUOTE
    assert refusal(parse_tdx_quote, data + b"\0") is Reason.TOO_LARGE
    assert refusal(parse_tdx_quote, bytes(1 << 20)) is Reason.TOO_LARGE


def test_E14_hostile_lengths_are_refused_at_once() -> None:
    start = time.perf_counter()
    for offset in (AUTH_LENGTH, OUTER + 2, INNER + 2):
        assert refusal(parse_tdx_quote, changed(offset, b"\xff\xff\xff\xff")) is Reason.QUOTE_FORMAT
    assert time.perf_counter() - start < 0.05 * 3
