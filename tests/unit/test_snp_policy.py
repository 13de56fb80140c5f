"""What is authentic is still refused unless the owner's policy accepts it, field by field."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.snp import SHAPE, WEB, authentic, chip, policy, report, topology
from support.tdx import refusal
from support.tdx import topology as tdx_topology

from toposeal.errors import PolicyError, Reason
from toposeal.evidence.snp_certs import KeyKind
from toposeal.evidence.snp_tcb import Product
from toposeal.topology.snp import PLATFORM_STATES, RELAXATIONS, RESTRICTIONS, SnpFloors
from toposeal.verification.snp_policy import (
    GUEST_POLICY_BITS,
    PLATFORM_INFO_BITS,
    refuse_unsafe_guest,
    require_chip,
    require_platform,
    require_reference,
    require_role,
)
from toposeal_lab.simsnp import ReportShape
from toposeal_lab.simsnp.chip import default_tcb

BASE = 1 << 17
REFERENCE = WEB.reference()


def test_a_plain_guest_is_safe() -> None:
    refuse_unsafe_guest(report())


@pytest.mark.parametrize(("bit", "reason"), [(19, Reason.GUEST_DEBUG), (18, Reason.GUEST_MIGRATABLE)])
def test_E7_guests_that_the_host_may_look_into_or_move_are_refused(bit: int, reason: Reason) -> None:
    assert refusal(refuse_unsafe_guest, report(policy=BASE | 1 << bit)) is reason


@pytest.mark.parametrize("bit", [26, 27, 40, 63])
def test_a_policy_bit_of_unknown_meaning_is_refused(bit: int) -> None:
    assert refusal(refuse_unsafe_guest, report(policy=BASE | 1 << bit)) is Reason.GUEST_POLICY


def test_every_known_policy_bit_is_known() -> None:
    everything = sum(
        1 << bit for name, bit in GUEST_POLICY_BITS.items() if name not in ("DEBUG", "MIGRATE_MA")
    )
    refuse_unsafe_guest(report(policy=BASE | 0xFFFF | everything))


def test_BadRAM_a_host_whose_memory_was_not_checked_is_refused() -> None:
    for platform in (0, 0x1F, 0x9F):
        made = report(shape=ReportShape(platform_info=platform))
        assert refusal(refuse_unsafe_guest, made) is Reason.PLATFORM_INFO
    refuse_unsafe_guest(report(shape=ReportShape(platform_info=0x20)))


@pytest.mark.parametrize("bit", [6, 8, 31, 63])
def test_a_platform_bit_of_unknown_meaning_is_refused(bit: int) -> None:
    made = report(shape=ReportShape(platform_info=0x20 | 1 << bit))
    assert refusal(refuse_unsafe_guest, made) is Reason.PLATFORM_INFO
    refuse_unsafe_guest(report(shape=ReportShape(platform_info=0xBF)))


def test_E7_everything_unsafe_is_reported() -> None:
    unsafe = report(shape=ReportShape(platform_info=1 << 8), policy=BASE | 0b11 << 18 | 1 << 30)
    with pytest.raises(PolicyError) as refused:
        refuse_unsafe_guest(unsafe)
    assert [mismatch.reason for mismatch in refused.value.mismatches] == [
        Reason.GUEST_DEBUG,
        Reason.GUEST_MIGRATABLE,
        Reason.GUEST_POLICY,
        Reason.PLATFORM_INFO,
        Reason.PLATFORM_INFO,
    ]


@pytest.mark.parametrize("product", Product)
def test_a_platform_that_is_what_the_owner_wants_is_accepted(product: Product) -> None:
    require_platform(authentic(chip(product)), policy(product))


def test_E12_a_product_that_is_not_admitted_by_name_is_refused() -> None:
    milan = authentic(chip(Product.MILAN))
    assert refusal(require_platform, milan, policy(Product.GENOA)) is Reason.PRODUCT_REFUSED
    assert refusal(require_platform, milan, policy(products={})) is Reason.PRODUCT_REFUSED
    require_platform(milan, policy(Product.MILAN))


def test_E10_a_lent_key_is_refused_where_the_owner_wants_the_chips() -> None:
    lent = authentic(chip(kind=KeyKind.VLEK))
    assert refusal(require_platform, lent, policy()) is Reason.SIGNING_KEY
    require_platform(lent, policy(endorsements=frozenset({"VCEK", "VLEK"})))
    assert refusal(require_platform, authentic(), policy(endorsements=frozenset())) is Reason.SIGNING_KEY


@pytest.mark.parametrize("vmpl", [1, 2, 3])
def test_E7_another_privilege_level_is_refused(vmpl: int) -> None:
    """Higher or lower: what asks at VMPL 0 is not what the owner expects behind a paravisor."""
    assert refusal(require_platform, authentic(vmpl=vmpl), policy()) is Reason.VMPL
    assert refusal(require_platform, authentic(), policy(vmpl=vmpl)) is Reason.VMPL
    require_platform(authentic(vmpl=vmpl), policy(vmpl=vmpl))


@pytest.mark.parametrize("product", Product)
@pytest.mark.parametrize("which", ["reported", "committed", "launch"])
@pytest.mark.parametrize("part", ["bl", "tee", "snp", "ucode", "fmc"])
def test_E8_firmware_below_a_floor_in_one_component_is_refused(
    product: Product, which: str, part: str
) -> None:
    own = default_tcb(product).components()
    if part not in own:
        return
    exact = SnpFloors(own, own, own)
    above = replace(exact, **{which: own | {part: own[part] + 1}})
    found = authentic(chip(product))
    require_platform(found, policy(product, products={product: exact}))
    assert refusal(require_platform, found, policy(product, products={product: above})) is Reason.TCB_FLOOR


def test_E10_a_vlek_is_good_for_the_providers_that_are_named() -> None:
    lent = frozenset({"VLEK"})
    found = authentic(chip(kind=KeyKind.VLEK))
    require_platform(found, policy(endorsements=lent))
    require_platform(found, policy(endorsements=lent, csp_ids=frozenset({"other", "simulated provider"})))
    others = policy(endorsements=lent, csp_ids=frozenset({"other", "simulated"}))
    assert refusal(require_platform, found, others) is Reason.CSP_ID
    require_platform(authentic(), policy(csp_ids=frozenset({"other"})))


@pytest.mark.parametrize("part", ["bl", "tee", "snp", "ucode"])
def test_E8_reports_vouched_for_by_less_than_is_committed_are_refused(part: str) -> None:
    """The host lowers what its reports stand for, to keys that older firmware can derive."""
    own = default_tcb(Product.GENOA)
    higher = replace(own, **{part: own.components()[part] + 1})
    found = authentic(shape=ReportShape(current=higher, committed=higher))
    assert refusal(require_platform, found, policy()) is Reason.TCB_FLOOR
    require_platform(found, policy(lowered_tcb=True))


@pytest.mark.parametrize("part", ["cur_build", "cur_minor", "cur_major", "snp", "ucode"])
def test_E8_firmware_that_is_not_committed_is_provisional(part: str) -> None:
    """By build, by version and by TCB: the host can go back behind it without a restart."""
    own = default_tcb(Product.GENOA)
    offsets = {"cur_build": 0x1E8, "cur_minor": 0x1E9, "cur_major": 0x1EA}
    if part in offsets:
        shape = ReportShape(patches={offsets[part]: b"\x63"})
    else:
        shape = ReportShape(current=replace(own, **{part: own.components()[part] + 1}))
    found = authentic(shape=shape)
    assert refusal(require_platform, found, policy()) is Reason.PROVISIONAL_FIRMWARE
    require_platform(found, policy(provisional_firmware=True))


@pytest.mark.parametrize("name", RELAXATIONS)
def test_what_a_guest_may_allow_its_host_is_admitted_by_name(name: str) -> None:
    found = authentic(policy=BASE | 1 << GUEST_POLICY_BITS[name])
    assert refusal(require_platform, found, policy(admit=frozenset())) is Reason.GUEST_POLICY
    require_platform(found, policy(admit=frozenset({name})))
    require_platform(authentic(policy=BASE), policy(admit=frozenset()))


@pytest.mark.parametrize("name", RESTRICTIONS)
def test_what_a_guest_must_demand_of_its_host_is_demanded(name: str) -> None:
    demanded = policy(require=frozenset({name}))
    assert refusal(require_platform, authentic(), demanded) is Reason.GUEST_POLICY
    found = authentic(policy=BASE | 1 << GUEST_POLICY_BITS[name])
    require_platform(found, demanded)
    require_platform(found, policy())


@pytest.mark.parametrize("name", PLATFORM_STATES)
def test_the_state_of_the_platform_is_demanded(name: str) -> None:
    demanded = policy(require_platform=frozenset({name}))
    lacking, having = (
        authentic(shape=ReportShape(platform_info=0x20 | bit)) for bit in (0, 1 << PLATFORM_INFO_BITS[name])
    )
    assert refusal(require_platform, lacking, demanded) is Reason.PLATFORM_INFO
    require_platform(having, demanded)


@pytest.mark.parametrize("which", ["launch", "current"])
def test_mitigations_are_demanded_bit_by_bit(which: str) -> None:
    name = f"{which}_mitigations"
    demanded = replace(policy(), **typed({name: 0b101}))
    for found in (0, 0b001, 0b100, 0b010):
        lacking = authentic(shape=replace(SHAPE, **typed({name: found})))
        assert refusal(require_platform, lacking, demanded) is Reason.MITIGATIONS
    for found in (0b101, 0b111):
        require_platform(authentic(shape=replace(SHAPE, **typed({name: found}))), demanded)
    assert refusal(require_platform, authentic(shape=ReportShape(version=3)), demanded) is Reason.MITIGATIONS


def test_a_revocation_list_is_demanded_by_the_owners_word() -> None:
    demanded = policy(crl=True)
    assert refusal(require_platform, authentic(), demanded) is Reason.COLLATERAL_MISSING
    for number in (0, 7):
        require_platform(replace(authentic(), crl_number=number), demanded)
    require_platform(authentic(), policy())


def test_everything_wrong_with_the_platform_is_reported() -> None:
    found = authentic(chip(Product.MILAN, KeyKind.VLEK), policy=0x230000, vmpl=1)
    demanded = policy(
        require=frozenset({"SINGLE_SOCKET"}), require_platform=frozenset({"TSME_EN"}), launch_mitigations=1
    )
    with pytest.raises(PolicyError) as refused:
        require_platform(found, demanded)
    assert [mismatch.reason for mismatch in refused.value.mismatches] == [
        Reason.SIGNING_KEY,
        Reason.VMPL,
        Reason.PRODUCT_REFUSED,
        Reason.GUEST_POLICY,
        Reason.GUEST_POLICY,
        Reason.PLATFORM_INFO,
        Reason.MITIGATIONS,
    ]


def test_the_guest_is_the_measured_one() -> None:
    require_reference(report(), [REFERENCE])


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("measurement", b"\xff" * 48, Reason.MEASUREMENT),
        ("host_data", b"\xff" * 32, Reason.CONFIG_DIGEST),
        ("family_id", b"\xff" * 16, Reason.MEASUREMENT),
        ("image_id", b"\xff" * 16, Reason.MEASUREMENT),
    ],
)
def test_E5_a_guest_that_differs_in_one_field_is_refused(field: str, value: bytes, reason: Reason) -> None:
    other = report(**typed({field: value}))
    assert refusal(require_reference, other, [REFERENCE]) is reason
    if field in ("family_id", "image_id"):
        require_reference(other, [replace(REFERENCE, **typed({field: None}))])


def test_an_older_guest_is_refused() -> None:
    floor = [replace(REFERENCE, guest_svn=4)]
    assert refusal(require_reference, report(guest_svn=3), floor) is Reason.MEASUREMENT
    for svn in (4, 5):
        require_reference(report(guest_svn=svn), floor)


def typed(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields that are named at run time."""
    return fields


def keyed(**digests: Any) -> Any:
    return replace(REFERENCE, **digests)


def test_a_launch_is_signed_by_an_admitted_key() -> None:
    admitted = frozenset({b"k" * 48})
    signed = report(id_key_digest=b"k" * 48)
    require_reference(signed, [keyed(id_key_digests=admitted)])
    for digest in (bytes(48), b"x" * 48):
        other = report(id_key_digest=digest)
        assert refusal(require_reference, other, [keyed(id_key_digests=admitted)]) is Reason.ID_KEY
        require_reference(other, [REFERENCE])


def test_no_list_admits_an_unsigned_launch() -> None:
    zero = frozenset({bytes(48)})
    assert refusal(require_reference, report(), [keyed(id_key_digests=zero)]) is Reason.ID_KEY
    assert refusal(require_reference, report(), [keyed(author_key_digests=zero)]) is Reason.ID_KEY


def test_an_author_counts_only_where_the_report_says_that_there_is_one() -> None:
    wanted = [keyed(author_key_digests=frozenset({b"a" * 48}))]
    require_reference(report(shape=ReportShape(key_info=1), author_key_digest=b"a" * 48), wanted)
    assert refusal(require_reference, report(author_key_digest=b"a" * 48), wanted) is Reason.ID_KEY


def test_the_closest_of_several_references_is_reported() -> None:
    far = replace(REFERENCE, measurement=bytes(48), host_data=bytes(32), family_id=b"f" * 16)
    require_reference(report(), [far, REFERENCE])
    found = report(measurement=b"x" * 48)
    assert refusal(require_reference, found, [far, REFERENCE]) is Reason.MEASUREMENT
    with pytest.raises(PolicyError) as refused:
        require_reference(found, [far, REFERENCE])
    assert len(refused.value.mismatches) == 1


def test_no_reference_means_no_member() -> None:
    assert refusal(require_reference, report(), []) is Reason.EVIDENCE_KIND


def test_E6_the_role_is_the_measured_one() -> None:
    declared = topology()
    assert require_role(report(), declared, "web").name == "web"
    assert refusal(require_role, report(), declared, "db") is Reason.ROLE_MISMATCH
    assert refusal(require_role, report(host_data=bytes(32)), declared, "web") is Reason.CONFIG_DIGEST
    assert refusal(require_role, report(), tdx_topology(), "web") is Reason.EVIDENCE_KIND


def test_E11_a_machine_that_is_not_listed_is_refused() -> None:
    own = frozenset({chip().chip_id})
    require_chip(authentic(), own)
    require_chip(authentic(), None)
    for chips in (frozenset(), frozenset({b"\xee" * 64})):
        assert refusal(require_chip, authentic(), chips) is Reason.PLATFORM_REFUSED


def test_E11_a_machine_that_hides_is_on_no_list() -> None:
    every = frozenset({chip().chip_id, bytes(64)})
    masked = authentic(shape=ReportShape(mask_chip_id=True))
    lent = authentic(chip(kind=KeyKind.VLEK))
    for found in (masked, lent):
        assert refusal(require_chip, found, every) is Reason.PLATFORM_REFUSED
        require_chip(found, None)
