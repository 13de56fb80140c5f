"""Evidence is believed for exactly one binding, one role and one kind, and for nothing else."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from support import snp
from support.tdx import BINDING, DB, HOST, NOW, PKI, PPID, WEB, context, evidence, refusal, topology

from toposeal._wire.evidence_pb2 import SEV_SNP, TDX, TEE_UNSPECIFIED, Evidence
from toposeal.errors import EvidenceError, Reason
from toposeal.evidence import dcap
from toposeal.evidence.binding import Binding, Purpose, Status
from toposeal.topology.model import Platforms, Topology
from toposeal.verification.appraise import appraise
from toposeal_lab.simsnp import ReportShape
from toposeal_lab.simtdx import LabHost, TdxMeasurements

TOPOLOGY = topology()
CONTEXT = context()


def reason(given: Evidence, expected: Binding = BINDING, **changes: Any) -> Reason:
    return refusal(
        appraise, given, expected, changes.get("topology", TOPOLOGY), changes.get("context", CONTEXT)
    )


def report(data: bytes) -> Evidence:
    """A quote whose report_data is `data`, made by a machine that does not care."""
    return Evidence(tee=TDX, quote=HOST.quote(data, WEB))


def test_genuine_evidence_is_believed() -> None:
    verified = appraise(evidence(), BINDING, TOPOLOGY, CONTEXT)
    assert (verified.tee, verified.role, verified.binding) == ("tdx", "web", BINDING)
    assert (verified.tcb_status, verified.advisories) == ("UpToDate", ())
    assert verified.platform == PPID
    assert verified.expires_at == NOW + 30 * 86400


def test_a_cloud_hosts_padding_is_admitted() -> None:
    padded = Evidence(tee=TDX, quote=evidence().quote.ljust(8000, b"\0"))
    assert appraise(padded, BINDING, TOPOLOGY, CONTEXT).role == "web"


@pytest.mark.parametrize(("made", "expected"), list(permutations(Purpose, 2)))
def test_E3_a_quote_of_one_purpose_is_worth_nothing_for_another(made: Purpose, expected: Purpose) -> None:
    given = evidence(replace(BINDING, purpose=made))
    wanted = (
        Reason.REPORT_DATA if expected in (Purpose.JOIN, Purpose.SEAL, Purpose.LIVE) else Reason.EVIDENCE_KIND
    )
    assert reason(given, replace(BINDING, purpose=expected)) is wanted


@pytest.mark.parametrize("purpose", [Purpose.JOIN, Purpose.SEAL, Purpose.LIVE])
def test_E3_the_same_purpose_is_the_positive_control(purpose: Purpose) -> None:
    binding = replace(BINDING, purpose=purpose)
    assert appraise(evidence(binding), binding, TOPOLOGY, CONTEXT).binding == binding


@pytest.mark.parametrize("purpose", [Purpose.KEYREL, Purpose.GPUBIND])
def test_E3_purposes_without_a_protocol_are_always_refused(purpose: Purpose) -> None:
    binding = replace(BINDING, purpose=purpose)
    assert reason(evidence(binding), binding) is Reason.EVIDENCE_KIND


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": 2},
        {"manifest_digest": b"x" * 48},
        {"topology_digest": b"x" * 48},
        {"mesh_id": b"x" * 48},
        {"iid": b"x" * 48},
        {"anchor": b"x" * 48},
        {"challenge": b"x" * 32},
        {"status": Status.ACTIVE},
        {"role": "db"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_E1_E2_a_quote_for_another_binding_is_refused(change: dict[str, Any]) -> None:
    """An earlier boot has another iid and hello digest, an earlier epoch another number."""
    assert reason(evidence(replace(BINDING, **change))) is Reason.REPORT_DATA


WANTED = BINDING.report_data()


@pytest.mark.parametrize(
    "data",
    [
        bytes(64),
        b"\xff" * 64,
        WANTED[:63] + bytes([WANTED[63] ^ 1]),
        bytes([WANTED[0] ^ 0x80]) + WANTED[1:],
        WANTED[:48] + bytes(16),
        bytes(32) + WANTED[32:],
        WANTED[::-1],
    ],
)
def test_E4_report_data_is_compared_whole(data: bytes) -> None:
    assert reason(report(data)) is Reason.REPORT_DATA


def test_a_guest_under_a_paravisor_is_refused_by_name() -> None:
    """Azure: a hash of 32 bytes and zeros, whatever we asked for."""
    assert reason(report(WANTED[:32] + bytes(32))) is Reason.PARAVISOR


@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_E4_report_data_of_another_size_makes_no_quote(size: int) -> None:
    """Cut from, or squeezed into, a genuine quote: what follows then sits in the wrong place."""
    quote = HOST.quote(WANTED, WEB)
    spliced = quote[:568] + WANTED.ljust(size, b"\0")[:size] + quote[632:]
    with pytest.raises(EvidenceError):
        appraise(Evidence(tee=TDX, quote=spliced), BINDING, TOPOLOGY, CONTEXT)


@pytest.mark.parametrize("missing", ["mesh_id", "challenge", "anchor"])
def test_E4_an_empty_expectation_never_means_unchecked(missing: str) -> None:
    empty: dict[str, Any] = {missing: b""}
    with pytest.raises(ValueError, match="48 bytes"):
        appraise(evidence(), replace(BINDING, **empty), TOPOLOGY, CONTEXT)


def test_E4_no_quote_at_all_is_refused() -> None:
    assert reason(Evidence(tee=TDX)) is Reason.QUOTE_FORMAT


def test_E5_a_genuine_guest_with_another_config_digest_is_refused() -> None:
    other = replace(WEB, mrconfigid=b"\x01" * 48)
    assert reason(evidence(measured=other)) is Reason.CONFIG_DIGEST


def test_E6_the_role_is_the_measured_one_never_the_claimed_one() -> None:
    """A web guest says it is db, and binds that in its own genuine quote."""
    claim = replace(BINDING, role="db")
    assert reason(evidence(claim, WEB), claim) is Reason.ROLE_MISMATCH
    assert appraise(evidence(claim, DB), claim, TOPOLOGY, CONTEXT).role == "db"


@pytest.mark.parametrize("bit", [0, 1, 2, 3, 4, 5, 6, 7, 17, 29])
def test_E7_no_topology_can_admit_an_unsafe_guest(bit: int) -> None:
    unsafe = replace(WEB, td_attributes=(1 << 28 | 1 << bit).to_bytes(8, "little"))
    reasons = {17: Reason.SERVICE_TD, 29: Reason.TD_MIGRATABLE}
    assert reason(evidence(measured=unsafe), topology=_admitting(unsafe)) is reasons.get(bit, Reason.TD_DEBUG)


def _admitting(measured: TdxMeasurements) -> Any:
    """What the parser would never make: a topology whose reference has the unsafe attributes."""
    web = TOPOLOGY.roles["web"]
    reference = replace(web.tdx[0], td_attributes=measured.td_attributes)
    return replace(TOPOLOGY, roles={**TOPOLOGY.roles, "web": replace(web, tdx=(reference,))})


def test_E8_an_out_of_date_platform_needs_the_owners_word() -> None:
    spec: dict[str, Any] = {"status": "OutOfDate", "advisories": ("INTEL-SA-00001",)}
    assert reason(evidence(), context=context(**spec)) is Reason.TCB_STATUS
    admitting = topology(tcb_status=["UpToDate", "OutOfDate"])
    verified = appraise(evidence(), BINDING, admitting, context(**spec))
    assert (verified.tcb_status, verified.advisories) == ("OutOfDate", ("INTEL-SA-00001",))


@pytest.mark.parametrize("component", range(16))
def test_E8_one_component_below_every_level_is_refused(component: int) -> None:
    svn = bytes(1 if index == component else 2 for index in range(16))
    old = LabHost(PKI, PPID, cpu_svn=svn)
    assert reason(evidence(host=old)) is Reason.TCB_STATUS


def test_E9_collateral_below_the_floor_is_refused() -> None:
    assert reason(evidence(), context=context(evaluation=19)) is Reason.TCB_EVALUATION


def test_E11_a_genuine_machine_that_is_not_listed_is_refused() -> None:
    assert reason(evidence(), topology=topology(platforms={"tdx": ["ff" * 16]})) is Reason.PLATFORM_REFUSED
    listed = topology(platforms={"tdx": ["ff" * 16, PPID.hex()]})
    assert appraise(evidence(), BINDING, listed, CONTEXT).platform == PPID


@pytest.mark.parametrize("tee", [TEE_UNSPECIFIED, SEV_SNP, 3, 7])
def test_E14_the_kind_of_evidence_is_not_the_senders_choice(tee: Any) -> None:
    assert reason(Evidence(tee=tee, quote=evidence().quote)) is Reason.EVIDENCE_KIND


def test_E18_a_role_that_demands_no_GPUs_may_show_none() -> None:
    joining = replace(BINDING, purpose=Purpose.JOIN)
    for binding in (joining, BINDING):
        given = evidence(binding)
        assert appraise(given, binding, TOPOLOGY, CONTEXT).gpus == ()
        given.gpus.add(report=b"r", chain=b"c")
        assert reason(given, binding) is Reason.EVIDENCE_KIND


def mixed() -> Topology:
    """web on either kind, each on one machine; db on TDX alone."""
    of_snp, web = snp.topology(), TOPOLOGY.roles["web"]
    platforms = Platforms(frozenset({PPID}), frozenset({snp.chip().chip_id}))
    either = replace(web, snp=of_snp.roles["web"].snp, platforms=platforms)
    return replace(TOPOLOGY, snp=of_snp.snp, roles={**TOPOLOGY.roles, "web": either})


def test_a_role_may_run_on_either_kind() -> None:
    anchors = replace(PKI.anchors(), amd_roots=snp.amd().anchors().amd_roots)
    both = replace(CONTEXT, anchors=anchors)
    declared = mixed()
    assert appraise(evidence(), BINDING, declared, both).platform == PPID
    found = appraise(snp.evidence(), BINDING, declared, both)
    assert (found.tee, found.role, found.platform) == ("snp", "web", snp.chip().chip_id)
    claim = replace(BINDING, role="db")
    given = snp.evidence(claim, snp.DB)
    assert reason(given, claim, topology=declared, context=both) is Reason.EVIDENCE_KIND
    elsewhere = snp.evidence(shape=ReportShape(mask_chip_id=True))
    assert reason(elsewhere, topology=declared, context=both) is Reason.PLATFORM_REFUSED


def test_a_topology_without_tdx_admits_no_tdx() -> None:
    assert reason(evidence(), topology=replace(TOPOLOGY, tdx=None)) is Reason.EVIDENCE_KIND


def test_cheap_checks_come_before_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a stranger can send for free is refused for free."""

    def expensive(*_: object) -> None:
        raise AssertionError("signatures were verified")

    monkeypatch.setattr(dcap, "verify", expensive)
    assert reason(report(bytes(64))) is Reason.REPORT_DATA
    unsafe = replace(WEB, td_attributes=bytes(8))
    assert reason(evidence(measured=unsafe)) is Reason.TD_ATTRIBUTES
    assert reason(Evidence(tee=TDX, quote=b"x" * 9000)) is Reason.TOO_LARGE
