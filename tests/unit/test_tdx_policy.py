"""What is authentic is still refused unless the owner's topology accepts it, field by field."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.tdx import DB, NOW, PKI, PPID, WEB, quote, refusal, topology

from toposeal.errors import PolicyError, Reason
from toposeal.evidence.rtmr import instance_event, replay
from toposeal.topology.model import InstanceRegister, Role, Topology
from toposeal.topology.tee_schema import TCB_STATUSES
from toposeal.verification.tdx_authentic import AuthenticTdx, authenticate
from toposeal.verification.tdx_policy import (
    RuntimeLog,
    refuse_unsafe_attributes,
    require_listed,
    require_platform,
    require_reference,
    require_role,
    require_tcb,
)
from toposeal_lab.simtdx import LabHost, QuoteShape

TOPOLOGY = topology()
SEPT_VE_DISABLE = 1 << 28


def attributes(bits: int) -> bytes:
    return bits.to_bytes(8, "little")


def policy(topology: Topology = TOPOLOGY) -> Any:
    assert topology.tdx is not None
    return topology.tdx


def authentic(**changes: Any) -> AuthenticTdx:
    return replace(authenticate(quote(), (PKI.collateral(),), PKI.anchors(), NOW), **changes)


def test_a_plain_guest_is_safe() -> None:
    refuse_unsafe_attributes(quote())


@pytest.mark.parametrize(
    ("bit", "reason"),
    [(bit, Reason.TD_DEBUG) for bit in range(8)] + [(17, Reason.SERVICE_TD), (29, Reason.TD_MIGRATABLE)],
)
def test_E7_guests_that_the_host_may_look_into_or_move_are_refused(bit: int, reason: Reason) -> None:
    unsafe = quote(td_attributes=attributes(SEPT_VE_DISABLE | 1 << bit))
    assert refusal(refuse_unsafe_attributes, unsafe) is reason


def test_E7_a_guest_into_which_the_host_may_inject_is_refused() -> None:
    assert refusal(refuse_unsafe_attributes, quote(td_attributes=bytes(8))) is Reason.TD_ATTRIBUTES


def test_E7_every_unsafe_bit_is_reported() -> None:
    with pytest.raises(PolicyError) as refused:
        refuse_unsafe_attributes(quote(td_attributes=attributes(1 | 1 << 17 | 1 << 29)))
    assert [mismatch.reason for mismatch in refused.value.mismatches] == [
        Reason.TD_DEBUG,
        Reason.SERVICE_TD,
        Reason.TD_MIGRATABLE,
        Reason.TD_ATTRIBUTES,
    ]


def test_an_up_to_date_platform_is_accepted() -> None:
    require_tcb(authentic(), policy())


@pytest.mark.parametrize("status", [*TCB_STATUSES[1:], "Revoked", "", "uptodate"])
def test_E8_a_status_that_is_not_admitted_is_refused(status: str) -> None:
    found = authentic(statuses=frozenset({"UpToDate", status}))
    assert refusal(require_tcb, found, policy()) is Reason.TCB_STATUS
    if status in TCB_STATUSES:
        require_tcb(found, policy(topology(tcb_status=["UpToDate", status])))


def test_E8_admitting_a_status_does_not_admit_up_to_date_by_itself() -> None:
    found = authentic(statuses=frozenset({"UpToDate", "OutOfDate"}))
    assert refusal(require_tcb, found, policy(topology(tcb_status=["OutOfDate"]))) is Reason.TCB_STATUS


def test_E8_the_quoting_enclaves_own_status_counts() -> None:
    """dcap-qvl's summary is UpToDate all the while."""
    collateral = PKI.collateral(qe_status="ConfigurationNeeded")
    found = authenticate(quote(), (collateral,), PKI.anchors(), NOW)
    assert found.tcb_status == "UpToDate"
    assert refusal(require_tcb, found, policy()) is Reason.TCB_STATUS


def test_E8_an_advisory_that_is_not_admitted_is_refused() -> None:
    require_tcb(authentic(advisories=("INTEL-SA-00001",)), policy())
    several = authentic(advisories=("INTEL-SA-00001", "INTEL-SA-00002"))
    assert refusal(require_tcb, several, policy()) is Reason.TCB_ADVISORY


def test_E9_collateral_below_the_floor_is_refused_by_number() -> None:
    require_tcb(authentic(evaluation=20), policy())
    assert refusal(require_tcb, authentic(evaluation=19), policy()) is Reason.TCB_EVALUATION


def test_everything_wrong_with_the_tcb_is_reported() -> None:
    wrong = authentic(statuses=frozenset({"OutOfDate"}), advisories=("INTEL-SA-00009",), evaluation=1)
    with pytest.raises(PolicyError) as refused:
        require_tcb(wrong, policy())
    assert [mismatch.reason for mismatch in refused.value.mismatches] == [
        Reason.TCB_STATUS,
        Reason.TCB_ADVISORY,
        Reason.TCB_EVALUATION,
    ]


def test_the_role_is_the_measured_one() -> None:
    assert require_role(quote(), TOPOLOGY, "web").name == "web"
    assert require_role(quote(mrconfigid=DB.mrconfigid), TOPOLOGY, "db").name == "db"


def test_E6_a_guest_of_another_role_is_refused() -> None:
    assert refusal(require_role, quote(), TOPOLOGY, "db") is Reason.ROLE_MISMATCH


def test_a_role_that_the_topology_does_not_know_is_refused() -> None:
    assert refusal(require_role, quote(), TOPOLOGY, "cache") is Reason.ROLE_UNKNOWN


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("mrtd", b"\xff" * 48, Reason.MEASUREMENT),
        ("mrconfigid", b"\xff" * 48, Reason.CONFIG_DIGEST),
        ("mrowner", b"\xff" * 48, Reason.MEASUREMENT),
        ("mrownerconfig", b"\xff" * 48, Reason.MEASUREMENT),
        ("mrseam", b"\xff" * 48, Reason.MEASUREMENT),
        ("td_attributes", attributes(SEPT_VE_DISABLE | 1 << 63), Reason.TD_ATTRIBUTES),
        ("td_attributes", attributes(SEPT_VE_DISABLE | 1 << 30), Reason.TD_ATTRIBUTES),
        ("xfam", bytes(8), Reason.XFAM),
        *(
            ("rtmr", (*WEB.rtmr[:index], b"\xff" * 48, *WEB.rtmr[index + 1 :]), Reason.MEASUREMENT)
            for index in range(4)
        ),
    ],
)
def test_E5_a_guest_that_differs_in_one_field_has_no_role(field: str, value: Any, reason: Reason) -> None:
    other = quote(**{field: value})
    assert refusal(require_role, other, TOPOLOGY, "web") is reason
    assert refusal(require_role, other, TOPOLOGY, "db") is not None


def test_all_that_differs_is_reported() -> None:
    with pytest.raises(PolicyError) as refused:
        require_role(quote(mrtd=bytes(48), mrconfigid=bytes(48)), TOPOLOGY, "web")
    assert [mismatch.field for mismatch in refused.value.mismatches] == ["quote.mrtd", "quote.mrconfigid"]
    assert WEB.mrtd.hex() in refused.value.mismatches[0].expected


def with_web(**changes: Any) -> Topology:
    """The topology with fields of web's only reference, or of the role, replaced unchecked."""
    web = TOPOLOGY.roles["web"]
    role = {name: value for name, value in changes.items() if name in Role.__dataclass_fields__}
    reference = {name: value for name, value in changes.items() if name not in role}
    changed = replace(web, **{"tdx": (replace(web.tdx[0], **reference),), **role})
    return replace(TOPOLOGY, roles={**TOPOLOGY.roles, "web": changed})


def test_any_is_the_owners_explicit_word() -> None:
    free = with_web(rtmr=(None, *WEB.rtmr[1:3]), rtmr3=None, mrseam=None)
    other = quote(rtmr=(b"\x01" * 48, *WEB.rtmr[1:3], b"\x02" * 48), mrseam=b"\x03" * 48)
    assert require_role(other, free, "web").name == "web"
    assert refusal(require_role, other, TOPOLOGY, "web") is Reason.MEASUREMENT


def test_no_reference_means_no_member() -> None:
    assert refusal(require_role, quote(), with_web(tdx=()), "web") is Reason.EVIDENCE_KIND


def test_no_admitted_module_means_no_module() -> None:
    assert refusal(require_role, quote(), with_web(mrseam=frozenset()), "web") is Reason.MEASUREMENT


def test_the_closest_of_several_references_is_reported() -> None:
    web = TOPOLOGY.roles["web"].tdx[0]
    far = replace(web, mrtd=bytes(48), mrowner=b"\x01" * 48, xfam=bytes(8))
    several = with_web(tdx=(far, web))
    assert require_role(quote(), several, "web").name == "web"
    assert refusal(require_role, quote(mrconfigid=bytes(48)), several, "web") is Reason.CONFIG_DIGEST


def test_E6_a_guest_that_two_roles_claim_has_none() -> None:
    """Topologies like this are refused when they are parsed; here it holds once more."""
    both = with_web(mrconfigid=DB.mrconfigid)
    claimed = quote(mrconfigid=DB.mrconfigid)
    assert refusal(require_role, claimed, both, "web") is Reason.ROLES_INDISTINGUISHABLE


def test_E5_without_a_member_no_instance_event_is_anybodys() -> None:
    """A policy file may ask for one; a quote alone does not say whose it would be."""
    wanted = replace(TOPOLOGY.roles["web"].tdx[0], rtmr3=InstanceRegister(bytes(48), frozenset()))
    own = quote(rtmr=(*WEB.rtmr[:3], replay(bytes(48), (instance_event(b"i" * 48),))))
    require_reference(own, [wanted], RuntimeLog(b"i" * 48))
    assert refusal(require_reference, own, [wanted]) is Reason.RTMR3_INSTANCE
    assert refusal(require_reference, own, [wanted], RuntimeLog(b"j" * 48)) is Reason.RTMR3_INSTANCE
    assert refusal(require_role, own, with_web(rtmr3=wanted.rtmr3), "web") is Reason.RTMR3_INSTANCE


def test_E5_the_guest_is_one_of_the_references() -> None:
    web = TOPOLOGY.roles["web"].tdx[0]
    far = replace(web, mrtd=bytes(48), mrowner=b"\x01" * 48)
    require_reference(quote(), [far, web])
    assert refusal(require_reference, quote(mrconfigid=bytes(48)), [far, web]) is Reason.CONFIG_DIGEST
    assert refusal(require_reference, quote(), []) is Reason.EVIDENCE_KIND


def test_E11_a_listed_machine_is_accepted_and_no_other() -> None:
    require_listed(PPID, frozenset({PPID}))
    for platforms in (frozenset[bytes](), frozenset({b"\x01" * 16})):
        assert refusal(require_listed, PPID, platforms) is Reason.PLATFORM_REFUSED


def test_E11_a_machine_that_is_not_listed_is_refused() -> None:
    listed = topology(platforms={"tdx": [PPID.hex()]}).roles["web"]
    require_platform(PPID, listed)
    with pytest.raises(PolicyError) as refused:
        require_platform(b"\x01" * 16, listed)
    assert refused.value.reason is Reason.PLATFORM_REFUSED
    assert refused.value.mismatches[0].found == "01" * 16
    require_platform(b"\x01" * 16, TOPOLOGY.roles["web"])


def described(body_type: int, **later: bytes) -> Any:
    """A quote of version 5 with newer fields replaced."""
    shape = QuoteShape(version=5, body_type=body_type, later=later)
    return quote(LabHost(PKI, PPID, shape=shape))


@pytest.mark.parametrize("body_type", [2, 3, 4])
def test_a_plain_guest_of_version_5_is_safe_and_has_its_role(body_type: int) -> None:
    found = described(body_type)
    refuse_unsafe_attributes(found)
    assert require_role(found, TOPOLOGY, "web").name == "web"


@pytest.mark.parametrize("body_type", [3, 4])
def test_E7_a_guest_with_a_service_td_is_refused(body_type: int) -> None:
    for last in (0, 47):
        bound = described(body_type, mrservicetd=bytes(last) + b"\1" + bytes(47 - last))
        assert refusal(refuse_unsafe_attributes, bound) is Reason.SERVICE_TD


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("init_servtd_hash", 48, Reason.SERVICE_TD),
        ("init_servtd_attr", 8, Reason.SERVICE_TD),
        ("cur_servtd_hash", 48, Reason.SERVICE_TD),
        ("cur_servtd_attr", 8, Reason.SERVICE_TD),
        ("vmid", 1, Reason.TD_ATTRIBUTES),
        ("dev_info", 48, Reason.TD_ATTRIBUTES),
    ],
)
def test_E7_a_guest_that_shares_its_trust_is_refused(name: str, size: int, reason: Reason) -> None:
    shared: dict[str, bytes] = {name: bytes(size - 1) + b"\1"}
    assert refusal(refuse_unsafe_attributes, described(4, **shared)) is reason


def test_a_guest_may_bear_an_identity_and_a_history() -> None:
    refuse_unsafe_attributes(described(4, td_id=b"i" * 32, init_cpu_svn=b"c" * 16, init_fmspc=b"f" * 12))
