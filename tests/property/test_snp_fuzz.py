"""Any bytes are refused as SNP evidence with a typed reason, quickly, or they are the genuine ones.

`--hypothesis-profile deep` samples more than 20,000 changes of a report.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st
from support.quick import quickly
from support.snp import NOW, WEB, amd, chip

from toposeal.errors import EvidenceError
from toposeal.evidence.amd_x509 import parse_amd_certificate, parse_amd_crl, split_certificates
from toposeal.evidence.ghcb_table import ASK, VCEK, parse_certificate_table
from toposeal.evidence.snp_certs import parse_endorsement, parse_endorsements
from toposeal.evidence.snp_report import REPORT_SIZE, parse_snp_report
from toposeal.verification.snp_authentic import authenticate
from toposeal_lab.simsnp import certificate_table

MANY = settings(max_examples=max(500, settings.default.max_examples if settings.default else 0))
LIMIT_SECONDS, LIMIT_BYTES = 0.05, 10 << 20


@cache
def genuine() -> tuple[bytes, bytes, bytes, bytes]:
    """Report, certificate, chain, list: made once, when a test first runs."""
    machine = chip()
    return machine.report(bytes(64), WEB), machine.certificate, machine.chain, amd().crl([amd().asvk])


def believed(report: bytes, key: bytes, chain: bytes, crl: bytes) -> bool:
    """Whether it is authentic. Anything but a typed refusal escapes, and so does a slow one."""

    def work() -> bool:
        try:
            endorsed = parse_endorsements(key, chain, crl)
            authenticate(parse_snp_report(report), endorsed, amd().anchors(), NOW)
        except EvidenceError as refused:
            assert refused.mismatches
            return False
        return True

    return quickly(work, LIMIT_SECONDS)


def refused_or_parsed(parse: Callable[[bytes], object], data: bytes) -> None:
    def work() -> None:
        try:
            parse(data)
        except EvidenceError as refused:
            assert refused.mismatches

    quickly(work, LIMIT_SECONDS)


def changed(data: bytes, offset: int, bit: int) -> bytes:
    place = offset % len(data)
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


def test_the_unchanged_evidence_is_the_positive_control() -> None:
    assert believed(*genuine())


@given(st.integers(0, REPORT_SIZE - 1), st.integers(0, 7))
@MANY
def test_E13_no_flipped_bit_of_a_report_is_believed(offset: int, bit: int) -> None:
    report, *rest = genuine()
    assert not believed(changed(report, offset, bit), *rest)


def test_E13_no_flipped_bit_outside_the_signed_part_is_believed() -> None:
    report, *rest = genuine()
    assert [o for o in range(0x2A0, REPORT_SIZE) if believed(changed(report, o, o % 8), *rest)] == []


@given(st.integers(0, 1 << 12), st.integers(0, 7), st.sampled_from([1, 2, 3]))
@MANY
def test_E13_no_flipped_bit_of_what_vouches_for_it_is_believed(offset: int, bit: int, part: int) -> None:
    pieces = list(genuine())
    pieces[part] = changed(pieces[part], offset, bit)
    assert not believed(*pieces)


@given(st.integers(0, REPORT_SIZE), st.integers(0, REPORT_SIZE), st.binary(max_size=200))
@MANY
def test_E14_no_cut_or_spliced_report_is_believed(start: int, end: int, middle: bytes) -> None:
    report, *rest = genuine()
    spliced = report[:start] + middle + report[end:]
    assert believed(spliced, *rest) == (spliced == report)


@given(st.integers(0, 3), st.integers(0, 5000), st.integers(0, 5000), st.binary(max_size=60))
@MANY
def test_E14_no_cut_or_spliced_part_raises_anything_else(
    part: int, start: int, end: int, middle: bytes
) -> None:
    pieces = list(genuine())
    pieces[part] = pieces[part][:start] + middle + pieces[part][end:]
    assert believed(*pieces) == (pieces[part] == genuine()[part])


@given(st.binary(max_size=2000) | st.binary(min_size=REPORT_SIZE, max_size=REPORT_SIZE))
def test_E14_arbitrary_bytes_are_no_report(data: bytes) -> None:
    refused_or_parsed(parse_snp_report, data)


@given(st.binary(max_size=2000))
def test_E14_arbitrary_bytes_are_no_certificate_no_list_no_table(data: bytes) -> None:
    refused_or_parsed(lambda each: parse_amd_certificate(each, "certificate"), data)
    refused_or_parsed(parse_endorsement, b"\x30\x82\x05\x00" + data)
    refused_or_parsed(lambda each: split_certificates(each, "chain"), b"-----BEGIN CERTIFICATE-----\n" + data)
    refused_or_parsed(parse_amd_crl, data)
    refused_or_parsed(parse_certificate_table, data)


@given(st.integers(0, 3000), st.integers(0, 7), st.integers(0, 3000))
@MANY
def test_E14_a_changed_table_is_refused_or_another_table(offset: int, bit: int, end: int) -> None:
    _, leaf, chain, _ = genuine()
    table = certificate_table([(VCEK, leaf), (ASK, chain)])
    refused_or_parsed(parse_certificate_table, changed(table, offset % 72, bit))
    refused_or_parsed(parse_certificate_table, table[:end])


def test_E14_refusing_takes_little_memory() -> None:
    report, leaf, chain, crl = genuine()
    huge = b"\x30\x84\xff\xff\xff\xff"
    tracemalloc.start()
    for pieces in (
        (bytes(64 << 10), leaf, chain, crl),
        (report, huge + leaf, chain, crl),
        (report, leaf, chain * 100, crl),
        (report, leaf, chain, huge + crl),
    ):
        assert not believed(*pieces)
    refused_or_parsed(parse_certificate_table, b"\xff" * (32 << 10))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < LIMIT_BYTES
