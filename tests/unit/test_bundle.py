"""One file for both vendors: read strictly, taken apart by what the parts say."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from support.snp import WEB, amd, chip, crl, report
from support.tdx import PKI, refusal

from toposeal.errors import Reason
from toposeal.evidence import pem
from toposeal.evidence.amd_x509 import parse_amd_crl
from toposeal.evidence.bundle import Bundle, SnpParts, parse_bundle, read_chain
from toposeal.evidence.snp_certs import KeyKind
from toposeal.evidence.snp_report import parse_snp_report
from toposeal.evidence.snp_tcb import Product, SnpTcb
from toposeal.limits import MAX_BUNDLE_SIZE, MAX_COLLATERAL_SIZE
from toposeal.verification.bundle_facts import bundle_facts
from toposeal_lab.simsnp import LabChip, ReportShape
from toposeal_lab.simsnp.pki import der

GENOA, VLEK = chip(), chip(kind=KeyKind.VLEK)
COLLATERAL, CRL = PKI.collateral(), amd().crl()
FULL = Bundle(
    tdx=(json.dumps(json.loads(COLLATERAL)).encode(),),
    endorsements=(GENOA.certificate, VLEK.certificate),
    chains=(read_chain(GENOA.chain), read_chain(VLEK.chain)),
    crls=(CRL,),
)


def test_what_is_written_is_read() -> None:
    assert parse_bundle(FULL.dump()) == FULL
    assert parse_bundle(Bundle(tdx=FULL.tdx).dump()) == Bundle(tdx=FULL.tdx)
    assert list(json.loads(Bundle(crls=FULL.crls).dump())) == ["snp"]


def test_dcap_qvls_own_forms_are_taken_too() -> None:
    assert parse_bundle(COLLATERAL) == Bundle(tdx=FULL.tdx)
    assert parse_bundle(b"[" + COLLATERAL + b"]") == Bundle(tdx=FULL.tdx)


def test_a_report_finds_what_vouches_for_it() -> None:
    assert FULL.for_report(report(GENOA)) == SnpParts(pem.encode(GENOA.certificate), GENOA.chain, CRL)
    assert FULL.for_report(report(VLEK)) == SnpParts(pem.encode(VLEK.certificate), VLEK.chain, CRL)


def test_E10_no_other_list_of_the_same_root_hides_a_revocation() -> None:
    """One ARK signs the list of ASK and that of ASVK; a bundle may have both, in any order."""
    revoking, of_the_other, old = crl(5, amd().ask), crl(6, amd().asvk), crl(4)
    for lists in ((of_the_other, revoking, old), (old, of_the_other, revoking)):
        found = replace(FULL, crls=lists).for_report(report(GENOA))
        assert found.crl == revoking


def test_E10_a_list_that_its_root_did_not_sign_is_not_left_out() -> None:
    forged = amd().crl([amd().ask], signer=amd().keys.ask)
    for lists in ((forged,), (CRL, forged)):
        assert refusal(replace(FULL, crls=lists).for_report, report(GENOA)) is Reason.COLLATERAL_SIGNER
    given = SnpParts(crl=CRL)
    assert replace(FULL, crls=(forged,)).for_report(report(GENOA), given).crl == CRL


def test_E9_of_several_lists_the_newest_is_found() -> None:
    for lists in ((crl(4), crl(5)), (crl(5), crl(4))):
        found = replace(FULL, crls=lists).for_report(report(GENOA))
        assert found.crl == max(lists, key=lambda each: parse_amd_crl(each).number)


def test_parts_that_are_not_there_are_none() -> None:
    lone = Bundle(endorsements=(GENOA.certificate,))
    assert lone.for_report(report(GENOA)) == SnpParts(pem.encode(GENOA.certificate), None, None)
    listless = Bundle(endorsements=lone.endorsements, chains=FULL.chains)
    assert listless.for_report(report(GENOA)) == SnpParts(pem.encode(GENOA.certificate), GENOA.chain, None)
    assert Bundle().for_report(report(GENOA)) == SnpParts()


def test_chain_and_list_need_no_key_beside_them() -> None:
    """What `fetch --product` writes: good for every chip of the product, whose key comes from elsewhere."""
    product = Bundle(chains=FULL.chains, crls=FULL.crls)
    for machine in (GENOA, VLEK):
        assert product.for_report(report(machine)) == SnpParts(None, machine.chain, CRL)
        given = SnpParts(machine.certificate)
        assert product.for_report(report(machine), given) == SnpParts(machine.certificate, machine.chain, CRL)
    turin = chip(Product.TURIN)
    assert product.for_report(report(turin)) == SnpParts()
    assert product.for_report(report(GENOA), SnpParts(turin.certificate)) == SnpParts(turin.certificate)


def test_the_given_keys_product_counts_where_the_report_names_none() -> None:
    product = Bundle(chains=FULL.chains, crls=FULL.crls)
    unnamed = parse_snp_report(GENOA.report(bytes(64), WEB, ReportShape(version=2)))
    assert product.for_report(unnamed) == SnpParts()
    found = product.for_report(unnamed, SnpParts(pem.encode(GENOA.certificate)))
    assert (found.chain, found.crl) == (GENOA.chain, CRL)


def test_E10_the_list_is_the_given_chains_whatever_chain_is_in_the_bundle() -> None:
    revoking, of_the_other = crl(5, amd().ask), crl(6, amd().asvk)
    for chains in ((), (read_chain(VLEK.chain),), FULL.chains):
        bundle = Bundle(chains=chains, crls=(revoking, of_the_other))
        given = SnpParts(GENOA.certificate, GENOA.chain)
        assert bundle.for_report(report(GENOA), given) == replace(given, crl=revoking)
        whole = replace(given, crl=CRL)
        assert bundle.for_report(report(GENOA), whole) == whole


@pytest.mark.parametrize(
    "given",
    [SnpParts(b"x"), SnpParts(b""), SnpParts(None, b""), SnpParts(None, pem.encode(der(amd().ask)))],
)
def test_E14_given_parts_that_cannot_be_read_are_refused(given: SnpParts) -> None:
    assert refusal(FULL.for_report, report(GENOA), given) is Reason.CERTIFICATE_INVALID


def test_E10_another_chip_tcb_or_kind_vouches_for_nothing() -> None:
    neighbour = LabChip(amd(), bytes(range(2, 66)))
    assert FULL.key_for(report(neighbour)) is None
    updated = LabChip(amd(), bytes(range(1, 65)), tcb=SnpTcb(11, 2, 25, 210))
    assert FULL.key_for(report(updated)) is None
    assert Bundle(endorsements=(VLEK.certificate,)).key_for(report(GENOA)) is None
    masked = report(GENOA, ReportShape(mask_chip_id=True))
    assert FULL.key_for(masked) is None
    for nobodys in (report(neighbour), report(updated), masked):
        assert FULL.for_report(nobodys).key is None


def test_E10_a_certificate_of_another_product_says_nothing() -> None:
    """Its layout of the TCB version is another one: that is no fault of the report's."""
    turin, genoa = chip(Product.TURIN), GENOA
    mixed = Bundle(endorsements=(genoa.certificate, turin.certificate))
    assert mixed.for_report(report(turin)).key == pem.encode(turin.certificate)
    unnamed = parse_snp_report(VLEK.report(bytes(64), WEB, ReportShape(version=2)))
    lent = Bundle(endorsements=(chip(Product.TURIN, KeyKind.VLEK).certificate,))
    assert lent.key_for(unnamed) is None


def test_a_turin_chip_is_known_by_its_eight_bytes() -> None:
    turin = chip(Product.TURIN)
    bundle = Bundle(endorsements=(turin.certificate,))
    assert bundle.key_for(report(turin)) == turin.certificate


def test_a_vlek_is_of_the_reports_product() -> None:
    old = VLEK.report(bytes(64), WEB, ReportShape(version=2))
    assert FULL.key_for(parse_snp_report(old)) == VLEK.certificate


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        1,
        None,
        {"tdx": {}},
        {"tdx": []},
        {"tdx": [1]},
        {"tdx": [{}] * 17},
        {"tdx": [], "more": 1},
        {"snp": []},
        {"snp": {"more": []}},
        {"snp": {"crls": {}}},
        {"snp": {"crls": [1]}},
        {"snp": {"crls": ["zz"]}},
        {"snp": {"crls": ["AB"]}},
        {"snp": {"crls": ["00"]}},
        {"snp": {"crls": ["00"] * 9}},
        {"snp": {"chains": ["\u00e9"]}},
        {"snp": {"chains": [pem.encode(GENOA.certificate).decode()]}},
        {"snp": {"endorsements": [GENOA.chain.decode()]}},
        {"snp": {"endorsements": [pem.encode(der(amd().ask)).decode()]}},
    ],
)
def test_E14_anything_else_is_refused(value: Any) -> None:
    found = refusal(parse_bundle, json.dumps(value).encode())
    assert found in (Reason.COLLATERAL_INVALID, Reason.CERTIFICATE_INVALID)


def test_E14_bytes_that_are_no_text_and_files_that_are_too_large_are_refused() -> None:
    assert refusal(parse_bundle, b"\xff") is Reason.COLLATERAL_INVALID
    assert refusal(parse_bundle, bytes(MAX_BUNDLE_SIZE + 1)) is Reason.TOO_LARGE
    long = {"tdx": [{"tcb_info": "A" * MAX_COLLATERAL_SIZE}]}
    assert refusal(parse_bundle, json.dumps(long).encode()) is Reason.TOO_LARGE


def test_the_facts_name_every_part() -> None:
    facts = bundle_facts(FULL)
    (tdx,) = facts["tdx"]
    assert (tdx["fmspc"], tdx["tcbInfo.tcbEvaluationDataNumber"], tdx["tcbLevels"]) == (
        PKI.fmspc.hex(),
        20,
        1,
    )
    assert (tdx["tcbInfo.signer"], tdx["pck_crl.cRLNumber"]) == ("Intel SGX TCB Signing", 1)
    parts = [each["part"] for each in facts["snp"]]
    assert parts == ["VCEK Genoa", "VLEK Genoa", "chain SEV-Genoa", "chain SEV-VLEK-Genoa", "revocation list"]
    assert (facts["snp"][0]["cspID"], facts["snp"][1]["cspID"]) == (None, "simulated provider")
    assert bundle_facts(Bundle()) == {"tdx": [], "snp": []}


def test_levels_that_are_no_list_are_none() -> None:
    (tdx,) = bundle_facts(Bundle(tdx=(PKI.collateral(tcb={"tcbLevels": None}),)))["tdx"]
    assert tdx["tcbLevels"] == 0
