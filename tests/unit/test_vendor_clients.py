"""host.pcs and host.kds against the lab's PCS, PCCS and KDS: what they ask for, and what comes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from support.snp import NOW as SNP_NOW
from support.snp import chip
from support.tdx import NOW, PKI

from toposeal.errors import EvidenceError, NetworkError, Reason, UsageError
from toposeal.evidence.snp_certs import KeyKind
from toposeal.evidence.snp_tcb import Product
from toposeal.host import vendor_http
from toposeal.host.kds import AMD_KDS, Kds
from toposeal.host.pcs import INTEL_PCS, Pcs, Update
from toposeal.verification.collateral_authentic import authenticate_amd_list, authenticate_collateral
from toposeal_lab.vendor_service import Fault, VendorService, vendor_service

COLLATERAL = PKI.collateral()
TDX, SGX = "/tdx/certification/v4", "/sgx/certification/v4"


@pytest.fixture(scope="module")
def running() -> Iterator[VendorService]:
    with vendor_service() as service:
        yield service


@pytest.fixture
def server(running: VendorService, monkeypatch: pytest.MonkeyPatch) -> VendorService:
    monkeypatch.setattr(vendor_http, "VENDOR_BACKOFF", 1)
    running.answers.clear()
    running.faults.clear()
    running.requests.clear()
    return running


def test_intels_service_gives_one_entry(server: VendorService) -> None:
    server.serve_tdx(COLLATERAL)
    found = Pcs(server.service, server.service).collateral(PKI.fmspc)
    assert json.loads(found) == json.loads(COLLATERAL)
    authenticate_collateral(found, PKI.anchors(), NOW)
    assert server.requests == [
        f"{TDX}/tcb?fmspc=50696D000001",
        f"{TDX}/qe/identity",
        f"{SGX}/pckcrl?ca=platform&encoding=der",
        "/IntelSGXRootCA.der",
    ]


@pytest.mark.parametrize("path", ["", "/", "/sgx/certification/v4/", "/tdx/certification/v4"])
def test_a_pccs_gives_the_same_whatever_its_url_ends_with(server: VendorService, path: str) -> None:
    server.serve_tdx(COLLATERAL, pccs=True)
    pccs = Pcs.pccs(server.url + path, server.ca_file)
    assert json.loads(pccs.collateral(PKI.fmspc)) == json.loads(COLLATERAL)
    assert server.requests[-1] == f"{SGX}/rootcacrl"


def test_the_early_update_is_asked_for_of_both(server: VendorService) -> None:
    server.serve_tdx(COLLATERAL)
    Pcs(server.service, server.service, Update.EARLY).collateral(PKI.fmspc)
    assert server.requests[:2] == [
        f"{TDX}/tcb?fmspc=50696D000001&update=early",
        f"{TDX}/qe/identity?update=early",
    ]


def test_an_identity_of_another_recovery_is_asked_for_by_number(server: VendorService) -> None:
    server.serve_tdx(PKI.collateral(evaluation=21))
    newest = server.answers[f"{TDX}/qe/identity"]
    server.serve_tdx(COLLATERAL)
    server.answers[f"{TDX}/qe/identity"] = newest
    found = Pcs(server.service, server.service).collateral(PKI.fmspc)
    assert authenticate_collateral(found, PKI.anchors(), NOW).evaluation == 20
    assert f"{TDX}/qe/identity?tcbEvaluationDataNumber=20" in server.requests


def test_E9_where_there_is_no_such_identity_the_mixture_is_refused_by_its_numbers(
    server: VendorService,
) -> None:
    server.serve_tdx(PKI.collateral(evaluation=21))
    newest = server.answers[f"{TDX}/qe/identity"]
    server.serve_tdx(COLLATERAL)
    server.answers[f"{TDX}/qe/identity"] = newest
    by_number = f"{TDX}/qe/identity?tcbEvaluationDataNumber=20"
    pcs = Pcs(server.service, server.service)
    del server.answers[by_number]
    with pytest.raises(EvidenceError, match="tcbEvaluationDataNumber"):
        authenticate_collateral(pcs.collateral(PKI.fmspc), PKI.anchors(), NOW)
    server.faults[by_number] = Fault(status=403)
    with pytest.raises(NetworkError):
        pcs.collateral(PKI.fmspc)


@pytest.mark.parametrize(
    "body", [b"<html>sign in</html>", b"", b'{"tcbInfo":{}}', b'{"tcbInfo":{},"signature":""}']
)
def test_other_content_is_a_refusal_of_evidence(server: VendorService, body: bytes) -> None:
    server.serve_tdx(COLLATERAL)
    server.faults["/tcb"] = Fault(body=body)
    with pytest.raises(EvidenceError) as refused:
        Pcs(server.service, server.service).collateral(PKI.fmspc)
    assert refused.value.reason is Reason.COLLATERAL_INVALID


def test_an_unknown_family_is_a_network_error(server: VendorService) -> None:
    with pytest.raises(NetworkError, match="404"):
        Pcs(server.service, server.service).collateral(bytes(6))


@pytest.mark.parametrize("product", list(Product))
def test_amds_service_gives_certificate_chain_and_list(server: VendorService, product: Product) -> None:
    machine = chip(product)
    server.serve_snp([machine])
    kds = Kds(server.service)
    assert kds.vcek(product, machine.chip_id, machine.tcb) == machine.certificate
    assert kds.chain(product, KeyKind.VCEK) == machine.chain
    crl = kds.revocation_list(product, KeyKind.VCEK)
    authenticate_amd_list(crl, machine.vendor.anchors(), SNP_NOW)


def test_E10_a_masked_chip_is_not_asked_for(server: VendorService) -> None:
    with pytest.raises(EvidenceError) as refused:
        Kds(server.service).vcek(Product.GENOA, bytes(64), chip().tcb)
    assert refused.value.reason is Reason.CHIP_ID
    assert server.requests == []


def test_the_vendors_own_services_are_the_defaults(server: VendorService) -> None:
    assert f"https://{Pcs.intel().api.authority}" == INTEL_PCS
    assert f"https://{Kds.amd().service.authority}" == AMD_KDS
    assert Kds.mirror(server.url, server.ca_file).service == server.service
    with pytest.raises(UsageError):
        Pcs.pccs("http://pccs:8081")
