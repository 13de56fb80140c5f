"""The simulated vendor is structurally genuine, says everywhere that it is not, and keeps its state."""

from __future__ import annotations

import json

import dcap_qvl  # type: ignore[import-untyped]
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from support.tdx import DB, HOST, MESH, NOW, PKI, PPID, WEB, topology

from toposeal_lab.simtdx import CollateralSpec, LabHost, LabPki, TdxMeasurements, lab_measurements
from toposeal_lab.simtdx.pki import Authority


def status(pki: LabPki, quote: bytes) -> str:
    collateral = dcap_qvl.QuoteCollateralV3.from_json(pki.collateral().decode())
    found: str = dcap_qvl.verify_with_root_ca(quote, collateral, pki.root_der, NOW).status
    return found


def test_an_independent_verifier_accepts_it_under_its_own_root() -> None:
    assert status(PKI, HOST.quote(bytes(64), WEB)) == "UpToDate"


def test_a_production_verifier_refuses_it() -> None:
    collateral = dcap_qvl.QuoteCollateralV3.from_json(PKI.collateral().decode())
    with pytest.raises(ValueError, match="Verification failed"):
        dcap_qvl.verify(HOST.quote(bytes(64), WEB), collateral, NOW)


@pytest.mark.parametrize("authority", [PKI.root, PKI.platform_ca, PKI.tcb_signing, HOST.pck])
def test_E17_every_certificate_says_that_it_is_simulated(authority: Authority) -> None:
    for name in (authority.certificate.subject, authority.certificate.issuer):
        values = [attribute.value for attribute in name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
        assert values == ["SIMULATED - not Intel"]


def test_its_state_restores_it() -> None:
    again = LabPki.load(PKI.dump())
    assert again.anchors() == PKI.anchors()
    assert again.dump() == PKI.dump()
    assert status(PKI, LabHost(again, PPID).quote(bytes(64), WEB)) == "UpToDate"


def test_a_state_with_another_kind_of_key_is_refused() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    state = json.loads(PKI.dump())
    state["root"]["key"] = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with pytest.raises(ValueError, match="EC keys"):
        LabPki.load(json.dumps(state).encode())


def test_an_unknown_wish_is_refused() -> None:
    with pytest.raises(TypeError):
        PKI.collateral(stauts="OutOfDate")
    assert CollateralSpec().status == "UpToDate"


def test_roles_are_told_apart_by_their_measured_configuration_alone() -> None:
    assert lab_measurements("web", MESH) == WEB
    assert WEB.mrtd == DB.mrtd
    assert len({WEB.mrconfigid, DB.mrconfigid, lab_measurements("web", "other").mrconfigid}) == 3
    assert len({lab_measurements("a", "bc").mrconfigid, lab_measurements("c", "ab").mrconfigid}) == 2


def test_references_are_what_a_topology_takes() -> None:
    reference = topology().roles["web"].tdx[0]
    assert (reference.mrtd, reference.mrconfigid) == (WEB.mrtd, WEB.mrconfigid)
    assert (*reference.rtmr, reference.rtmr3) == WEB.rtmr
    assert (reference.td_attributes, reference.xfam) == (WEB.td_attributes, WEB.xfam)
    assert reference.mrseam == frozenset({WEB.mrseam})


def test_measurements_survive_their_json() -> None:
    assert TdxMeasurements.load(json.loads(json.dumps(WEB.dump()))) == WEB
    assert TdxMeasurements.load({}) == TdxMeasurements()
    with pytest.raises(ValueError, match="four registers"):
        TdxMeasurements.load({"rtmr": ["00" * 48]})


@pytest.mark.parametrize("size", [0, 63, 65])
def test_report_data_of_another_size_makes_no_quote(size: int) -> None:
    with pytest.raises(ValueError, match="64 bytes"):
        HOST.quote(bytes(size), WEB)


def test_a_field_of_another_size_makes_no_quote() -> None:
    with pytest.raises(ValueError, match="its own size"):
        HOST.quote(bytes(64), TdxMeasurements(mrtd=bytes(47)))
