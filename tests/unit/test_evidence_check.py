"""One verdict for one piece of evidence: authentic, or not; acceptable, or every reason why not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from support.snp import SHAPE, WEB, amd, chip, policy
from support.tdx import HOST, NOW, PKI, PPID, topology
from support.tdx import WEB as TDX_WEB

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.bundle import Bundle, read_chain
from toposeal.evidence.kind import EvidenceKind, detect_kind
from toposeal.evidence.snp_certs import KeyKind
from toposeal.evidence.snp_tcb import Product
from toposeal.evidence.tdx_quote import parse_tdx_quote
from toposeal.topology.evidence_policy import STRICT, EvidencePolicy, SnpDemand, TdxDemand
from toposeal.verification.anchors import VENDOR_ANCHORS
from toposeal.verification.evidence_check import Judgement, Supplied, completed, judge, read_fields
from toposeal.verification.model import TrustAnchors
from toposeal_lab.simsnp import LabChip, ReportShape

DATA = bytes(range(64))


def lab() -> TrustAnchors:
    return replace(PKI.anchors(), amd_roots=amd().anchors().amd_roots)


def supplied(machine: LabChip | None = None, **changes: Any) -> Supplied:
    own = machine or chip()
    everything = Supplied((PKI.collateral(),), own.certificate, own.chain, amd().crl())
    return replace(everything, **changes)


def judged(
    data: bytes,
    demanded: EvidencePolicy = STRICT,
    given: Supplied | None = None,
    report_data: bytes | None = None,
    anchors: TrustAnchors | None = None,
) -> Judgement:
    return judge(detect_kind(data), data, given or supplied(), demanded, report_data, anchors or lab(), NOW)


def reasons(*arguments: Any, **named: Any) -> list[Reason]:
    return [mismatch.reason for mismatch in judged(*arguments, **named).reasons()]


def quote(**measured: Any) -> bytes:
    return HOST.quote(DATA, replace(TDX_WEB, **measured))


def report(shape: ReportShape = SHAPE, machine: LabChip | None = None, **guest: Any) -> bytes:
    return (machine or chip()).report(DATA, replace(WEB, **guest), shape)


def test_genuine_evidence_is_accepted() -> None:
    for data in (quote(), report()):
        found = judged(data, report_data=DATA)
        assert found.authentic
        assert found.acceptable
        assert found.refusals == ()
    assert judged(quote()).tcb_status == "UpToDate"
    assert judged(report()).tcb_status is None


def test_E17_simulated_evidence_is_not_authentic_to_a_production_build() -> None:
    for data in (quote(), report()):
        found = judged(data, anchors=VENDOR_ANCHORS)
        assert not found.authentic
        assert not found.acceptable
        assert reasons(data, anchors=VENDOR_ANCHORS) == [Reason.QUOTE_SIGNATURE]


def test_what_is_missing_is_never_skipped() -> None:
    assert reasons(quote(), given=supplied(collateral=())) == [Reason.COLLATERAL_MISSING]
    for part in ("key", "chain"):
        assert reasons(report(), given=supplied(**{part: None})) == [Reason.COLLATERAL_MISSING]
    assert judged(report(), given=supplied(crl=None)).acceptable


def test_what_is_given_stands_even_if_it_is_empty() -> None:
    """No part of the bundle takes its place."""
    own = chip()
    bundle = Bundle((), (own.certificate,), (read_chain(own.chain),), (amd().crl(),))
    whole = completed(Supplied(), bundle, EvidenceKind.SNP, report())
    assert judged(report(), given=whole).acceptable
    for part, reason in (
        ("key", Reason.CERTIFICATE_INVALID),
        ("chain", Reason.CERTIFICATE_INVALID),
        ("crl", Reason.COLLATERAL_INVALID),
    ):
        given = Supplied(**{part: b""})  # type: ignore[arg-type]
        try:
            found = completed(given, bundle, EvidenceKind.SNP, report())
        except EvidenceError as refused:
            assert refused.reason is reason
        else:
            assert reasons(report(), given=found) == [reason]


def test_E4_report_data_is_compared_whole_and_before_all_else() -> None:
    other = bytes([DATA[0] ^ 1]) + DATA[1:]
    for data in (quote(), report(policy=0xB0000)):
        found = judged(data, EvidencePolicy(), report_data=other)
        assert found.authentic
        assert isinstance(found.refusals[0], EvidenceError)
        assert found.refusals[0].reason is Reason.REPORT_DATA
        assert found.refusals[-1].reason is Reason.EVIDENCE_KIND


def test_every_reason_is_given() -> None:
    old = supplied(collateral=(PKI.collateral(status="OutOfDate", advisories=("INTEL-SA-00002",)),))
    assert reasons(quote(), given=old) == [Reason.TCB_STATUS, Reason.TCB_ADVISORY]
    found = judged(quote(), given=old)
    assert (found.tcb_status, found.advisories) == ("OutOfDate", ("INTEL-SA-00002",))
    debug = report(ReportShape(platform_info=0), policy=0xB0000, vmpl=1)
    assert reasons(debug) == [Reason.GUEST_DEBUG, Reason.PLATFORM_INFO, Reason.VMPL]


def test_E7_an_unsafe_td_is_named_as_such() -> None:
    """dcap-qvl refuses it as well, in words that name nothing to branch on."""
    for attributes, reason in ((1 << 28 | 1 << 29, Reason.TD_MIGRATABLE), (0, Reason.TD_ATTRIBUTES)):
        found = judged(quote(td_attributes=attributes.to_bytes(8, "little")))
        assert not found.authentic
        assert [mismatch.reason for mismatch in found.reasons()] == [reason, Reason.QUOTE_SIGNATURE]


def test_E12_the_strict_default_refuses_milan_and_lent_keys() -> None:
    milan, lent = chip(Product.MILAN), chip(kind=KeyKind.VLEK)
    anchors = amd(Product.MILAN).anchors()
    given = supplied(milan, crl=None)
    assert reasons(report(machine=milan), given=given, anchors=anchors) == [Reason.PRODUCT_REFUSED]
    assert reasons(report(machine=lent), given=supplied(lent)) == [Reason.SIGNING_KEY]


def test_a_kind_that_the_policy_does_not_name_is_refused() -> None:
    for data in (quote(), report()):
        found = judged(data, EvidencePolicy())
        assert found.authentic
        assert [mismatch.reason for mismatch in found.reasons()] == [Reason.EVIDENCE_KIND]


def test_references_and_machines_of_tdx() -> None:
    topo = topology()
    assert topo.tdx is not None
    web, db = topo.roles["web"].tdx, topo.roles["db"].tdx
    platforms = frozenset({PPID})
    assert judged(quote(), EvidencePolicy(tdx=TdxDemand(topo.tdx, web, platforms))).acceptable
    wrong = EvidencePolicy(tdx=TdxDemand(topo.tdx, db, frozenset({bytes(16)})))
    assert reasons(quote(), wrong) == [Reason.CONFIG_DIGEST, Reason.PLATFORM_REFUSED]
    assert reasons(quote(), EvidencePolicy(tdx=TdxDemand(topo.tdx, (), None))) == [Reason.EVIDENCE_KIND]


def test_references_and_machines_of_snp() -> None:
    own = frozenset({chip().chip_id})
    assert judged(report(), EvidencePolicy(snp=SnpDemand(policy(), (WEB.reference(),), own))).acceptable
    other = replace(WEB.reference(), host_data=bytes(32))
    wrong = EvidencePolicy(snp=SnpDemand(policy(), (other,), frozenset({b"\xee" * 64})))
    assert reasons(report(), wrong) == [Reason.PLATFORM_REFUSED, Reason.CONFIG_DIGEST]


def test_E14_what_cannot_be_read_is_not_authentic() -> None:
    assert reasons(quote()[:700]) == [Reason.QUOTE_FORMAT]
    assert reasons(quote() + b"x") == [Reason.QUOTE_TRAILING]
    assert reasons(report() + b"\0") == [Reason.QUOTE_TRAILING]
    assert reasons(report(), given=supplied(key=b"x")) == [Reason.CERTIFICATE_INVALID]


def test_fields_are_read_whatever_follows_a_quote() -> None:
    """Shown, not believed."""
    data = quote() + b"text"
    fields = read_fields(EvidenceKind.TDX, data, None)
    assert fields["trailing"] == 4
    assert fields["quote_len"] == len(data)
    assert fields["mrtd"] == parse_tdx_quote(quote()).mrtd.hex()


def test_fields_of_a_report_with_and_without_certificate() -> None:
    turin = chip(Product.TURIN)
    made = report(machine=turin)
    alone = read_fields(EvidenceKind.SNP, made, None)
    beside = read_fields(EvidenceKind.SNP, made, turin.certificate)
    assert alone["cert"] is None
    assert alone["launch_tcb_decoded"] == {"fmc": 1, "bl": 10, "tee": 2, "snp": 25, "ucode": 210}
    assert beside["cert"]["spl"]["3.9"] == 1
    assert {**alone, "cert": beside["cert"]} == beside
    shaped = read_fields(EvidenceKind.SNP, report(ReportShape(launch_mitigations=3)), None)
    assert shaped["launch_mit_vector"] == "0300000000000000"
