"""SNP evidence is believed for one binding, one role and one machine, step by step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.snp import (
    DB,
    NOW,
    WEB,
    amd,
    chip,
    context,
    crl,
    evidence,
    topology,
)
from support.tdx import BINDING, HOST, refusal
from support.tdx import WEB as TDX_WEB
from support.tdx import topology as tdx_topology

from toposeal._wire.evidence_pb2 import SEV_SNP, TDX, Evidence
from toposeal.errors import EvidenceError, PolicyError, Reason
from toposeal.evidence.binding import Binding, Purpose
from toposeal.evidence.snp_certs import KeyKind
from toposeal.evidence.snp_tcb import Product
from toposeal.topology.model import Topology
from toposeal.verification.appraise import appraise
from toposeal_lab.simsnp import LabChip, LeafShape, ReportShape
from toposeal_lab.simsnp.chip import default_tcb

TOPOLOGY = topology()
FLOORS = ("reported", "committed", "launch")


def reason(
    given: Evidence,
    expected: Binding = BINDING,
    *,
    by: Topology = TOPOLOGY,
    crls: tuple[bytes, ...] = (),
    **known: Any,
) -> Reason:
    return refusal(appraise, given, expected, by, context(*crls, **known))


def changed(**parts: Any) -> Evidence:
    """A genuine member's evidence with parts replaced."""
    given = evidence()
    for name, value in parts.items():
        given.ClearField(name)
        if isinstance(value, list):
            getattr(given, name).extend(value)
        else:
            setattr(given, name, value)
    return given


def test_genuine_evidence_is_believed() -> None:
    verified = appraise(evidence(), BINDING, TOPOLOGY, context())
    assert (verified.tee, verified.role, verified.binding) == ("snp", "web", BINDING)
    assert (verified.tcb_status, verified.advisories) == (f"Genoa {default_tcb(Product.GENOA)}", ())
    assert verified.platform == chip().chip_id
    assert verified.guest == bytes(range(32))
    assert verified.expires_at > NOW
    assert verified.gpus == ()


@pytest.mark.parametrize("product", [Product.GENOA, Product.TURIN])
@pytest.mark.parametrize("kind", KeyKind)
def test_each_product_and_kind_of_key_that_is_admitted_is_believed(product: Product, kind: KeyKind) -> None:
    machine, admitting = chip(product, kind), topology(endorsements=["VCEK", "VLEK"])
    verified = appraise(evidence(on=machine), BINDING, admitting, context())
    assert verified.platform == (machine.chip_id if kind is KeyKind.VCEK else b"")
    assert verified.tcb_status.startswith(f"{product} ")


@pytest.mark.parametrize("purpose", [Purpose.JOIN, Purpose.SEAL, Purpose.LIVE])
def test_E3_a_report_of_one_purpose_is_worth_nothing_for_another(purpose: Purpose) -> None:
    own = replace(BINDING, purpose=purpose)
    assert appraise(evidence(own), own, TOPOLOGY, context()).binding == own
    for other in Purpose:
        wanted = replace(BINDING, purpose=other)
        if other in (Purpose.KEYREL, Purpose.GPUBIND):
            assert reason(evidence(wanted), wanted) is Reason.EVIDENCE_KIND
        elif other is not purpose:
            assert reason(evidence(own), wanted) is Reason.REPORT_DATA


@pytest.mark.parametrize("place", [0, 1, 31, 47, 48, 63])
def test_E4_report_data_is_compared_whole(place: int) -> None:
    other = bytearray(BINDING.report_data())
    other[place] ^= 1
    given = changed(quote=chip().report(bytes(other), WEB))
    assert reason(given) is Reason.REPORT_DATA


def test_E4_no_report_at_all_is_refused() -> None:
    assert reason(Evidence(tee=SEV_SNP)) is Reason.QUOTE_FORMAT
    assert reason(changed(quote=chip().report(bytes(64), WEB))) is Reason.REPORT_DATA


def test_E5_a_genuine_guest_with_another_config_digest_is_refused() -> None:
    other = replace(WEB, host_data=b"\x01" * 32)
    assert reason(evidence(measured=other)) is Reason.CONFIG_DIGEST


def test_E6_the_role_is_the_measured_one_never_the_claimed_one() -> None:
    claim = replace(BINDING, role="db")
    assert reason(evidence(claim, WEB), claim) is Reason.ROLE_MISMATCH
    assert appraise(evidence(claim, DB), claim, TOPOLOGY, context()).role == "db"
    nobody = replace(BINDING, role="cache")
    assert reason(evidence(nobody), nobody) is Reason.ROLE_UNKNOWN


@pytest.mark.parametrize(("bit", "why"), [(19, Reason.GUEST_DEBUG), (18, Reason.GUEST_MIGRATABLE)])
def test_E7_no_topology_can_admit_an_unsafe_guest(bit: int, why: Reason) -> None:
    assert reason(evidence(measured=replace(WEB, policy=WEB.policy | 1 << bit))) is why


def test_E8_firmware_below_the_floor_is_refused() -> None:
    own = default_tcb(Product.GENOA).components()
    floor = {name: own | {"snp": own["snp"] + 1} for name in FLOORS}
    assert reason(evidence(), by=topology(products={"Genoa": floor})) is Reason.TCB_FLOOR


def test_E10_a_lent_key_where_the_owner_wants_the_chips_is_refused() -> None:
    assert reason(evidence(on=chip(kind=KeyKind.VLEK))) is Reason.SIGNING_KEY


def test_E10_a_key_without_its_own_CA_is_refused() -> None:
    other = evidence(on=chip(kind=KeyKind.VLEK))
    assert reason(changed(endorsement_ca=other.endorsement_ca)) is Reason.SIGNING_KEY
    assert reason(changed(endorsement=other.endorsement)) is Reason.SIGNING_KEY
    assert (
        reason(changed(endorsement_ca=evidence(on=chip(Product.TURIN)).endorsement_ca)) is Reason.SIGNING_KEY
    )


def test_E10_the_certificate_of_another_chip_is_refused() -> None:
    twin = LabChip(amd(), bytes(64))
    assert reason(changed(endorsement=twin.certificate)) is Reason.QUOTE_SIGNATURE


def test_E10_a_revoked_CA_is_refused() -> None:
    assert reason(evidence(), crls=(crl(1, amd().ask),)) is Reason.REVOKED
    assert appraise(evidence(), BINDING, TOPOLOGY, context(crl(1, amd().asvk))).role == "web"


def test_E9_of_several_lists_the_newest_by_number_counts() -> None:
    """Not the youngest by date, and not the one that is named first."""
    clean, revoking = crl(4, until=NOW + 900), crl(5, amd().ask, until=NOW + 100)
    for lists in ((clean, revoking), (revoking, clean)):
        assert reason(evidence(), crls=lists) is Reason.REVOKED
    newer = crl(6, until=NOW + 50)
    assert appraise(evidence(), BINDING, TOPOLOGY, context(clean, newer)).expires_at < NOW + 50
    expired = crl(7, until=NOW - 1)
    assert reason(evidence(), crls=(newer, expired)) is Reason.COLLATERAL_INVALID


def test_E10_the_newer_list_of_the_other_CA_hides_no_revocation() -> None:
    """One ARK signs the list of ASK and that of ASVK; they are numbered apart and look alike."""
    revoking, of_the_other = crl(5, amd().ask), crl(6, amd().asvk)
    for lists in ((of_the_other, revoking), (revoking, of_the_other)):
        assert reason(evidence(), crls=lists) is Reason.REVOKED


def test_a_list_of_another_root_says_nothing() -> None:
    other = crl(9, amd().ask, on=amd(Product.TURIN))
    assert appraise(evidence(), BINDING, TOPOLOGY, context(other)).role == "web"
    demanding = topology(crl="required")
    assert reason(evidence(), by=demanding, crls=(other,)) is Reason.COLLATERAL_MISSING
    assert appraise(evidence(), BINDING, demanding, context(other, crl(1))).role == "web"


def test_E10_a_list_in_the_roots_name_that_it_did_not_sign_is_refused() -> None:
    """Whoever supplied it meant it to count: no other list beside it, and no policy, makes up for it."""
    forged = amd().crl([amd().ask], signer=amd().keys.ask)
    for by in (TOPOLOGY, topology(crl="required")):
        for lists in ((forged,), (forged, crl(1)), (crl(1), forged)):
            assert reason(evidence(), by=by, crls=lists) is Reason.COLLATERAL_SIGNER
    turin = evidence(on=chip(Product.TURIN))
    assert appraise(turin, BINDING, TOPOLOGY, context(forged)).role == "web"


def test_a_list_that_is_none_is_refused() -> None:
    assert reason(evidence(), crls=(b"x",)) is Reason.COLLATERAL_INVALID


def test_crl_required_refuses_where_the_verifier_has_no_list() -> None:
    demanding = topology(crl="required")
    with pytest.raises(PolicyError) as refused:
        appraise(evidence(), BINDING, demanding, context())
    (found,) = refused.value.mismatches
    assert (found.reason, found.field) == (Reason.COLLATERAL_MISSING, "crl")
    assert found.expected == "the revocation list of ARK-Genoa"


def test_E11_a_genuine_machine_that_is_not_listed_is_refused() -> None:
    stranger = topology(platforms={"snp": ["ff" * 64]})
    assert reason(evidence(), by=stranger) is Reason.PLATFORM_REFUSED
    listed = topology(platforms={"snp": ["ff" * 64, chip().chip_id.hex()]})
    assert appraise(evidence(), BINDING, listed, context()).platform == chip().chip_id
    masked = ReportShape(mask_chip_id=True)
    assert reason(evidence(shape=masked), by=listed) is Reason.PLATFORM_REFUSED
    assert appraise(evidence(shape=masked), BINDING, TOPOLOGY, context()).platform == b""


def test_E12_Milan_is_refused_unless_it_is_admitted_by_name() -> None:
    milan = evidence(on=chip(Product.MILAN))
    assert reason(milan) is Reason.PRODUCT_REFUSED
    levels = dict.fromkeys(("bl", "tee", "snp", "ucode"), 0)
    admitting = topology(products={"Milan": {name: {**levels} for name in FLOORS}})
    assert appraise(milan, BINDING, admitting, context()).tcb_status.startswith("Milan ")
    assert reason(evidence(), by=admitting) is Reason.PRODUCT_REFUSED


def test_E17_a_product_without_a_pinned_root_is_refused() -> None:
    for products in ([], [Product.MILAN, Product.TURIN]):
        with pytest.raises(EvidenceError) as refused:
            appraise(evidence(), BINDING, TOPOLOGY, context(products=products))
        assert refused.value.mismatches[0].reason is Reason.QUOTE_SIGNATURE
        assert refused.value.mismatches[0].expected == "a pinned ARK-Genoa"


@pytest.mark.parametrize("name", ["endorsement", "endorsement_ca"])
def test_missing_endorsements_are_never_skipped(name: str) -> None:
    with pytest.raises(EvidenceError) as refused:
        appraise(changed(**{name: b""}), BINDING, TOPOLOGY, context())
    (found,) = refused.value.mismatches
    assert (found.reason, found.field) == (Reason.COLLATERAL_MISSING, f"evidence.{name}")
    assert reason(changed(**{name: b"x"})) is Reason.CERTIFICATE_INVALID


def test_E14_what_belongs_to_TDX_is_refused_beside_SNP() -> None:
    assert reason(changed(rtmr3_events=[b"e" * 48])) is Reason.MALFORMED
    assert reason(changed(rtmr3_events=[b""])) is Reason.MALFORMED


def test_E14_the_kind_of_evidence_is_not_the_senders_choice() -> None:
    """Neither a report that says it is a quote, nor a quote that says it is a report; nor a kind that
    the topology does not admit."""
    both = replace(TOPOLOGY, tdx=tdx_topology().tdx)
    own = evidence()
    assert reason(Evidence(tee=TDX, quote=own.quote), by=both) is Reason.QUOTE_TEE_TYPE
    quote = HOST.quote(BINDING.report_data(), TDX_WEB)
    assert reason(changed(quote=quote)) is Reason.QUOTE_TRAILING
    assert reason(own, by=tdx_topology()) is Reason.EVIDENCE_KIND
    assert reason(own, by=replace(TOPOLOGY, snp=None)) is Reason.EVIDENCE_KIND


def test_a_role_without_SNP_references_has_no_SNP_member() -> None:
    tdx_only = replace(tdx_topology(), snp=TOPOLOGY.snp)
    with pytest.raises(PolicyError) as refused:
        appraise(evidence(), BINDING, tdx_only, context())
    (found,) = refused.value.mismatches
    assert (found.reason, found.field) == (Reason.EVIDENCE_KIND, "roles.web.snp")


def test_evidence_that_is_no_longer_in_force_is_refused() -> None:
    verified = appraise(evidence(), BINDING, TOPOLOGY, context())
    assert reason(evidence(), now=verified.expires_at + 1) is Reason.COLLATERAL_INVALID


def test_a_certificate_from_the_future_is_refused() -> None:
    late = LabChip(amd(), bytes(64), shape=LeafShape(not_before=NOW + 200_000))
    assert reason(evidence(on=late)) is Reason.COLLATERAL_INVALID


def test_cheap_checks_come_before_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    def expensive(*_: object) -> None:
        raise AssertionError("signatures were verified")

    monkeypatch.setattr("toposeal.verification.appraise_snp.authenticate", expensive)
    assert reason(changed(quote=chip().report(bytes(64), WEB))) is Reason.REPORT_DATA
    assert reason(evidence(measured=replace(WEB, policy=WEB.policy | 1 << 19))) is Reason.GUEST_DEBUG
    assert reason(changed(quote=b"x" * 9000)) is Reason.QUOTE_TRAILING
