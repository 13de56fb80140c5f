"""A draft accepts what was observed and nothing else, tells where each value is from, and is never unsafe."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from support import topologies
from support.snp import WEB as SNP_WEB
from support.snp import amd, chip
from support.tdx import HOST, NOW, PKI, PPID
from support.tdx import WEB as TDX_WEB

from toposeal.errors import EvidenceError, PolicyError, Reason
from toposeal.evidence.kind import EvidenceKind
from toposeal.evidence.snp_certs import KeyKind
from toposeal.evidence.snp_tcb import Product
from toposeal.topology.evidence_policy import parse_evidence_policy
from toposeal.topology.parse import parse_topology
from toposeal.verification.evidence_check import Supplied, judge
from toposeal.verification.model import TrustAnchors
from toposeal.verification.observed_policy import Draft, Origin, draft
from toposeal_lab.simsnp import LabChip, ReportShape
from toposeal_lab.simsnp.chip import default_tcb
from toposeal_lab.simtdx import LabHost

DATA = bytes(range(64))
TDX, SNP = EvidenceKind.TDX, EvidenceKind.SNP
COLLATERAL = Supplied(collateral=(PKI.collateral(),))
NOTHING = Supplied()


def quote(host: LabHost = HOST, **measured: Any) -> bytes:
    return host.quote(DATA, replace(TDX_WEB, **measured))


def report(machine: LabChip | None = None, shape: ReportShape | None = None, **guest: Any) -> bytes:
    return (machine or chip()).report(DATA, replace(SNP_WEB, **guest), shape or ReportShape())


def vouched(machine: LabChip | None = None) -> Supplied:
    own = machine or chip()
    return Supplied(key=own.certificate, chain=own.chain)


def anchors(product: Product = Product.GENOA) -> TrustAnchors:
    return replace(PKI.anchors(), amd_roots=amd(product).anchors().amd_roots)


def drafted(kind: EvidenceKind, data: bytes, given: Supplied, product: Product = Product.GENOA) -> Draft:
    return draft(kind, data, given, anchors(product), NOW)


def reasons(
    made: Draft, kind: EvidenceKind, data: bytes, given: Supplied, product: Product = Product.GENOA
) -> list[Reason]:
    """Of the verdict over `data` under the policy that is written."""
    policy = parse_evidence_policy(json.dumps(made.document()).encode())
    found = judge(kind, data, given, policy, None, anchors(product), NOW)
    return [mismatch.reason for mismatch in found.reasons()]


def test_a_draft_accepts_the_quote_that_it_was_made_from() -> None:
    made = drafted(TDX, quote(), COLLATERAL)
    assert made.authentic
    assert reasons(made, TDX, quote(), COLLATERAL) == []


@pytest.mark.parametrize(
    "field",
    ["mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mrconfigid", "mrowner", "mrownerconfig", "mrseam", "xfam"],
)
def test_a_draft_refuses_a_quote_that_differs_in_one_field(field: str) -> None:
    made = drafted(TDX, quote(), COLLATERAL)
    if field.startswith("rtmr"):
        registers = list(TDX_WEB.rtmr)
        registers[int(field[-1])] = b"\x01" * 48
        other = quote(rtmr=tuple(registers))
    else:
        value: bytes = getattr(TDX_WEB, field)
        changed: dict[str, Any] = {field: value[:-1] + bytes([value[-1] ^ 1])}
        other = quote(**changed)
    assert len(reasons(made, TDX, other, COLLATERAL)) == 1


def test_a_draft_refuses_other_attributes_another_machine_and_older_collateral() -> None:
    made = drafted(TDX, quote(), COLLATERAL)
    perfmon = quote(td_attributes=(1 << 28 | 1 << 63).to_bytes(8, "little"))
    assert reasons(made, TDX, perfmon, COLLATERAL) == [Reason.TD_ATTRIBUTES]
    elsewhere = quote(LabHost(PKI, b"\x09" * 16))
    assert reasons(made, TDX, elsewhere, COLLATERAL) == [Reason.PLATFORM_REFUSED]
    older = Supplied(collateral=(PKI.collateral(evaluation=19),))
    assert reasons(made, TDX, quote(), older) == [Reason.TCB_EVALUATION]


def test_a_status_below_up_to_date_is_told_and_not_written() -> None:
    """The reviewer may admit it; a draft never does."""
    old = Supplied(collateral=(PKI.collateral(status="OutOfDate", advisories=("INTEL-SA-00001",)),))
    made = drafted(TDX, quote(), old)
    assert (made.policy["tcb_status"], made.policy["advisories"]) == (["UpToDate"], [])
    remarks = " ".join(line.remark for line in made.lines)
    assert "OutOfDate" in remarks
    assert "INTEL-SA-00001" in remarks
    assert reasons(made, TDX, quote(), old) == [Reason.TCB_STATUS, Reason.TCB_ADVISORY]


def test_what_was_not_verified_says_so() -> None:
    for made in (drafted(TDX, quote(), NOTHING), drafted(SNP, report(), NOTHING)):
        assert not made.authentic
    tdx = drafted(TDX, quote(), NOTHING)
    assert tdx.policy["min_tcb_evaluation"] == 1
    assert {line.remark for line in tdx.lines if line.path.startswith("tdx.policy.min")} == {"not verified"}


@pytest.mark.parametrize("product", list(Product))
def test_a_draft_accepts_the_report_that_it_was_made_from(product: Product) -> None:
    machine = chip(product)
    made = drafted(SNP, report(machine), vouched(machine), product)
    assert made.authentic
    assert reasons(made, SNP, report(machine), vouched(machine), product) == []
    weaker = [line for line in made.lines if line.remark.startswith("WEAKER")]
    assert [line.path for line in weaker] == (["snp.policy.products"] if product is Product.MILAN else [])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"measurement": b"\x01" * 48}, Reason.MEASUREMENT),
        ({"host_data": b"\x01" * 32}, Reason.CONFIG_DIGEST),
        ({"family_id": b"\x01" * 16}, Reason.MEASUREMENT),
        ({"image_id": b"\x01" * 16}, Reason.MEASUREMENT),
        ({"vmpl": 1}, Reason.VMPL),
        ({"policy": 0x230000}, Reason.GUEST_POLICY),
    ],
)
def test_a_draft_refuses_a_guest_that_differs_in_one_field(change: dict[str, Any], reason: Reason) -> None:
    made = drafted(SNP, report(), vouched())
    assert reasons(made, SNP, report(**change), vouched()) == [reason]


def test_a_draft_refuses_another_machine_platform_and_older_firmware() -> None:
    made = drafted(SNP, report(shape=ReportShape(version=5, launch_mitigations=3)), vouched())
    fewer = report(shape=ReportShape(version=5, launch_mitigations=1))
    assert reasons(made, SNP, fewer, vouched()) == [Reason.MITIGATIONS]
    assert made.policy["launch_mitigations"] == "0300000000000000"
    plain = drafted(SNP, report(), vouched())
    other = LabChip(amd(), bytes([7] * 64))
    assert reasons(plain, SNP, report(other), vouched(other)) == [Reason.PLATFORM_REFUSED]
    assert reasons(plain, SNP, report(shape=ReportShape(platform_info=0x21)), vouched()) == [
        Reason.PLATFORM_INFO
    ]
    older = replace(default_tcb(Product.GENOA), ucode=209)
    assert reasons(plain, SNP, report(shape=ReportShape(launch=older)), vouched()) == [Reason.TCB_FLOOR]


def test_keys_that_signed_the_launch_are_demanded_and_none_is_open() -> None:
    keys: dict[str, Any] = {"id_key_digest": b"\x11" * 48, "author_key_digest": b"\x22" * 48}
    signed = drafted(SNP, report(shape=ReportShape(key_info=1), **keys), NOTHING)
    assert signed.reference["id_key_digests"] == ["11" * 48]
    assert signed.reference["author_key_digests"] == ["22" * 48]
    unused = drafted(SNP, report(**keys), NOTHING)
    assert unused.reference["author_key_digests"] == "any"
    plain = drafted(SNP, report(), NOTHING)
    assert plain.reference["id_key_digests"] == "any"
    assert {line.origin for line in plain.lines if line.path.endswith("_key_digests")} == {Origin.OPEN}


def test_a_machine_that_hides_is_no_machine() -> None:
    lent = chip(kind=KeyKind.VLEK)
    claimed = report(lent, ReportShape(patches={0x1A0: b"\x01" * 64}))
    for data in (report(shape=ReportShape(mask_chip_id=True)), report(lent), claimed):
        made = drafted(SNP, data, NOTHING)
        assert made.platforms == "any"
        assert made.lines[-1].origin is Origin.OPEN
    assert drafted(SNP, report(lent), NOTHING).policy["endorsements"] == ["VLEK"]
    assert drafted(SNP, report(lent), vouched(lent)).authentic


def test_a_lower_privilege_level_is_marked() -> None:
    made = drafted(SNP, report(vmpl=1), NOTHING)
    (line,) = (line for line in made.lines if line.path == "snp.policy.vmpl")
    assert (line.value, line.remark.startswith("WEAKER")) == (1, True)


def test_the_product_of_an_old_report_is_the_certificates() -> None:
    old = report(shape=ReportShape(version=2))
    with pytest.raises(PolicyError) as refused:
        drafted(SNP, old, NOTHING)
    assert refused.value.reason is Reason.PRODUCT
    assert list(drafted(SNP, old, Supplied(key=chip().certificate)).policy["products"]) == ["Genoa"]


@pytest.mark.parametrize(
    ("kind", "data", "reason"),
    [
        (TDX, lambda: quote(td_attributes=(1 << 28 | 1).to_bytes(8, "little")), Reason.TD_DEBUG),
        (TDX, lambda: quote(td_attributes=(1 << 28 | 1 << 29).to_bytes(8, "little")), Reason.TD_MIGRATABLE),
        (TDX, lambda: quote(td_attributes=bytes(8)), Reason.TD_ATTRIBUTES),
        (SNP, lambda: report(policy=0xB0000), Reason.GUEST_DEBUG),
        (SNP, lambda: report(policy=0x70000), Reason.GUEST_MIGRATABLE),
        (SNP, lambda: report(shape=ReportShape(platform_info=1)), Reason.PLATFORM_INFO),
        (SNP, lambda: report(vmpl=4), Reason.VMPL),
        (SNP, lambda: report(vmpl=0xFFFFFFFF), Reason.VMPL),
    ],
)
def test_E7_what_no_policy_may_admit_is_not_drafted(kind: EvidenceKind, data: Any, reason: Reason) -> None:
    with pytest.raises(PolicyError) as refused:
        drafted(kind, data(), NOTHING)
    assert refused.value.reason is reason


def test_what_could_be_verified_and_is_false_is_not_drafted() -> None:
    forged = bytearray(quote())
    forged[200] ^= 1
    with pytest.raises(EvidenceError):
        drafted(TDX, bytes(forged), COLLATERAL)
    other = LabChip(amd(), bytes([7] * 64))
    with pytest.raises(EvidenceError):
        drafted(SNP, report(), vouched(other))


def test_another_kind_has_no_policy() -> None:
    unknown: Any = "gpu"
    with pytest.raises(EvidenceError) as refused:
        drafted(unknown, b"", NOTHING)
    assert refused.value.reason is Reason.EVIDENCE_KIND


@pytest.mark.parametrize(("kind", "data"), [(TDX, quote), (SNP, report)])
def test_every_value_of_a_draft_has_its_origin(kind: EvidenceKind, data: Any) -> None:
    made = drafted(kind, data(), NOTHING)
    written = made.document()[kind.value]
    paths = [f"policy.{name}" for name in written["policy"]]
    paths += [f"references[0].{name}" for name in written["references"][0]]
    assert sorted(line.path for line in made.lines) == sorted(
        f"{kind.value}.{path}" for path in [*paths, "platforms"]
    )


def test_a_draft_fits_into_a_topology() -> None:
    document = topologies.document()
    for kind, data in ((TDX, quote()), (SNP, report())):
        piece = drafted(kind, data, NOTHING).for_topology("web")
        document[kind.value] = piece[kind.value]
        role = document["roles"]["web"]
        role |= {kind.value: piece["roles"]["web"][kind.value]}
        machines = role["platforms"] if isinstance(role["platforms"], dict) else {}
        role["platforms"] = machines | piece["roles"]["web"]["platforms"]
    web = parse_topology(topologies.payload(document)).roles["web"]
    assert web.tdx[0].mrtd == TDX_WEB.mrtd
    assert web.snp[0].measurement == SNP_WEB.measurement
    assert web.platforms.tdx == frozenset({PPID})
    assert web.platforms.snp == frozenset({chip().chip_id})


def test_a_draft_of_a_hidden_machine_is_any_in_a_topology() -> None:
    made = drafted(SNP, report(shape=ReportShape(mask_chip_id=True)), NOTHING)
    assert made.for_topology("web")["roles"]["web"]["platforms"] == "any"
