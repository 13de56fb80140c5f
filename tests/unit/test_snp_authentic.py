"""A report is authentic only under a pinned key, by the key AMD certified for this chip and firmware."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product as pairs
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from support.snp import NOW, WEB, amd, authentic, chip, endorsements, report
from support.tdx import refusal

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.snp_certs import KeyKind, SnpEndorsements
from toposeal.evidence.snp_report import SnpReport, parse_snp_report
from toposeal.evidence.snp_tcb import Product, SnpTcb
from toposeal.verification.anchors import VENDOR_ANCHORS
from toposeal.verification.model import TrustAnchors
from toposeal.verification.snp_authentic import authenticate
from toposeal_lab.simsnp import LabAmd, LabChip, LeafShape, ReportShape, RsaKeys
from toposeal_lab.simsnp.chip import default_tcb
from toposeal_lab.simsnp.pki import der, pem

DAY = 86400
ORDER = int(
    "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973", 16
)
VERSIONS = [
    (Product.MILAN, 2),
    (Product.MILAN, 3),
    (Product.GENOA, 3),
    (Product.GENOA, 5),
    (Product.TURIN, 5),
]


@cache
def stranger() -> LabAmd:
    """Another AMD with keys of its own, under the same names."""
    shared = RsaKeys.shared()
    return LabAmd.create(
        Product.GENOA, NOW, RsaKeys(rsa.generate_private_key(65537, 4096), shared.ask, shared.asvk)
    )


def reason(
    made: SnpReport | None = None,
    vouched: SnpEndorsements | None = None,
    now: int = NOW,
    anchors: TrustAnchors | None = None,
    on: LabChip | None = None,
) -> Reason:
    machine = on or chip()
    arguments = (made or report(machine), vouched or endorsements(machine))
    return refusal(authenticate, *arguments, anchors or machine.vendor.anchors(), now)


@pytest.mark.parametrize(("product", "version"), VERSIONS)
@pytest.mark.parametrize("kind", KeyKind)
def test_a_genuine_report_is_authentic(product: Product, version: int, kind: KeyKind) -> None:
    found = authentic(chip(product, kind), ReportShape(version=version))
    assert (found.kind, found.product) == (kind, product)
    assert found.reported_tcb == found.current_tcb == found.committed_tcb == found.launch_tcb
    assert found.reported_tcb == default_tcb(product)
    assert found.chip == (chip(product).chip_id if kind is KeyKind.VCEK else None)
    assert found.csp_id == (None if kind is KeyKind.VCEK else "simulated provider")
    assert found.report.measurement == WEB.measurement


def test_the_verdict_ends_with_its_first_part() -> None:
    machine = chip()
    assert authentic().expires_at == NOW + 2556 * DAY
    with_list = authenticate(report(), endorsements(crl=amd().crl()), machine.vendor.anchors(), NOW)
    assert with_list.expires_at == NOW + 364 * DAY - 1


def test_E17_the_simulated_root_is_refused_by_a_production_build() -> None:
    with pytest.raises(EvidenceError) as refused:
        authenticate(report(), endorsements(), VENDOR_ANCHORS, NOW)
    assert refused.value.reason is Reason.QUOTE_SIGNATURE
    assert refused.value.mismatches[0].field == "chain.root"


def test_no_anchor_means_no_report() -> None:
    assert reason(anchors=TrustAnchors(intel_sgx_root_ca=b"")) is Reason.QUOTE_SIGNATURE


def test_E10_a_chain_under_another_root_of_the_same_name_is_refused() -> None:
    other = LabChip(stranger(), bytes(64))
    assert authentic(other).product is Product.GENOA  # under its own
    assert reason(report(other), endorsements(other)) is Reason.QUOTE_SIGNATURE


def test_a_root_that_was_issued_anew_is_the_same_root() -> None:
    """Pinned is the key: AMD may renew the certificate around it."""
    renewed = LabAmd.create(Product.GENOA, NOW + DAY, amd().keys)
    assert der(renewed.ark) != der(amd().ark)
    machine = LabChip(renewed, bytes(64))
    assert authenticate(report(machine), endorsements(machine), amd().anchors(), NOW + DAY).chip is None


def test_E10_a_root_of_another_product_is_refused() -> None:
    """One key for all products is the lab's alone; names keep them apart even then."""
    milan, genoa = amd(Product.MILAN), chip()
    chain = pem(der(amd().ask)) + pem(der(milan.ark))
    anchors = TrustAnchors(b"", (der(milan.ark), der(amd().ark)))
    assert reason(vouched=endorsements(genoa, chain=chain), anchors=anchors) is Reason.PRODUCT


def test_E10_an_intermediate_that_the_root_did_not_issue_is_refused() -> None:
    machine = LabChip(stranger(), bytes(64))
    chain = pem(der(stranger().ask)) + pem(der(amd().ark))
    assert reason(report(machine), endorsements(machine, chain=chain)) is Reason.QUOTE_SIGNATURE


def test_E10_a_leaf_of_another_ca_is_refused() -> None:
    key = rsa.generate_private_key(65537, 4096)
    other = LabAmd.create(Product.GENOA, NOW, RsaKeys(amd().keys.ark, key, key))
    foreign = LabChip(other, bytes(64))
    assert reason(report(foreign), endorsements(foreign, chain=chip().chain)) is Reason.QUOTE_SIGNATURE


def test_E10_a_ca_has_to_be_one() -> None:
    """The root, put in the place of the CA, issued no leaf; a leaf is no CA."""
    ark = pem(der(amd().ark))
    assert reason(vouched=endorsements(chain=ark + ark)) is Reason.SIGNING_KEY
    assert reason(vouched=endorsements(chain=pem(chip().certificate) + ark)) is Reason.SIGNING_KEY


@pytest.mark.parametrize(("key", "ca", "claimed"), list(pairs(KeyKind, KeyKind, (0, 1))))
def test_E10_report_certificate_and_ca_agree_on_the_kind_of_key(
    key: KeyKind, ca: KeyKind, claimed: int
) -> None:
    machine = chip(kind=key)
    made = report(machine, ReportShape(key_info=claimed << 2))
    vouched = endorsements(machine, chain=amd().chain(ca))
    if key is ca and claimed == list(KeyKind).index(key):
        assert authenticate(made, vouched, amd().anchors(), NOW).kind is key
    else:
        assert reason(made, vouched) is Reason.SIGNING_KEY


def test_E10_a_ca_of_another_product_is_refused() -> None:
    chain = pem(der(amd(Product.MILAN).ask)) + pem(der(amd().ark))
    assert reason(vouched=endorsements(chain=chain)) is Reason.SIGNING_KEY


@pytest.mark.parametrize("cpuid", [(0x19, 0x01, 1), (0x1A, 0x02, 1), (0x19, 0x70, 0), (0, 0, 0)])
def test_a_report_of_another_cpu_is_refused(cpuid: tuple[int, int, int]) -> None:
    assert reason(report(shape=ReportShape(cpuid=cpuid))) is Reason.PRODUCT


def test_the_stepping_may_differ() -> None:
    """AMD has certified B0 parts as B1."""
    assert authentic(shape=ReportShape(cpuid=(0x19, 0x11, 7))).product is Product.GENOA


def test_turin_says_what_it_is() -> None:
    machine = chip(Product.TURIN)
    assert reason(report(machine, ReportShape(version=2)), on=machine) is Reason.PRODUCT


@pytest.mark.parametrize("now", [-1, 0, NOW - DAY - 1, NOW + 2557 * DAY, 1 << 63])
def test_O1_a_chain_that_is_not_in_force_is_refused(now: int) -> None:
    assert reason(now=now) is Reason.COLLATERAL_INVALID
    for within in (NOW - DAY, NOW + 2556 * DAY):
        assert authenticate(report(), endorsements(), amd().anchors(), within)


def test_each_certificate_has_its_own_window() -> None:
    fresh = LabChip(amd(), bytes(64), shape=LeafShape(not_before=NOW + 5000 * DAY))
    late = NOW + 9125 * DAY
    assert reason(report(fresh), endorsements(fresh), now=NOW) is Reason.COLLATERAL_INVALID
    assert reason(report(fresh), endorsements(fresh), now=late) is Reason.COLLATERAL_INVALID
    assert authenticate(report(fresh), endorsements(fresh), amd().anchors(), NOW + 5000 * DAY)


def test_a_list_past_its_next_update_is_refused() -> None:
    vouched = endorsements(crl=amd().crl())
    assert authenticate(report(), vouched, amd().anchors(), NOW + 364 * DAY - 1)
    assert reason(vouched=vouched, now=NOW + 364 * DAY) is Reason.COLLATERAL_INVALID


def test_E10_a_revoked_ca_is_refused() -> None:
    assert reason(vouched=endorsements(crl=amd().crl([amd().ask]))) is Reason.REVOKED
    assert authenticate(report(), endorsements(crl=amd().crl([amd().asvk])), amd().anchors(), NOW)
    lent = chip(kind=KeyKind.VLEK)
    assert reason(report(lent), endorsements(lent, crl=amd().crl([amd().asvk]))) is Reason.REVOKED


def test_a_list_of_somebody_else_is_refused() -> None:
    """Otherwise a host would answer with an empty list of its own."""
    for crl in (amd().crl(signer=amd().keys.ask), amd().crl(issuer=amd().ask), stranger().crl()):
        assert reason(vouched=endorsements(crl=crl)) is Reason.COLLATERAL_INVALID


def test_E13_a_changed_report_is_refused() -> None:
    good = chip().report(bytes(64), WEB)
    for offset in (0x04, 0x0A, 0x50, 0x90, 0xC0, 0x160, 0x1E8, 0x2A0, 0x2A0 + 47, 0x2E8, 0x2E8 + 47):
        changed = bytearray(good)
        changed[offset] ^= 1
        assert reason(parse_snp_report(bytes(changed))) is Reason.QUOTE_SIGNATURE


@pytest.mark.parametrize("r", [0, ORDER, ORDER + 1, (1 << 384) - 1])
def test_a_scalar_out_of_range_is_no_signature(r: int) -> None:
    assert reason(replace(report(), signature_r=r)) is Reason.QUOTE_SIGNATURE
    assert reason(replace(report(), signature_s=r)) is Reason.QUOTE_SIGNATURE


def test_the_other_form_of_a_signature_holds_too() -> None:
    """(r, n - s) verifies wherever (r, s) does: no identity may ever be made of a report's bytes."""
    made = report()
    twin = replace(made, signature_s=ORDER - made.signature_s)
    assert authenticate(twin, endorsements(), amd().anchors(), NOW).chip == chip().chip_id


def test_E10_a_certificate_of_another_chip_is_refused() -> None:
    other = LabChip(amd(), bytes([9] * 64))
    assert reason(vouched=endorsements(other)) is Reason.QUOTE_SIGNATURE


def test_E10_a_chip_that_is_not_the_certificates_is_refused() -> None:
    """Signed by the certified key all the same: the claim alone is wrong."""
    made = report(shape=ReportShape(patches={0x1A0: b"\xee"}))
    assert reason(made) is Reason.CHIP_ID


def test_turins_chip_has_8_bytes_and_no_more() -> None:
    machine = chip(Product.TURIN)
    made = report(machine, ReportShape(patches={0x1A8: b"\1"}))
    assert reason(made, on=machine) is Reason.CHIP_ID


def test_a_masked_chip_is_nobody() -> None:
    assert authentic(shape=ReportShape(mask_chip_id=True)).chip is None


def test_a_chip_that_only_a_provider_vouches_for_is_nobody() -> None:
    lent = chip(kind=KeyKind.VLEK)
    assert authentic(lent, ReportShape(patches={0x1A0: b"\xee" * 64})).chip is None


@pytest.mark.parametrize("product", Product)
@pytest.mark.parametrize("part", ["bl", "tee", "snp", "ucode", "fmc"])
def test_E10_a_certificate_for_other_firmware_is_refused(product: Product, part: str) -> None:
    """In each component, lower or higher."""
    own = default_tcb(product)
    if part == "fmc" and own.fmc is None:
        return
    for step in (-1, 1):
        other = replace(own, **{part: own.components()[part] + step})
        newest = SnpTcb(**dict.fromkeys(own.components(), 255))
        machine = chip(product)
        made = report(machine, ReportShape(reported=other, current=newest))
        assert reason(made, on=machine) is Reason.TCB_MISMATCH


@pytest.mark.parametrize("part", ["bl", "tee", "snp", "ucode"])
def test_E8_more_than_what_runs_is_not_reported_nor_committed(part: str) -> None:
    own = default_tcb(Product.GENOA)
    higher = replace(own, **{part: own.components()[part] + 1})
    lower = replace(own, **{part: own.components()[part] - 1})
    assert reason(report(shape=ReportShape(committed=higher))) is Reason.TCB_MISMATCH
    assert reason(report(shape=ReportShape(current=lower))) is Reason.TCB_MISMATCH
    assert authentic(shape=ReportShape(current=higher, committed=lower)).current_tcb == higher


def test_a_reserved_byte_of_a_tcb_is_zero() -> None:
    for offset in (0x38, 0x180, 0x1E0, 0x1F0):
        assert reason(report(shape=ReportShape(patches={offset + 3: b"\1"}))) is Reason.QUOTE_FORMAT


def test_arguments_are_remembered_by_value_alone() -> None:
    """The same report under other anchors is judged anew."""
    arguments: dict[str, Any] = {"anchors": VENDOR_ANCHORS}
    assert authentic().kind is KeyKind.VCEK
    assert reason(**arguments) is Reason.QUOTE_SIGNATURE
