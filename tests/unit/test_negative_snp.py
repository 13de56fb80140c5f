"""SNP: what other verifiers test and no other file here does. docs/evidence-checks.md is the whole list."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID
from support.snp import NO_FLOOR, NOW, WEB, amd, authentic, chip, endorsements, policy, report
from support.tdx import refusal

from toposeal.errors import Reason
from toposeal.evidence.ghcb_table import ARK, VCEK, parse_certificate_table
from toposeal.evidence.snp_certs import KeyKind, parse_endorsements
from toposeal.evidence.snp_report import parse_snp_report
from toposeal.evidence.snp_tcb import Product
from toposeal.topology.snp import SnpFloors
from toposeal.verification.snp_authentic import authenticate
from toposeal.verification.snp_policy import refuse_unsafe_guest, require_platform
from toposeal_lab.simsnp import LeafShape, ReportShape, certificate_table
from toposeal_lab.simsnp.pki import der, pem

DAY = 86400
PSS = padding.PSS(padding.MGF1(hashes.SHA384()), salt_length=48)
P384_ORDER = int(
    "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973", 16
)


def renamed(
    certificate: x509.Certificate, signer: rsa.RSAPrivateKey, issuer: x509.Name | None = None, **parts: str
) -> bytes:
    """DER of `certificate` again with the same key, and parts of its subject replaced."""
    oids = {"country": NameOID.COUNTRY_NAME, "state": NameOID.STATE_OR_PROVINCE_NAME}
    wanted = {oids[name]: value for name, value in parts.items()}
    subject = x509.Name(
        [x509.NameAttribute(each.oid, wanted.get(each.oid, each.value)) for each in certificate.subject]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(certificate.public_key())
        .serial_number(9)
        .not_valid_before(certificate.not_valid_before_utc)
        .not_valid_after(certificate.not_valid_after_utc)
    )
    for extension in certificate.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return der(builder.sign(signer, hashes.SHA384(), rsa_padding=PSS))


def reason(vouched: Any = None, data: bytes | None = None) -> Reason:
    made = report() if data is None else parse_snp_report(data)
    return refusal(authenticate, made, vouched or endorsements(), amd().anchors(), NOW)


def test_a_root_of_another_country_is_refused() -> None:
    """The pinned key under another name."""
    vendor = amd()
    root = renamed(vendor.ark, vendor.keys.ark, country="XX")
    chain = pem(der(vendor.ask)) + pem(root)
    assert reason(endorsements(chain=chain)) is Reason.QUOTE_SIGNATURE


def test_a_ca_of_another_state_is_refused() -> None:
    """Issued by the root, with the right key: not the one that the leaf names."""
    vendor = amd()
    same = renamed(vendor.ask, vendor.keys.ark, vendor.ark.subject)
    assert authenticate(report(), endorsements(chain=pem(same) + pem(der(vendor.ark))), vendor.anchors(), NOW)
    other = renamed(vendor.ask, vendor.keys.ark, vendor.ark.subject, state="XX")
    assert reason(endorsements(chain=pem(other) + pem(der(vendor.ark)))) is Reason.QUOTE_SIGNATURE


def test_a_certificate_that_the_kds_issued_anew_vouches_too() -> None:
    """The same key with other dates: what is remembered must be the key, never the certificate."""
    machine = chip()
    start = int((datetime.fromtimestamp(NOW, UTC) - timedelta(days=300)).timestamp())
    key: Any = machine._key.public_key()
    again = machine.vendor.issue(KeyKind.VCEK, key, machine.tcb, machine.chip_id, LeafShape(not_before=start))
    assert again != machine.certificate
    made = parse_snp_report(machine.report(bytes(64), WEB))
    for certificate in (machine.certificate, again):
        assert authenticate(made, endorsements(key=certificate), amd().anchors(), NOW).chip


def test_a_certificate_that_is_dated_ahead_is_refused() -> None:
    machine = chip()
    key: Any = machine._key.public_key()
    shape = LeafShape(not_before=NOW + 3 * DAY)
    ahead = machine.vendor.issue(KeyKind.VCEK, key, machine.tcb, machine.chip_id, shape)
    assert reason(endorsements(key=ahead)) is Reason.COLLATERAL_INVALID


@pytest.mark.parametrize("leaf", [KeyKind.VCEK, KeyKind.VLEK])
@pytest.mark.parametrize("ca", [KeyKind.VCEK, KeyKind.VLEK])
def test_a_leaf_and_a_ca_of_two_kinds_do_not_fit(leaf: KeyKind, ca: KeyKind) -> None:
    machine = chip(kind=leaf)
    vouched = parse_endorsements(machine.certificate, amd().chain(ca))
    data = machine.report(bytes(64), WEB)
    if leaf is ca:
        assert authenticate(parse_snp_report(data), vouched, amd().anchors(), NOW)
    else:
        assert reason(vouched, data) is Reason.SIGNING_KEY


@pytest.mark.parametrize("claimed", [KeyKind.VCEK, KeyKind.VLEK])
def test_a_report_that_names_the_other_key_is_refused(claimed: KeyKind) -> None:
    """SIGNING_KEY, signed along with the rest, against who in truth signed."""
    machine = chip(kind=KeyKind.VLEK if claimed is KeyKind.VCEK else KeyKind.VCEK)
    shape = ReportShape(key_info=0 if claimed is KeyKind.VCEK else 4)
    assert reason(endorsements(machine), machine.report(bytes(64), WEB, shape)) is Reason.SIGNING_KEY


def test_a_report_of_genoa_with_a_leaf_of_milan_is_refused() -> None:
    milan = chip(Product.MILAN)
    made = parse_snp_report(chip().report(bytes(64), WEB))
    vouched = endorsements(milan)
    assert refusal(authenticate, made, vouched, amd(Product.MILAN).anchors(), NOW) is Reason.PRODUCT


def test_a_table_of_a_host_without_a_ca_or_with_a_foreign_root_decides_nothing() -> None:
    """As clouds have served them: only what the pinned roots confirm counts."""
    table = parse_certificate_table(certificate_table([(VCEK, chip().certificate), (ARK, b"\x30\x00")]))
    assert (table.vcek, table.ca, table.root) == (chip().certificate, None, b"\x30\x00")


def test_the_other_form_of_a_signature_makes_the_same_verdict_of_other_bytes() -> None:
    data = bytearray(chip().report(bytes(64), WEB))
    s = int.from_bytes(data[0x2E8 : 0x2E8 + 48], "little")
    data[0x2E8 : 0x2E8 + 48] = (P384_ORDER - s).to_bytes(48, "little")
    found = authenticate(parse_snp_report(bytes(data)), endorsements(), amd().anchors(), NOW)
    assert found.report.signed == bytes(data[:0x2A0])


@pytest.mark.parametrize("offset", range(0x2A0 + 48, 0x2A0 + 72, 5))
def test_a_dirty_tail_of_a_signature_is_refused(offset: int) -> None:
    data = bytearray(chip().report(bytes(64), WEB))
    data[offset] = 1
    assert refusal(parse_snp_report, bytes(data)) is Reason.QUOTE_FORMAT


def test_more_mitigations_than_demanded_are_welcome() -> None:
    """Launch bit missing, current bit missing, superset."""
    both = authentic(shape=ReportShape(version=5, launch_mitigations=7, current_mitigations=7))
    require_platform(both, policy(launch_mitigations=5, current_mitigations=2))
    for name in ("launch", "current"):
        shape: dict[str, Any] = {"launch_mitigations": 5, "current_mitigations": 5, f"{name}_mitigations": 1}
        found = authentic(shape=ReportShape(version=5, **shape))
        demanded = policy(launch_mitigations=5, current_mitigations=5)
        assert refusal(require_platform, found, demanded) is Reason.MITIGATIONS


@pytest.mark.parametrize("version", [2, 3, 4])
def test_a_report_without_mitigations_meets_no_demand_for_them(version: int) -> None:
    found = authentic(shape=ReportShape(version=version))
    assert refusal(require_platform, found, policy(current_mitigations=1)) is Reason.MITIGATIONS


def test_floors_hold_for_reported_committed_and_launch_each() -> None:
    """A host that runs new firmware and still reports, commits or launched under old."""
    found = authentic()
    for name in ("reported", "committed", "launch"):
        floors = dict.fromkeys(("reported", "committed", "launch"), NO_FLOOR)
        floors[name] = NO_FLOOR | {"ucode": 255}
        demanded = policy(products={Product.GENOA: SnpFloors(**floors)})
        assert refusal(require_platform, found, demanded) is Reason.TCB_FLOOR


def test_a_bit_that_a_later_firmware_may_define_is_refused_until_it_is_known() -> None:
    """Guest policy bit 26, PLATFORM_INFO bits 6 and 8."""
    unknown: dict[str, Any] = {"policy": 0x30000 | 1 << 26}
    assert refusal(refuse_unsafe_guest, report(**unknown)) is Reason.GUEST_POLICY
    for bit in (6, 8):
        shaped = report(shape=ReportShape(platform_info=0x25 | 1 << bit))
        assert refusal(refuse_unsafe_guest, shaped) is Reason.PLATFORM_INFO


def test_the_paravisors_guest_speaks_from_a_lower_privilege_level() -> None:
    """Azure: VMPL 0 is not the guest's. A policy for VMPL 0 refuses what the guest asked for itself."""
    found = authentic(vmpl=2)
    assert refusal(require_platform, found, policy(vmpl=0)) is Reason.VMPL
