"""A refusal of dcap-qvl is explained by the first fact that does not hold."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from support.tdx import HOST, NOW, PKI, PPID, quote

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.collateral import parse_collateral
from toposeal.evidence.pck import parse_pck_chain
from toposeal.evidence.tdx_quote import TdxQuote
from toposeal.verification.tdx_authentic import authenticate
from toposeal.verification.tdx_diagnosis import diagnose
from toposeal_lab.simtdx import LabHost, LabPki
from toposeal_lab.simtdx.pki import PLATFORM_CA_NAME, issue

REFUSAL = EvidenceError.of(Reason.QUOTE_SIGNATURE, "quote", "its words", "acceptance by dcap-qvl")


def explain(quote: TdxQuote, pki: LabPki = PKI, **spec: Any) -> tuple[Reason, str]:
    pck = parse_pck_chain(quote.auth.pck_chain)
    error = diagnose(quote, pck, parse_collateral(pki.collateral(**spec)), REFUSAL)
    assert error.mismatches[-1] == REFUSAL.mismatches[0]
    return error.reason, error.mismatches[0].field


def altered(**auth: Callable[[bytes], bytes]) -> TdxQuote:
    """A genuine quote with parts of its authentication changed."""
    original = quote()
    parts = {name: change(getattr(original.auth, name)) for name, change in auth.items()}
    return replace(original, auth=replace(original.auth, **parts))  # type: ignore[arg-type]


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def test_all_facts_hold_so_no_tcb_level_admits_the_platform() -> None:
    assert explain(quote()) == (Reason.TCB_STATUS, "quote.tee_tcb_svn")


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ("attestation_key", "quote.attestation_key"),
        ("qe_auth_data", "quote.attestation_key"),
        ("signature", "quote.signature"),
        ("qe_report_signature", "quote.qe_report_signature"),
    ],
)
def test_a_signature_of_the_quote(part: str, field: str) -> None:
    assert explain(altered(**{part: flipped})) == (Reason.QUOTE_SIGNATURE, field)


def test_a_key_that_is_no_point() -> None:
    """Bound by a QE that would sign anything; the curve has no such point."""
    original = quote()
    key = b"\xff" * 64
    bound = hashlib.sha256(key + original.auth.qe_auth_data).digest() + bytes(32)
    report = replace(original.auth.qe_report, report_data=bound)
    forged = replace(original, auth=replace(original.auth, attestation_key=key, qe_report=report))
    assert explain(forged) == (Reason.QUOTE_SIGNATURE, "quote.signature")


def test_a_zero_signature_is_a_false_one() -> None:
    assert explain(altered(signature=lambda data: bytes(64))) == (Reason.QUOTE_SIGNATURE, "quote.signature")


def test_a_leaf_of_another_ca() -> None:
    other = LabPki.create(NOW)
    mixed = replace(PKI, platform_ca=replace(PKI.platform_ca, key=other.platform_ca.key))
    assert explain(quote(LabHost(mixed, PPID))) == (Reason.QUOTE_SIGNATURE, "quote.pck_chain.leaf")


def test_a_platform_ca_of_another_root() -> None:
    ca = issue(PLATFORM_CA_NAME, LabPki.create(NOW).root, NOW, path_length=0)
    mixed = replace(PKI, platform_ca=ca)
    assert explain(quote(LabHost(mixed, PPID)), mixed) == (
        Reason.QUOTE_SIGNATURE,
        "quote.pck_chain.platform_ca",
    )


@pytest.mark.parametrize("document", ["tcb_info", "qe_identity"])
def test_a_document_that_was_not_signed(document: str) -> None:
    spec: dict[str, Any] = {"parts": {f"{document}_signature": "01" * 64}}
    assert explain(quote(), **spec) == (Reason.COLLATERAL_INVALID, f"collateral.{document}_signature")


@pytest.mark.parametrize(("member", "issuer"), [("root_ca_crl", PKI.root), ("pck_crl", PKI.platform_ca)])
def test_a_list_that_its_issuer_did_not_sign(member: str, issuer: Any) -> None:
    forged = PKI.crl(issuer, signer=HOST.pck).hex()
    assert explain(quote(), parts={member: forged}) == (Reason.COLLATERAL_INVALID, f"collateral.{member}")


def test_E10_who_was_revoked() -> None:
    expected = {
        "quote.pck_chain.leaf": HOST.pck,
        "quote.pck_chain.platform_ca": PKI.platform_ca,
        "collateral.tcb_info_issuer_chain": PKI.tcb_signing,
    }
    for field, revoked in expected.items():
        assert explain(quote(), revoked=(revoked.certificate,)) == (Reason.REVOKED, field)


def test_a_quoting_enclave_of_somebody_else() -> None:
    """The forgery that a verifier without a QE check would take (CVE-2026-22696)."""
    found = explain(quote(), qe={"mrsigner": "00" * 32})
    assert found == (Reason.QE_IDENTITY, "quote.qe_report.mrsigner")


@pytest.mark.parametrize(
    ("field", "identity"),
    [
        ("miscselect", {"miscselect": "01000000"}),
        ("attributes", {"attributes": "13" + "00" * 15}),
        ("isvprodid", {"isvprodid": 1}),
        ("isvsvn", {"tcbLevels": [{"tcb": {"isvsvn": 5}}, {"tcb": {"isvsvn": 6}}]}),
    ],
)
def test_a_quoting_enclave_of_another_build(field: str, identity: dict[str, Any]) -> None:
    """dcap-qvl's verdict, in our words; `SGX QE identity` of EVIDENCE is the third."""
    assert explain(quote(), qe=identity) == (Reason.QE_IDENTITY, f"quote.qe_report.{field}")
    with pytest.raises(EvidenceError) as refused:
        authenticate(quote(), (PKI.collateral(qe=identity),), PKI.anchors(), NOW)
    assert refused.value.reason is Reason.QE_IDENTITY


@pytest.mark.parametrize(
    ("field", "guest"),
    [("mrsignerseam", b"\1" * 48), ("seam_attributes", b"\1" + bytes(7))],
)
def test_a_tdx_module_of_somebody_else(field: str, guest: bytes) -> None:
    measured: dict[str, Any] = {field: guest}
    foreign = quote(**measured)
    assert explain(foreign) == (Reason.MEASUREMENT, f"quote.{field}")
    with pytest.raises(EvidenceError) as refused:
        authenticate(foreign, (PKI.collateral(),), PKI.anchors(), NOW)
    assert refused.value.reason is Reason.MEASUREMENT


@pytest.mark.parametrize("generation", [0, 2])
def test_a_tdx_module_of_another_generation(generation: int) -> None:
    """Before generations the module is judged by its one description."""
    found = explain(quote(tee_tcb_svn=bytes([5, generation, 6]) + bytes(13)))
    named = "collateral.tcb_info.tdxModuleIdentities TDX_02" if generation else "quote.tee_tcb_svn"
    assert found == (Reason.TCB_STATUS, named)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"qe_status": "Revoked"}, "quote.qe_report.isvsvn"),
        ({"module_status": "Revoked"}, "quote.tee_tcb_svn"),
    ],
)
def test_E8_what_is_revoked_is_named(spec: dict[str, Any], field: str) -> None:
    """Not the platform's level, which is another's to update."""
    assert explain(quote(), **spec) == (Reason.TCB_STATUS, field)
    with pytest.raises(EvidenceError) as refused:
        authenticate(quote(), (PKI.collateral(**spec),), PKI.anchors(), NOW)
    assert refused.value.mismatches[0].found == "a revoked TCB level"


def test_an_unsafe_guest_is_named_as_such() -> None:
    """SEPT_VE_DISABLE off, and all else that is unsafe besides."""
    error = diagnosed(quote(td_attributes=(1 | 1 << 29).to_bytes(8, "little")))
    found = [(mismatch.reason, mismatch.field) for mismatch in error.mismatches]
    assert found == [
        (Reason.TD_DEBUG, "quote.td_attributes"),
        (Reason.TD_MIGRATABLE, "quote.td_attributes"),
        (Reason.TD_ATTRIBUTES, "quote.td_attributes"),
        (Reason.QUOTE_SIGNATURE, "quote"),
    ]


@pytest.mark.parametrize("status", ["Revoked", "UpToDate"])
def test_an_unsafe_guest_on_a_platform_without_a_level_is_both(status: str) -> None:
    """As the pre-production vector is, with SEPT_VE_DISABLE off. The library names one of the two."""
    components = bytes([5, 1, 5 if status == "UpToDate" else 6]) + bytes(13)
    error = diagnosed(quote(td_attributes=bytes(8), tee_tcb_svn=components), status=status)
    found = [mismatch.reason for mismatch in error.mismatches]
    assert found == [Reason.TCB_STATUS, Reason.TD_ATTRIBUTES, Reason.QUOTE_SIGNATURE]


def test_a_level_of_the_pce_that_is_not_reached_is_none() -> None:
    level = {"tcb": {"pcesvn": 12, **components(5, 0, 6)}, "tcbStatus": "UpToDate"}
    error = diagnosed(quote(td_attributes=bytes(8)), tcb={"tcbLevels": [level]})
    assert error.reason is Reason.TCB_STATUS


def components(*svns: int) -> dict[str, Any]:
    tdx = [{"svn": svn} for svn in (*svns, *[0] * (16 - len(svns)))]
    return {"sgxtcbcomponents": [{"svn": 2}] * 16, "tdxtcbcomponents": tdx}


def test_before_generations_every_component_counts() -> None:
    for first, reason in ((4, Reason.TD_ATTRIBUTES), (6, Reason.TCB_STATUS)):
        level = {"tcb": {"pcesvn": 11, **components(first, 0, 6)}, "tcbStatus": "UpToDate"}
        made = quote(td_attributes=bytes(8), tee_tcb_svn=bytes([5, 0, 6]) + bytes(13))
        assert diagnosed(made, tcb={"tcbLevels": [level]}).reason is reason


def test_of_a_generation_the_module_has_its_own_levels() -> None:
    """TCB info's first two components are not its: they would call every module of a generation too old."""
    level = {"tcb": {"pcesvn": 11, **components(9, 9, 6)}, "tcbStatus": "UpToDate"}
    assert diagnosed(quote(td_attributes=bytes(8)), tcb={"tcbLevels": [level]}).reason is Reason.TD_ATTRIBUTES


def test_a_quoting_enclave_reaches_the_lowest_of_its_levels() -> None:
    levels = [{"tcb": {"isvsvn": svn}, "tcbStatus": "UpToDate"} for svn in (6, 4)]
    assert diagnosed(quote(td_attributes=bytes(8)), qe={"tcbLevels": levels}).reason is Reason.TD_ATTRIBUTES


def diagnosed(quote: TdxQuote, **spec: Any) -> EvidenceError:
    pck = parse_pck_chain(quote.auth.pck_chain)
    return diagnose(quote, pck, parse_collateral(PKI.collateral(**spec)), REFUSAL)


@pytest.mark.parametrize(
    "spec",
    [
        {"qe": {"isvprodid": None, "tcbLevels": []}},
        {"qe": {"miscselect": 1}},
        {"qe": {"tcbLevels": [1]}},
        {"tcb": {"tdxModuleIdentities": [{"id": 1}]}},
        {"tcb": {"tdxModuleIdentities": [{"id": "TDX_01"}]}},
        {"tcb": {"tdxModuleIdentities": None}},
    ],
)
def test_a_signed_document_of_another_shape_leaves_the_librarys_words(spec: dict[str, Any]) -> None:
    pck = parse_pck_chain(quote().auth.pck_chain)
    collateral = parse_collateral(PKI.collateral(**spec))
    found = diagnose(quote(), pck, collateral, REFUSAL)
    assert found is REFUSAL or found.reason is Reason.QE_IDENTITY


def test_a_fact_that_cannot_be_read_leaves_the_librarys_words() -> None:
    pck = parse_pck_chain(quote().auth.pck_chain)
    unreadable: Any = replace(parse_collateral(PKI.collateral()), root_ca_crl=cast(Any, Unreadable()))
    assert diagnose(quote(), pck, unreadable, REFUSAL) is REFUSAL


class Unreadable:
    """Stands for a list whose lazily parsed parts turn out to be no ASN.1."""

    @property
    def x509(self) -> None:
        raise ValueError("error parsing asn1 value")
