"""Collateral is parsed strictly: nine members, exact sizes, no default for anything."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography import x509
from support.tdx import HOST, NOW, PKI, refusal

from toposeal.errors import Reason
from toposeal.evidence.collateral import parse_collateral
from toposeal.limits import MAX_COLLATERAL_SIZE

PARTS: dict[str, Any] = json.loads(PKI.collateral())
DAY = 86400


def reason(**parts: Any) -> Reason:
    return refusal(parse_collateral, json.dumps(PARTS | parts).encode())


def test_the_values_are_those_of_the_vendor() -> None:
    collateral = parse_collateral(PKI.collateral(evaluation=21))
    assert (collateral.fmspc, collateral.pce_id) == (PKI.fmspc, PKI.pce_id)
    assert collateral.tcb_info.evaluation == collateral.qe_identity.evaluation == 21
    assert collateral.tcb_info.text == json.loads(PKI.collateral(evaluation=21))["tcb_info"]
    assert collateral.tcb_info.chain[-1].der == PKI.root_der
    assert (collateral.tcb_info.issued, collateral.tcb_info.next_update) == (NOW - DAY, NOW + 30 * DAY)
    assert len(collateral.tcb_info.signature) == 64


def test_it_is_valid_until_its_first_part_expires() -> None:
    assert parse_collateral(PKI.collateral()).valid_until == NOW + 30 * DAY
    assert parse_collateral(PKI.collateral(days=2)).valid_until == NOW + DAY
    for member in ("tcb", "qe"):
        overrides: dict[str, Any] = {member: {"nextUpdate": "2026-10-01T00:00:00Z"}}
        assert parse_collateral(PKI.collateral(**overrides)).valid_until == 1_790_812_800


@pytest.mark.parametrize("name", sorted(PARTS))
def test_a_missing_member_is_refused(name: str) -> None:
    rest = {key: value for key, value in PARTS.items() if key != name}
    assert refusal(parse_collateral, json.dumps(rest).encode()) is Reason.COLLATERAL_INVALID


@pytest.mark.parametrize("name", sorted(PARTS))
@pytest.mark.parametrize("value", [None, 1, [], {}, "", "\u00e9", "zz", "00"])
def test_a_member_of_another_kind_is_refused(name: str, value: Any) -> None:
    assert reason(**{name: value}) in {Reason.COLLATERAL_INVALID, Reason.COLLATERAL_SIGNER}


def test_E10_a_pck_chain_beside_the_quotes_is_refused() -> None:
    """Newer writers may add it; the library would then believe it instead of the quote's own."""
    chain = HOST.pck.pem() + PKI.platform_ca.pem() + PKI.root.pem()
    assert reason(pck_certificate_chain=chain) is Reason.COLLATERAL_INVALID


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"\xef\xbb\xbf{}", "{}".encode("utf-16"), b"{}"])
def test_other_bytes_are_refused(data: bytes) -> None:
    assert refusal(parse_collateral, data) is Reason.COLLATERAL_INVALID


def test_collateral_above_the_cap_is_refused_unread() -> None:
    assert refusal(parse_collateral, PKI.collateral().ljust(MAX_COLLATERAL_SIZE + 1)) is Reason.TOO_LARGE


@pytest.mark.parametrize("name", ["tcb_info_signature", "qe_identity_signature"])
@pytest.mark.parametrize("size", [0, 63, 65])
def test_a_signature_of_another_size_is_refused(name: str, size: int) -> None:
    assert reason(**{name: "00" * size}) is Reason.COLLATERAL_INVALID


@pytest.mark.parametrize("text", ["0", "0g", "00 00", "0x00", "00\n", "\u0660\u0660"])
def test_hexadecimal_is_digits_alone(text: str) -> None:
    assert reason(pck_crl=text) is Reason.COLLATERAL_INVALID


@pytest.mark.parametrize("document", ["tcb", "qe"])
@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("id", "SGX"),
        ("id", "QE"),
        ("id", None),
        ("version", 4),
        ("version", "3"),
        ("tcbEvaluationDataNumber", None),
        ("tcbEvaluationDataNumber", "20"),
        ("tcbEvaluationDataNumber", True),
        ("tcbEvaluationDataNumber", -1),
        ("issueDate", None),
        ("issueDate", 1),
        ("issueDate", "2026-01-01"),
        ("issueDate", "2026-02-30T00:00:00Z"),
        ("issueDate", "2026-01-01T00:00:00+01:00"),
        ("nextUpdate", "2026-01-01t00:00:00z"),
        ("nextUpdate", "\u0662026-01-01T00:00:00Z"),
    ],
)
def test_a_document_with_another_head_is_refused(document: str, member: str, value: Any) -> None:
    overrides: dict[str, Any] = {document: {member: value}}
    assert refusal(parse_collateral, PKI.collateral(**overrides)) is Reason.COLLATERAL_INVALID


@pytest.mark.parametrize(
    ("member", "value"),
    [("fmspc", None), ("fmspc", "00" * 5), ("fmspc", 1), ("pceId", "0"), ("pceId", "000000"), ("pceId", "")],
)
def test_tcb_info_of_no_platform_is_refused(member: str, value: Any) -> None:
    assert refusal(parse_collateral, PKI.collateral(tcb={member: value})) is Reason.COLLATERAL_INVALID


def test_a_qe_identity_without_mrsigner_is_refused() -> None:
    assert refusal(parse_collateral, PKI.collateral(qe={"mrsigner": None})) is Reason.COLLATERAL_INVALID


def test_a_list_that_never_expires_is_refused() -> None:
    """RFC 5280 demands nextUpdate, its ASN.1 does not."""
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256
    issuer = PKI.root.certificate.subject.public_bytes()
    listed = tlv(0x30, tlv(0x02, b"\x01") + algorithm + issuer + tlv(0x17, b"260101000000Z"))
    der = tlv(0x30, listed + algorithm + tlv(0x03, b"\0" + tlv(0x30, tlv(0x02, b"\x01") * 2)))
    assert x509.load_der_x509_crl(der).next_update_utc is None
    assert reason(root_ca_crl=der.hex()) is Reason.COLLATERAL_INVALID


def tlv(tag: int, content: bytes) -> bytes:
    length = bytes([len(content)]) if len(content) < 0x80 else bytes([0x81, len(content)])
    return bytes([tag]) + length + content
