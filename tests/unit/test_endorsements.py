"""What vouches for this machine's report: table, bundle, cache, AMD, in this order and each checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.snp import NOW, WEB, amd, chip, report
from support.tdx import PKI

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence import ghcb_table
from toposeal.evidence.bundle import Bundle, read_chain
from toposeal.evidence.snp_certs import KeyKind
from toposeal.evidence.snp_report import SnpReport, parse_snp_report
from toposeal.evidence.snp_tcb import Product, SnpTcb
from toposeal.host import vendor_http
from toposeal.host.collateral_cache import CollateralCache
from toposeal.host.endorsements import Endorsed, Endorser
from toposeal.host.kds import Kds
from toposeal.verification.anchors import VENDOR_ANCHORS
from toposeal_lab.simsnp import LabAmd, LabChip, ReportShape, RsaKeys, certificate_table
from toposeal_lab.simsnp.pki import der, pem
from toposeal_lab.vendor_service import Fault, VendorService, vendor_service

CHIP, VLEK = chip(), chip(kind=KeyKind.VLEK)
ANCHORS = replace(PKI.anchors(), amd_roots=amd().anchors().amd_roots)
ASK, ASVK, ARK = der(amd().ask), der(amd().asvk), der(amd().ark)
FOUND = Endorsed(CHIP.certificate, ASK, ARK, Product.GENOA, KeyKind.VCEK)
TABLE = certificate_table([(ghcb_table.VCEK, CHIP.certificate), (ghcb_table.ASK, ASK)])
BUNDLE = Bundle(endorsements=(CHIP.certificate,), chains=(read_chain(CHIP.chain),))
OLD = LabChip(amd(), bytes(range(1, 65)), tcb=SnpTcb(bl=9, tee=2, snp=25, ucode=210))


@pytest.fixture(scope="module")
def running() -> Iterator[VendorService]:
    with vendor_service() as service:
        service.serve_snp([CHIP])
        yield service


@pytest.fixture
def server(running: VendorService, monkeypatch: pytest.MonkeyPatch) -> VendorService:
    monkeypatch.setattr(vendor_http, "VENDOR_BACKOFF", 1)
    running.faults.clear()
    running.requests.clear()
    return running


def missing(endorser: Endorser, said: SnpReport, table: bytes = b"") -> tuple[Reason, ...]:
    with pytest.raises(EvidenceError) as refused:
        endorser.find(said, table, NOW)
    assert refused.value.reason is Reason.COLLATERAL_MISSING
    return tuple(mismatch.reason for mismatch in refused.value.mismatches[1:])


def test_the_hosts_table_is_enough() -> None:
    assert Endorser(ANCHORS).find(report(CHIP), TABLE, NOW) == FOUND


def test_pem_in_the_table_is_taken_too() -> None:
    entries = [(ghcb_table.VCEK, pem(CHIP.certificate)), (ghcb_table.ASK, pem(ASK))]
    assert Endorser(ANCHORS).find(report(CHIP), certificate_table(entries), NOW) == FOUND


def test_a_vlek_is_the_tables_or_the_owners() -> None:
    found = Endorsed(VLEK.certificate, ASVK, ARK, Product.GENOA, KeyKind.VLEK)
    entries = [(ghcb_table.VLEK, VLEK.certificate), (ghcb_table.ASK, ASVK)]
    assert Endorser(ANCHORS).find(report(VLEK), certificate_table(entries), NOW) == found
    bundle = Bundle(endorsements=(VLEK.certificate,), chains=(read_chain(VLEK.chain),))
    assert Endorser(ANCHORS, bundle).find(report(VLEK), b"", NOW) == found


@pytest.mark.parametrize(
    "table",
    [
        b"",
        b"garbage",
        certificate_table([(ghcb_table.VCEK, OLD.certificate), (ghcb_table.ASK, ASK)]),
        certificate_table([(ghcb_table.VCEK, b"garbage")]),
        certificate_table([(ghcb_table.VLEK, VLEK.certificate)]),
        certificate_table([(ghcb_table.VCEK, LabChip(amd(), bytes([7] * 64)).certificate)]),
    ],
    ids=["none", "unreadable", "old", "no certificate", "another kind", "another chip"],
)
def test_E10_fault_13_without_a_good_table_the_owners_bundle_vouches(table: bytes) -> None:
    assert Endorser(ANCHORS, BUNDLE).find(report(CHIP), table, NOW) == FOUND


def test_E10_fault_13_without_table_and_bundle_amd_is_asked_once_and_the_cache_from_then_on(
    server: VendorService, tmp_path: Path
) -> None:
    cache = CollateralCache(str(tmp_path / "cache"), ANCHORS)
    asking = Endorser(ANCHORS, cache=cache, kds=Kds(server.service))
    assert asking.find(report(CHIP), b"", NOW) == FOUND
    assert len(server.requests) == 2
    assert asking.find(report(CHIP), b"", NOW) == FOUND
    assert len(server.requests) == 2
    again = CollateralCache(str(tmp_path / "cache"), ANCHORS)
    assert Endorser(ANCHORS, cache=again).find(report(CHIP), b"", NOW) == FOUND


def test_fault_13_the_tables_certificate_is_kept_for_the_day_that_it_has_none(tmp_path: Path) -> None:
    cache = CollateralCache(str(tmp_path / "cache"), ANCHORS)
    assert Endorser(ANCHORS, cache=cache).find(report(CHIP), TABLE, NOW) == FOUND
    assert Endorser(ANCHORS, cache=cache).find(report(CHIP), b"", NOW) == FOUND


def test_F6_a_damaged_cached_certificate_is_fetched_anew(server: VendorService, tmp_path: Path) -> None:
    cache = CollateralCache(str(tmp_path / "cache"), ANCHORS)
    asking = Endorser(ANCHORS, cache=cache, kds=Kds(server.service))
    asking.find(report(CHIP), b"", NOW)
    for path in (tmp_path / "cache").glob("*-*.*"):
        path.write_bytes(b"damage")
    assert asking.find(report(CHIP), b"", NOW) == FOUND
    assert len(server.requests) == 4


def test_E10_a_table_whose_ca_is_false_does_not_hide_the_true_one(server: VendorService) -> None:
    false = certificate_table([(ghcb_table.VCEK, CHIP.certificate), (ghcb_table.ASK, ASVK)])
    assert Endorser(ANCHORS, BUNDLE).find(report(CHIP), false, NOW) == FOUND
    assert Endorser(ANCHORS, kds=Kds(server.service)).find(report(CHIP), false, NOW) == FOUND


def test_nothing_at_all_is_refused_with_every_reason(server: VendorService) -> None:
    assert missing(Endorser(ANCHORS), report(CHIP)) == ()
    assert missing(Endorser(ANCHORS), report(CHIP), b"garbage") == (Reason.CERTIFICATE_TABLE,)
    lone = certificate_table([(ghcb_table.VCEK, CHIP.certificate)])
    assert missing(Endorser(ANCHORS), report(CHIP), lone) == (Reason.COLLATERAL_MISSING,)
    server.faults["/vcek"] = Fault(status=404)
    assert missing(Endorser(ANCHORS, kds=Kds(server.service)), report(CHIP)) == (Reason.NETWORK,)


def test_E10_a_forged_certificate_with_the_right_names_vouches_for_nothing(server: VendorService) -> None:
    keys = amd().keys
    forger = LabAmd.create(Product.GENOA, NOW, RsaKeys(keys.ark, keys.asvk, keys.ask))
    forged = LabChip(forger, bytes(range(1, 65))).certificate
    table = certificate_table([(ghcb_table.VCEK, forged), (ghcb_table.ASK, ASK)])
    assert missing(Endorser(ANCHORS), report(CHIP), table) == (Reason.COLLATERAL_SIGNER,)
    assert Endorser(ANCHORS, kds=Kds(server.service)).find(report(CHIP), table, NOW) == FOUND


def test_E17_certificates_under_another_root_vouch_for_nothing() -> None:
    assert Reason.COLLATERAL_SIGNER in missing(Endorser(VENDOR_ANCHORS), report(CHIP), TABLE)


def test_E10_a_masked_chip_has_no_certificate(server: VendorService) -> None:
    masked = report(CHIP, ReportShape(mask_chip_id=True))
    endorser = Endorser(ANCHORS, BUNDLE, kds=Kds(server.service))
    assert missing(endorser, masked, TABLE) == (Reason.TCB_MISMATCH, Reason.CHIP_ID)
    assert server.requests == []


def test_a_report_without_cpuid_needs_to_be_told_its_product(server: VendorService) -> None:
    old = parse_snp_report(CHIP.report(bytes(64), WEB, ReportShape(version=2)))
    endorser = Endorser(ANCHORS, kds=Kds(server.service))
    assert missing(endorser, old) == ()
    assert endorser.find(old, b"", NOW, Product.GENOA) == FOUND


def test_a_ca_by_itself(server: VendorService) -> None:
    found = Endorser(ANCHORS, kds=Kds(server.service)).ca(Product.GENOA, KeyKind.VCEK, NOW)
    assert (found.ca.der, found.root.der) == (ASK, ARK)
