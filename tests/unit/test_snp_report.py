"""A report is 1184 bytes, says what it is, and is zero wherever AMD reserves."""

from __future__ import annotations

import pytest
from support.snp import WEB, chip, guest, report

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.snp_certs import KeyKind
from toposeal.evidence.snp_report import REPORT_SIZE, parse_snp_report
from toposeal.evidence.snp_tcb import Product
from toposeal_lab.simsnp import ReportShape

DATA = bytes(range(64))


def refusal(data: bytes) -> tuple[Reason, str]:
    with pytest.raises(EvidenceError) as refused:
        parse_snp_report(data)
    return refused.value.reason, refused.value.mismatches[0].field


def patched(offset: int, piece: bytes, version: int = 5) -> bytes:
    """A report whose signature covers the patch: only the layout can refuse it."""
    return chip().report(DATA, WEB, ReportShape(version=version, patches={offset: piece}))


def test_every_field_is_where_amd_puts_it() -> None:
    shape = ReportShape(version=5, launch_mitigations=3, current_mitigations=7)
    found = report(
        report_data=DATA, shape=shape, guest_svn=9, family_id=b"f" * 16, image_id=b"i" * 16, vmpl=2
    )
    assert (found.version, found.guest_svn, found.vmpl, found.sig_algo) == (5, 9, 2, 1)
    assert (found.policy, found.platform_info, found.key_info) == (0x30000, 0x25, 0)
    assert (found.family_id, found.image_id) == (b"f" * 16, b"i" * 16)
    assert (found.report_data, found.measurement, found.host_data) == (DATA, WEB.measurement, WEB.host_data)
    assert (found.report_id, found.report_id_ma) == (bytes(range(32)), b"\xff" * 32)
    assert (found.cpuid_fam, found.cpuid_mod, found.cpuid_step) == (0x19, 0x11, 1)
    assert found.chip_id == chip().chip_id
    assert (found.cur_build, found.cur_minor, found.cur_major) == (40, 55, 1)
    assert (found.com_build, found.com_minor, found.com_major) == (40, 55, 1)
    assert (found.launch_mit_vector, found.current_mit_vector) == (3, 7)
    assert found.has_mitigations
    assert found.product is Product.GENOA
    assert found.signing_key == 0
    assert not found.author_key_en
    assert len(found.signed) == 672
    assert len(found.raw) == REPORT_SIZE


def test_version_2_leaves_the_product_to_the_certificate() -> None:
    found = report(shape=ReportShape(version=2))
    assert (found.has_cpuid, found.product, found.has_mitigations) == (False, None, False)


def test_version_4_is_laid_out_as_version_3() -> None:
    """Milan at GCP writes it, firmware 1.55.31; AMD's document does not describe it."""
    found = report(shape=ReportShape(version=4))
    assert (found.version, found.has_cpuid, found.product) == (4, True, Product.GENOA)
    assert (found.has_mitigations, found.launch_mit_vector, found.current_mit_vector) == (False, 0, 0)


def test_an_unknown_cpu_has_no_product() -> None:
    assert report(shape=ReportShape(version=3, cpuid=(0x19, 0x50, 0))).product is None


def test_key_info_names_key_and_author() -> None:
    found = report(chip(kind=KeyKind.VLEK), ReportShape(key_info=0b101))
    assert (found.signing_key, found.author_key_en) == (1, True)


@pytest.mark.parametrize("size", [0, 1, 671, 672, 1183])
def test_E14_a_report_that_is_cut_is_refused(size: int) -> None:
    assert refusal(patched(0, b"")[:size]) == (Reason.QUOTE_FORMAT, "report")


@pytest.mark.parametrize("tail", [b"\0", b"x", bytes(2816)])
def test_E14_nothing_follows_a_report(tail: bytes) -> None:
    """Not even zeros: the kernel gives exactly the report."""
    assert refusal(patched(0, b"") + tail) == (Reason.QUOTE_TRAILING, "report")


@pytest.mark.parametrize("version", [0, 1, 6, 0x00020004, (1 << 32) - 1])
def test_versions_that_no_firmware_writes_are_refused(version: int) -> None:
    data = version.to_bytes(4, "little") + patched(0, b"")[4:]
    assert refusal(data) == (Reason.UNKNOWN_VERSION, "report.version")


@pytest.mark.parametrize("algorithm", [0, 2, 1 << 24])
def test_another_signature_algorithm_is_refused(algorithm: int) -> None:
    assert refusal(patched(0x34, algorithm.to_bytes(4, "little"))) == (Reason.QUOTE_FORMAT, "report.sig_algo")


@pytest.mark.parametrize(
    "offset",
    [
        *(0x4C, 0x4F, 0x18B, 0x19F, 0x1EB, 0x1EF, 0x208, 0x29F),
        *(0x2A0 + 48, 0x2A0 + 71, 0x2E8 + 48, 0x2E8 + 71, 0x330, 0x49F),
    ],
)
def test_reserved_bytes_are_zero(offset: int) -> None:
    for version in (2, 3, 4, 5):
        reason, field = refusal(patched(offset, b"\1", version))
        assert reason is Reason.QUOTE_FORMAT
        assert field.startswith("report.reserved at 0x")
    assert parse_snp_report(patched(offset, b"\0"))


@pytest.mark.parametrize("offset", [0x1F8, 0x1FF, 0x200, 0x207])
def test_mitigation_vectors_exist_from_version_5(offset: int) -> None:
    assert parse_snp_report(patched(offset, b"\1", 5))
    for version in (2, 3, 4):
        assert refusal(patched(offset, b"\1", version))[0] is Reason.QUOTE_FORMAT


@pytest.mark.parametrize("offset", [0x188, 0x189, 0x18A])
def test_cpuid_exists_from_version_3(offset: int) -> None:
    assert parse_snp_report(patched(offset, b"\1", 3))
    assert refusal(patched(offset, b"\1", 2))[0] is Reason.QUOTE_FORMAT


def test_policy_bit_17_is_one() -> None:
    data = chip().report(DATA, guest(policy=0x10000))
    assert refusal(data) == (Reason.QUOTE_FORMAT, "report.policy")


@pytest.mark.parametrize("bit", [5, 6, 16, 31])
def test_key_info_has_no_other_bits(bit: int) -> None:
    assert refusal(patched(0x48, (1 << bit).to_bytes(4, "little"))) == (
        Reason.QUOTE_FORMAT,
        "report.key_info",
    )


def test_a_masked_chip_key_signs_nothing() -> None:
    """MASK_CHIP_KEY takes the VCEK out of use; a provider's key may stand in for it."""
    assert refusal(patched(0x48, b"\2")) == (Reason.SIGNING_KEY, "report.key_info")
    assert report(chip(kind=KeyKind.VLEK), ReportShape(key_info=0b110)).signing_key == 1


@pytest.mark.parametrize("key", [2, 3, 4, 5, 6, 7])
def test_a_report_that_no_endorsed_key_signed_is_refused(key: int) -> None:
    data = patched(0x48, (key << 2).to_bytes(4, "little"))
    assert refusal(data) == (Reason.SIGNING_KEY, "report.key_info")
