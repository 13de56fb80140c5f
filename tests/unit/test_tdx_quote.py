"""The quote parser takes one genuine layout and names field and offset for everything else."""

from __future__ import annotations

import struct
import time

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
        (0, struct.pack("<H", 5), Reason.UNKNOWN_VERSION, "quote.version at 0"),
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


def test_E14_a_version_5_header_on_a_version_4_body_is_refused() -> None:
    host = LabHost(PKI, PPID, shape=QuoteShape(version=5))
    assert refusal(parse_tdx_quote, host.quote(bytes(64), WEB)) is Reason.UNKNOWN_VERSION


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
