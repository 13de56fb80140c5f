"""The host's certificate table is read within its bounds, or refused; it is never believed."""

from __future__ import annotations

import struct

import pytest
from support.snp import amd, chip

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.ghcb_table import ARK, ASK, CRL, VCEK, VLEK, CertificateTable, parse_certificate_table
from toposeal_lab.simsnp import certificate_table
from toposeal_lab.simsnp.pki import der

OTHER = b"\x11" * 16


def refused(data: bytes) -> str:
    with pytest.raises(EvidenceError) as caught:
        parse_certificate_table(data)
    assert caught.value.reason is Reason.CERTIFICATE_TABLE
    return str(caught.value)


def raw(*entries: tuple[bytes, int, int], size: int = 300) -> bytes:
    """Entries with offsets and lengths as given, a terminator, and zeros up to `size`."""
    head = b"".join(guid + struct.pack("<II", offset, length) for guid, offset, length in entries)
    return (head + bytes(24)).ljust(size, b"\0")


def test_a_table_gives_what_its_guids_name() -> None:
    vendor = amd()
    blobs = [(VCEK, chip().certificate), (ASK, der(vendor.ask)), (ARK, der(vendor.ark)), (CRL, vendor.crl())]
    for gap in (0, 8):
        table = parse_certificate_table(certificate_table(blobs, gap))
        assert (table.vcek, table.ca, table.root, table.crl) == tuple(blob for _, blob in blobs)
        assert table.vlek is None


def test_guids_stand_in_the_order_of_rfc_4122() -> None:
    """As a table of AWS has it: the text form's first byte comes first."""
    assert VLEK.hex().startswith("a8074bc2a25a483e")
    assert parse_certificate_table(certificate_table([(VLEK, b"x")])).vlek == b"x"


def test_an_empty_table_is_a_table() -> None:
    assert parse_certificate_table(b"") == CertificateTable()
    assert parse_certificate_table(bytes(24)) == CertificateTable()
    assert parse_certificate_table(bytes(4096)) == CertificateTable()


def test_other_guids_are_passed_over_and_still_checked() -> None:
    table = certificate_table([(OTHER, b"x"), (VCEK, b"y")])
    assert parse_certificate_table(table) == CertificateTable(vcek=b"y")
    assert "none" not in refused(raw((OTHER, 1 << 31, 1)))


@pytest.mark.parametrize("size", [1, 23, 25, 47])
def test_a_table_without_terminator_is_refused(size: int) -> None:
    assert "terminating entry" in refused((VCEK + struct.pack("<II", 24, 1) + b"\1" * 24)[:size])


def test_eight_entries_and_no_more() -> None:
    blobs = [(bytes([index]) * 16, b"x") for index in range(1, 10)]
    assert parse_certificate_table(certificate_table(blobs[:8])) == CertificateTable()
    assert "at most 8" in refused(certificate_table(blobs))


def test_more_than_the_kernel_gives_is_refused() -> None:
    assert parse_certificate_table(bytes(32 << 10)) == CertificateTable()
    assert "32769 bytes" in refused(bytes((32 << 10) + 1))


def test_a_guid_twice_is_refused() -> None:
    assert "every GUID once" in refused(certificate_table([(VCEK, b"x"), (VCEK, b"y")]))


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (48, 0),
        (0, 24),
        (24, 1),
        (47, 2),
        (48, 253),
        (300, 1),
        (301, 0),
        (299, 2),
        ((1 << 32) - 1, 1),
        (48, (1 << 32) - 1),
        ((1 << 32) - 1, (1 << 32) - 1),
    ],
)
def test_E14_a_blob_lies_inside_and_behind_the_entries(offset: int, length: int) -> None:
    assert parse_certificate_table(raw((VCEK, 48, 252))).vcek == bytes(252)
    refused(raw((VCEK, offset, length)))


def test_blobs_do_not_overlap() -> None:
    apart = raw((VCEK, 200, 50), (ARK, 100, 100))
    assert parse_certificate_table(apart).root == bytes(100)
    for second in ((100, 101), (249, 1), (200, 50), (150, 120)):
        refused(raw((VCEK, 200, 50), (ARK, *second)))
