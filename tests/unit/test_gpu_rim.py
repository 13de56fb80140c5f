"""Measurements are compared with what a pinned root's manifest lists, of driver and VBIOS, index by index."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography import x509
from support.gpu import NOW, anchors, authentic, golden, gpu, manifests, signer
from support.tdx import refusal

from toposeal.errors import PolicyError, Reason
from toposeal.evidence.rim import parse_rim
from toposeal.verification.anchors import VENDOR_ANCHORS
from toposeal.verification.gpu_rim import AuthenticRim, authenticate_rim, require_rims
from toposeal.verification.model import TrustAnchors
from toposeal_lab.simgpu import GpuShape, LabRimSigner
from toposeal_lab.simgpu.pki import ca, issue, subject

DRIVER, VBIOS = manifests()


def trusted(data: bytes) -> AuthenticRim:
    return authenticate_rim(parse_rim(data), anchors(), NOW)


def made(version: str, indices: range, product: str = "GH100") -> AuthenticRim:
    return trusted(signer().manifest(product, version, golden(gpu(), indices)))


def untrusted(data: bytes, roots: TrustAnchors | None = None, now: int = NOW) -> Reason:
    return refusal(authenticate_rim, parse_rim(data), roots or anchors(), now)


def refused(*manifests: AuthenticRim, shape: GpuShape | None = None) -> list[Reason]:
    with pytest.raises(PolicyError) as raised:
        require_rims(authentic(shape=shape or GpuShape()), manifests)
    return [mismatch.reason for mismatch in raised.value.mismatches]


def test_what_nvidia_released_is_accepted() -> None:
    assert require_rims(authentic(), [trusted(VBIOS), trusted(DRIVER)]) == 20


def test_a_switch_has_a_vbios_alone_and_its_name_is_spelled_in_two_ways() -> None:
    switch = gpu("LS_10")
    listed = golden(switch, range(6))
    for product in ("LS10", "LS_10"):
        rim = trusted(signer().manifest(product, "96.10.55.00.01", listed))
        assert require_rims(authentic(switch), [rim]) == 6


def test_E17_a_simulated_manifest_is_refused_by_a_production_build() -> None:
    assert untrusted(DRIVER, VENDOR_ANCHORS) is Reason.RIM
    assert untrusted(DRIVER, TrustAnchors(b"")) is Reason.RIM


def test_a_manifest_expires_with_its_certificates() -> None:
    end = trusted(DRIVER).expires_at
    for outside in (NOW - 86_401, end + 1):
        assert untrusted(DRIVER, now=outside) is Reason.RIM


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'product="GH100"', b'product="GB100"'),
        (b'colloquialVersion="550', b'colloquialVersion="551'),
        (b'active="False"', b'active="True"'),
        (b"    <ns0:Meta", b"     <ns0:Meta"),
    ],
)
def test_E13_a_changed_document_is_not_what_was_signed(old: bytes, new: bytes) -> None:
    assert untrusted(DRIVER.replace(old, new)) is Reason.RIM


def test_E13_a_changed_reference_is_not_what_was_signed() -> None:
    """The digest of another document put where the true one stood."""
    other = parse_rim(VBIOS)
    mixed = replace(parse_rim(DRIVER), covered=other.covered, digest=other.digest, golden=other.golden)
    changed = replace(mixed, signed_info=other.signed_info)
    assert refusal(authenticate_rim, changed, anchors(), NOW) is Reason.RIM


def test_E14_certificates_lead_from_signer_to_root() -> None:
    own = signer()
    leaf, middle, root = own.certificates
    rogue = LabRimSigner.create(NOW)
    name = leaf.subject
    signing = issue(name, own.key, middle.subject, own.key, NOW, ())
    authority = issue(name, own.key, root.subject, rogue.key, NOW, ca())
    chains: list[list[x509.Certificate]] = [
        [leaf, root],
        [middle, root],
        [leaf, middle, middle, root],
        [signing, middle, root],
        [authority, root],
        [rogue.certificates[0], middle, root],
        [leaf, root, middle],
        [root, root],
    ]
    for chain in chains:
        forged = replace(own, certificates=chain).manifest("GH100", "1.0", golden(gpu(), range(3)))
        assert untrusted(forged) is Reason.RIM


def test_E14_a_signer_is_no_authority() -> None:
    own = signer()
    root = own.certificates[-1]
    assert subject("x") != root.subject
    key = LabRimSigner.create(NOW)
    itself = replace(key, certificates=[key.certificates[-1], key.certificates[-1]])
    roots = key.anchors(anchors())
    forged = itself.manifest("GH100", "1.0", golden(gpu(), range(3)))
    assert untrusted(forged, roots) is Reason.RIM


@pytest.mark.parametrize("index", [0, 9, 10, 19])
def test_E18_a_device_in_developer_mode_measures_something_else(index: int) -> None:
    shape = GpuShape(measurements={index: b"\xdd" * 48})
    assert refused(trusted(DRIVER), trusted(VBIOS), shape=shape) == [Reason.MEASUREMENT]


def test_every_difference_is_told() -> None:
    shape = GpuShape(measurements={3: bytes(48), 12: bytes(48)})
    assert refused(trusted(DRIVER), trusted(VBIOS), shape=shape) == [Reason.MEASUREMENT] * 2


def test_a_listed_index_that_the_device_does_not_have_differs() -> None:
    beyond = trusted(signer().manifest("GH100", "550.90.07", {64: [bytes(48)]}))
    assert refused(beyond, trusted(VBIOS)) == [Reason.MEASUREMENT]


def test_the_decoders_firmware_counts_only_where_it_is_on() -> None:
    listed = trusted(signer().manifest("GH100", "550.90.07", {35: [b"\x35" * 48]}))
    assert require_rims(authentic(), [listed, trusted(VBIOS)]) == 10
    on = GpuShape(opaque={11: b"\xaa"})
    assert refused(listed, trusted(VBIOS), shape=on) == [Reason.MEASUREMENT]
    unsaid = GpuShape(opaque={11: None})
    assert refused(listed, trusted(VBIOS), shape=unsaid) == [Reason.MEASUREMENT]


def test_both_manifests_are_needed_and_no_other() -> None:
    driver, vbios = trusted(DRIVER), trusted(VBIOS)
    for supplied in ([], [driver], [vbios], [driver, driver, vbios]):
        assert Reason.RIM in refused(*supplied)
    assert refused(driver, vbios, made("551.00", range(30, 31))) == [Reason.RIM]
    assert refused(driver, made("96.00.9F.00.01", range(3), "GB100")) == [Reason.RIM]
    assert refused(driver, made("96.00.9F.00.02", range(3))) == [Reason.RIM] * 2


@pytest.mark.parametrize("silent", [{3: None}, {3: b"\0"}, {6: None}, {6: b"\0"}, {3: None, 6: None}])
@pytest.mark.parametrize("supplied", [(), (DRIVER,), (VBIOS,), (DRIVER, VBIOS)])
def test_E18_a_device_that_leaves_a_version_unsaid_is_refused(
    silent: dict[int, bytes | None], supplied: tuple[bytes, ...]
) -> None:
    found = refused(*map(trusted, supplied), shape=GpuShape(opaque=silent))
    assert set(found) == {Reason.RIM}


def test_E18_a_switch_has_to_say_its_vbios() -> None:
    silent = authentic(gpu("LS_10"), GpuShape(opaque={6: None}))
    with pytest.raises(PolicyError) as raised:
        require_rims(silent, [])
    assert [mismatch.field for mismatch in raised.value.mismatches] == ["report.opaque.VBIOS_VERSION"]


def test_E18_one_manifest_does_not_stand_for_driver_and_vbios_alike() -> None:
    alike = GpuShape(opaque={3: b"96.00.9f.00.01\0"})
    assert set(refused(trusted(VBIOS), shape=alike)) == {Reason.RIM}
    assert set(refused(trusted(VBIOS), trusted(VBIOS), shape=alike)) == {Reason.RIM}


def test_E18_manifests_that_leave_nothing_to_compare_prove_nothing() -> None:
    switch = gpu("LS_10")
    rim = trusted(signer().manifest("LS_10", "96.10.55.00.01", {35: [b"\x35" * 48]}))
    decoder_off = authentic(switch, GpuShape(opaque={11: b"\x55"}))
    assert refusal(require_rims, decoder_off, [rim]) is Reason.RIM


def test_no_index_is_listed_by_both() -> None:
    assert refused(trusted(DRIVER), made("96.00.9F.00.01", range(11))) == [Reason.RIM]


def test_the_case_of_a_version_does_not_count() -> None:
    assert require_rims(authentic(), [trusted(DRIVER), made("96.00.9f.00.01", range(3))]) == 13
