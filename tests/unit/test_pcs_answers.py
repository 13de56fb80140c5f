"""Answers of Intel's PCS and of a PCCS become one entry, signed texts untouched."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from support.tdx import PKI

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.collateral import parse_collateral
from toposeal.evidence.pcs_answers import Answer, collateral_entry, evaluation_number, signed_part

PARTS: dict[str, str] = json.loads(PKI.collateral())


def answers(parts: dict[str, str] = PARTS) -> dict[str, Answer]:
    """The four answers out of which `parts` would have been made."""

    def document(name: str, member: str) -> bytes:
        return f'{{"{name}":{parts[member]},"signature":"{parts[member + "_signature"]}"}}'.encode()

    def chain(header: str, member: str) -> dict[str, str]:
        return {header: quote(parts[member])}

    return {
        "tcb": Answer(
            chain("tcb-info-issuer-chain", "tcb_info_issuer_chain"), document("tcbInfo", "tcb_info")
        ),
        "qe": Answer(
            chain("sgx-enclave-identity-issuer-chain", "qe_identity_issuer_chain"),
            document("enclaveIdentity", "qe_identity"),
        ),
        "pck_crl": Answer(
            chain("sgx-pck-crl-issuer-chain", "pck_crl_issuer_chain"), bytes.fromhex(parts["pck_crl"])
        ),
        "root_crl": Answer({}, bytes.fromhex(parts["root_ca_crl"])),
    }


def refusal(**changed: Answer) -> Reason:
    with pytest.raises(EvidenceError) as refused:
        collateral_entry(**answers() | changed)
    return refused.value.reason


def test_the_entry_is_the_one_that_the_answers_came_from() -> None:
    assert json.loads(collateral_entry(**answers())) == PARTS


def test_signed_texts_keep_every_byte() -> None:
    """Another spacing and order would be the same JSON, and another signature."""
    odd = '{ "b" :1,"a": [1, 2],\n"u":"\\u0041"}'
    assert signed_part(f'{{ "tcbInfo" : {odd} , "signature":"00"}}\n'.encode(), "tcbInfo") == (odd, "00")
    assert signed_part(f'{{"signature":"00","tcbInfo":{odd}}}'.encode(), "tcbInfo") == (odd, "00")


@pytest.mark.parametrize(
    "body",
    [
        b'{"tcbInfo":{},"signature":"00","more":1}',
        b'{"more":{},"tcbInfo":{},"signature":"00"}',
        b'{"tcbInfo":[],"signature":"00"}',
        b'{"tcbInfo":{},"signature":null}',
    ],
)
def test_E14_an_answer_has_two_members_and_no_other(body: bytes) -> None:
    with pytest.raises(EvidenceError, match="other members"):
        signed_part(body, "tcbInfo")


def test_a_pccs_writes_lists_as_text() -> None:
    der = bytes.fromhex(PARTS["pck_crl"])
    as_pem = x509.load_der_x509_crl(der).public_bytes(Encoding.PEM)
    for body in (PARTS["pck_crl"].encode(), PARTS["pck_crl"].upper().encode() + b"\n", as_pem):
        changed = Answer(answers()["pck_crl"].headers, body)
        entry = collateral_entry(**answers() | {"pck_crl": changed})
        assert parse_collateral(entry).pck_crl.der == der


def test_the_header_of_version_3_is_taken_too() -> None:
    tcb = answers()["tcb"]
    renamed = Answer({"sgx-tcb-info-issuer-chain": tcb.headers["tcb-info-issuer-chain"]}, tcb.body)
    assert json.loads(collateral_entry(**answers() | {"tcb": renamed})) == PARTS


def test_a_missing_or_foreign_chain_is_refused() -> None:
    tcb = answers()["tcb"]
    assert refusal(tcb=Answer({}, tcb.body)) is Reason.COLLATERAL_INVALID
    huge = {"tcb-info-issuer-chain": "A" * (33 << 10)}
    assert refusal(tcb=Answer(huge, tcb.body)) is Reason.COLLATERAL_INVALID
    other = {"tcb-info-issuer-chain": "%2D%ff%00"}
    assert refusal(tcb=Answer(other, tcb.body)) is Reason.CERTIFICATE_INVALID


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b"{}",
        b"{" * 100_000,
        b'{"tcbInfo":' + b"[" * 100_000,
        b'{"tcbInfo":{}}',
        b'{"signature":"00"}',
        b'{"tcbInfo":{},"signature":1}',
        b'{"tcbInfo":[],"signature":"00"}',
        b'{"tcbInfo":{},"tcbInfo":{},"signature":"00"}',
        b'{"tcbInfo":{},"signature":"00","more":1}',
        b'{"tcbInfo":{},"signature":"00"',
        b'{"tcbInfo":{},"signature":"00"} {}',
        b'{"tcbInfo" {},"signature":"00"}',
        b'{1:{},"signature":"00"}',
        b"<html>",
    ],
)
def test_E14_other_bodies_are_refused(body: bytes) -> None:
    tcb = Answer(answers()["tcb"].headers, body)
    assert refusal(tcb=tcb) is Reason.COLLATERAL_INVALID


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"0", b"-----BEGIN X509 CRL-----\nAA\n-----END X509 CRL-----\n", b"\x30\x00"]
)
def test_E14_other_lists_are_refused(body: bytes) -> None:
    assert refusal(root_crl=Answer({}, body)) is Reason.COLLATERAL_INVALID


def test_the_evaluation_number_is_read_before_anything_is_believed() -> None:
    assert evaluation_number(answers()["tcb"].body, "tcbInfo") == 20


@pytest.mark.parametrize("value", ['"20"', "-1", "true", "null", "2.0"])
def test_another_evaluation_number_is_refused(value: Any) -> None:
    body = f'{{"tcbInfo":{{"tcbEvaluationDataNumber":{value}}},"signature":"00"}}'.encode()
    with pytest.raises(EvidenceError, match="whole number"):
        evaluation_number(body, "tcbInfo")
