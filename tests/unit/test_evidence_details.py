"""What `toposeal evidence show` prints besides the fields of a verdict, and of a host's certificate table."""

from __future__ import annotations

import pytest
from support import gpu
from support.snp import WEB as SNP_WEB
from support.snp import amd, chip
from support.tdx import HOST, WEB

from toposeal.evidence.ghcb_table import (
    ARK,
    ASK,
    CRL,
    VCEK,
    VLEK,
    is_certificate_table,
    parse_certificate_table,
)
from toposeal.evidence.kind import EvidenceKind
from toposeal.evidence.tdx_quote import parse_tdx_quote
from toposeal.verification.evidence_details import read_details, table_facts
from toposeal_lab.simsnp import certificate_table
from toposeal_lab.simsnp.pki import der, pem

DATA = bytes(range(64))
QUOTE = HOST.quote(DATA, WEB)


def test_a_quote_tells_its_header_and_all_that_vouches_for_it() -> None:
    found, auth = read_details(EvidenceKind.TDX, QUOTE + b"text"), parse_tdx_quote(QUOTE).auth
    assert found["attestation_key_type"] == 2
    assert found["qe_vendor_id"] == "939a7233f79c4ca9940a0db3957f0607"
    assert found["user_data"] == QUOTE[28:48].hex()
    assert [name for name, bit in found["td_attributes_decoded"].items() if bit] == ["sept_ve_disable"]
    assert found["qe_report_mrsigner"] == auth.qe_report.mrsigner.hex()
    assert int.from_bytes(bytes.fromhex(found["qe_report_isvsvn"]), "little") == auth.qe_report.isvsvn
    assert found["qe_report_report_data"] == auth.qe_report.report_data.hex()
    assert found["signature"] == auth.signature.hex()
    assert found["qe_report_signature"] == auth.qe_report_signature.hex()


def test_a_report_tells_its_signature() -> None:
    report = chip().report(DATA, SNP_WEB)
    found = read_details(EvidenceKind.SNP, report)
    assert found["signature_r"] + found["signature_s"] == report[0x2A0:0x330].hex()


def test_a_devices_report_tells_its_measurements() -> None:
    assert "measurement 1" in read_details(EvidenceKind.GPU, gpu.gpu().report(gpu.NONCE))


def test_a_table_tells_what_each_of_amds_guids_names() -> None:
    blobs = [
        (VCEK, chip().certificate),
        (ASK, pem(der(amd().ask))),
        (ARK, der(amd().ark)),
        (CRL, amd().crl()),
    ]
    data = certificate_table([(bytes(range(16)), b"unknown"), *blobs])
    assert is_certificate_table(data)
    found = table_facts(parse_certificate_table(data))
    assert list(found) == ["ARK", "ASK", "VCEK", "CRL"]
    assert (found["ARK"]["cn"], found["ASK"]["cn"], found["ASK"]["issuer"]) == (
        "ARK-Genoa",
        "SEV-Genoa",
        "ARK-Genoa",
    )
    assert (found["VCEK"]["size"], found["VCEK"]["cn"]) == (len(chip().certificate), "SEV-VCEK")
    assert (found["CRL"]["number"], found["CRL"]["revoked"]) == (0, 0)


@pytest.mark.parametrize("guid", [VLEK, CRL])
def test_what_a_host_made_up_is_said_to_be_unreadable(guid: bytes) -> None:
    (found,) = table_facts(parse_certificate_table(certificate_table([(guid, b"anything")]))).values()
    assert found["size"] == 8
    assert found["unreadable"]


@pytest.mark.parametrize("data", [b"", bytes(240), QUOTE, chip().report(DATA, SNP_WEB), ARK[:15], b"x" + ARK])
def test_nothing_else_is_taken_for_a_table(data: bytes) -> None:
    assert not is_certificate_table(data)
