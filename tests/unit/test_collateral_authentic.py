"""Collateral by itself: whose it is, whether it is in force, and what orders it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from support.collateral import DAY, crl
from support.snp import NOW as SNP_NOW
from support.snp import amd, chip
from support.tdx import HOST, NOW, PKI, refusal

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.collateral import Crl, parse_collateral
from toposeal.evidence.snp_certs import KeyKind
from toposeal.evidence.snp_tcb import Product
from toposeal.verification import collateral_authentic
from toposeal.verification.anchors import VENDOR_ANCHORS
from toposeal.verification.collateral_authentic import (
    AmdCa,
    ListAge,
    authenticate_amd_ca,
    authenticate_amd_list,
    authenticate_collateral,
    authenticate_endorsement,
    list_age,
)
from toposeal_lab.simsnp.pki import LabAmd, RsaKeys, der
from toposeal_lab.simtdx import LabPki
from toposeal_lab.simtdx.pki import TCB_SIGNING_NAME, issue

ANCHORS = PKI.anchors()
AMD_ANCHORS = amd().anchors()


def reason(now: int = NOW, **overrides: Any) -> Reason:
    return refusal(authenticate_collateral, PKI.collateral(**overrides), ANCHORS, now)


def test_the_vendors_own_is_authentic() -> None:
    found = authenticate_collateral(PKI.collateral(), ANCHORS, NOW)
    assert (found.fmspc, found.evaluation, found.valid_until) == (PKI.fmspc, 20, NOW + 30 * DAY)
    assert [age for _, age in found.lists] == [ListAge(1, NOW - DAY)] * 2
    assert len({issuer for issuer, _ in found.lists}) == 2


def test_E10_another_root_signs_nothing() -> None:
    other = LabPki.create(NOW)
    assert refusal(authenticate_collateral, other.collateral(), ANCHORS, NOW) is Reason.COLLATERAL_SIGNER
    assert refusal(authenticate_collateral, PKI.collateral(), VENDOR_ANCHORS, NOW) is Reason.COLLATERAL_SIGNER


def test_E10_a_pck_key_signs_no_collateral() -> None:
    chain = (HOST.pck, PKI.root)
    assert reason(tcb_signer=chain) is Reason.COLLATERAL_SIGNER
    assert reason(qe_signer=chain) is Reason.COLLATERAL_SIGNER


def test_E10_the_signers_name_alone_is_not_enough() -> None:
    below = issue(TCB_SIGNING_NAME, PKI.platform_ca, NOW)
    assert reason(tcb_signer=(below, PKI.root)) is Reason.COLLATERAL_SIGNER


def test_E10_the_list_of_pck_certificates_is_the_platform_cas() -> None:
    chain = PKI.tcb_signing.pem() + PKI.root.pem()
    assert reason(parts={"pck_crl_issuer_chain": chain}) is Reason.COLLATERAL_SIGNER


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
@pytest.mark.parametrize("signature", ["00" * 64, "11" * 64, "ff" * 64])
def test_E10_another_signature_is_refused(name: str, signature: str) -> None:
    assert reason(parts={f"{name}_signature": signature}) is Reason.COLLATERAL_SIGNER


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
def test_E13_a_changed_text_is_refused(name: str) -> None:
    text = json.loads(PKI.collateral())[name].replace('"UpToDate"', '"UpToDate" ')
    assert reason(parts={name: text}) is Reason.COLLATERAL_SIGNER


@pytest.mark.parametrize("name", ["pck_crl", "root_ca_crl"])
def test_E10_a_list_of_somebody_else_is_refused(name: str) -> None:
    issuer = PKI.platform_ca if name == "pck_crl" else PKI.root
    by_another_key = PKI.crl(issuer, signer=PKI.tcb_signing)
    assert reason(parts={name: by_another_key.hex()}) is Reason.COLLATERAL_SIGNER
    of_another_issuer = PKI.crl(PKI.tcb_signing)
    assert reason(parts={name: of_another_issuer.hex()}) is Reason.COLLATERAL_SIGNER


@pytest.mark.parametrize("signer", [PKI.tcb_signing, PKI.platform_ca, PKI.root])
def test_E10_a_revoked_signer_is_refused(signer: Any) -> None:
    assert reason(revoked=(signer.certificate,)) is Reason.REVOKED


def test_V8_every_part_is_in_force() -> None:
    assert reason(now=NOW + 31 * DAY) is Reason.COLLATERAL_INVALID
    assert reason(now=NOW - 2 * DAY) is Reason.COLLATERAL_INVALID
    assert reason(now=NOW + 3 * DAY, days=2) is Reason.COLLATERAL_INVALID


def test_two_recoveries_in_one_entry_are_refused() -> None:
    assert reason(qe={"tcbEvaluationDataNumber": 21}) is Reason.COLLATERAL_INVALID


def test_a_lists_number_goes_before_its_date() -> None:
    assert ListAge(1, 200).older_than(ListAge(2, 100))
    assert ListAge(1, 100).older_than(ListAge(1, 200))
    assert not ListAge(1, 100).older_than(ListAge(1, 100))


def listed(number: int | None) -> x509.CertificateRevocationList:
    return x509.load_der_x509_crl(crl(PKI.root, days=1, number=number))


def test_a_list_without_a_number_counts_as_0() -> None:
    assert list_age(listed(None), "crl") == ListAge(0, NOW)
    assert list_age(listed((1 << 160) - 1), "crl").number == (1 << 160) - 1


class Broken:
    """A list whose parts cannot be read: hostile DER fails only when it is touched."""

    issuer = PKI.root.certificate.subject

    @property
    def extensions(self) -> object:
        raise ValueError("touched")

    def __iter__(self) -> Iterator[object]:
        raise ValueError("touched")

    def is_signature_valid(self, key: object) -> bool:
        raise ValueError("touched")


def test_E14_a_number_beyond_20_bytes_and_a_list_that_cannot_be_read_are_refused() -> None:
    assert refusal(list_age, listed(1 << 160), "crl") is Reason.COLLATERAL_INVALID

    assert refusal(list_age, Broken(), "crl") is Reason.COLLATERAL_INVALID
    broken_list = Crl(Broken(), b"", 0)  # type: ignore[arg-type]
    parsed = parse_collateral(PKI.collateral())
    root = parsed.tcb_info.chain[-1]
    assert refusal(collateral_authentic._expect_list, broken_list, root, "crl") is Reason.COLLATERAL_INVALID
    broken = replace(parsed, root_ca_crl=broken_list)
    assert refusal(collateral_authentic._expect_not_revoked, broken) is Reason.COLLATERAL_INVALID


def ask(kind: KeyKind = KeyKind.VCEK, now: int = SNP_NOW) -> AmdCa:
    ca = amd().ask if kind is KeyKind.VCEK else amd().asvk
    return authenticate_amd_ca(der(ca), Product.GENOA, kind, AMD_ANCHORS, now)


@pytest.mark.parametrize("kind", list(KeyKind))
def test_amds_ca_and_what_it_issued(kind: KeyKind) -> None:
    machine = chip(kind=kind)
    key = authenticate_endorsement(machine.certificate, ask(kind), SNP_NOW)
    assert (key.kind, key.product) == (kind, Product.GENOA)


def test_E10_a_ca_of_another_kind_product_or_root_is_refused() -> None:
    for arguments in (
        (der(amd().asvk), Product.GENOA, KeyKind.VCEK, AMD_ANCHORS, SNP_NOW),
        (der(amd().ask), Product.MILAN, KeyKind.VCEK, AMD_ANCHORS, SNP_NOW),
        (der(amd().ask), Product.GENOA, KeyKind.VCEK, VENDOR_ANCHORS, SNP_NOW),
    ):
        assert refusal(authenticate_amd_ca, *arguments) is Reason.COLLATERAL_SIGNER
    with pytest.raises(EvidenceError, match=r"chain\.ca"):
        ask(now=SNP_NOW + 40 * 365 * DAY)


def test_E10_an_endorsement_of_another_kind_ca_or_time_is_refused() -> None:
    vlek = chip(kind=KeyKind.VLEK).certificate
    assert refusal(authenticate_endorsement, vlek, ask(), SNP_NOW) is Reason.PRODUCT
    shared = RsaKeys.shared()
    swapped = LabAmd.create(Product.GENOA, SNP_NOW, RsaKeys(shared.ark, shared.asvk, shared.ask))
    other = authenticate_amd_ca(der(swapped.ask), Product.GENOA, KeyKind.VCEK, AMD_ANCHORS, SNP_NOW)
    found = refusal(authenticate_endorsement, chip().certificate, other, SNP_NOW)
    assert found is Reason.COLLATERAL_SIGNER
    late = SNP_NOW + 8 * 365 * DAY
    assert refusal(authenticate_endorsement, chip().certificate, ask(), late) is Reason.COLLATERAL_INVALID


def test_E10_a_certificate_that_is_no_ca_issues_nothing() -> None:
    genuine = ask()
    plain = replace(genuine, ca=replace(genuine.ca, extensions={}))
    found = refusal(authenticate_endorsement, chip().certificate, plain, SNP_NOW)
    assert found is Reason.COLLATERAL_SIGNER


def test_amds_lists_are_an_arks() -> None:
    found = authenticate_amd_list(amd().crl(), AMD_ANCHORS, SNP_NOW)
    assert (found.age, found.valid_until) == (ListAge(0, SNP_NOW - DAY), SNP_NOW - DAY + 365 * DAY)
    forged = amd().crl(signer=RsaKeys.shared().ask)
    assert refusal(authenticate_amd_list, forged, AMD_ANCHORS, SNP_NOW) is Reason.COLLATERAL_SIGNER
    late = SNP_NOW + 400 * DAY
    assert refusal(authenticate_amd_list, amd().crl(), AMD_ANCHORS, late) is Reason.COLLATERAL_INVALID
