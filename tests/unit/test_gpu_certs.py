"""A chain is five certificates in canonical PEM, all on P-384, its leaf naming device and firmware."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from support.forge import loosened
from support.gpu import MODELS, NOW, gpu, nvidia, odd
from support.tdx import refusal

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.gpu_certs import parse_gpu_chain
from toposeal.limits import MAX_GPU_CHAIN_SIZE
from toposeal_lab.simgpu.pki import ca, firmware, fwid, issue, new_key, subject, tlv

END = b"-----END CERTIFICATE-----\n"


def pieces(chain: bytes) -> list[bytes]:
    return [part + END for part in chain.split(END)[:-1]]


def with_level(level: int, certificate: x509.Certificate) -> bytes:
    parts = pieces(gpu().chain)
    parts[level] = certificate.public_bytes(Encoding.PEM)
    return b"".join(parts)


@pytest.mark.parametrize("model", MODELS)
def test_a_chain_is_read(model: str) -> None:
    device = gpu(model)
    found = parse_gpu_chain(device.chain)
    assert (found.model, found.pdi, found.firmware.fwid) == (model, device.pdi, device.shape.fwid)
    assert (found.device.serial_name, found.provisioner.serial_name) == (device.serial, "")
    assert [each.is_ca for each in found.levels()] == [False, True, True, True, True]
    assert found.leaf.not_before == NOW - 86400
    for each, issuer in zip(found.levels(), found.levels()[1:], strict=False):
        assert each.issued_by(issuer)
        assert not issuer.issued_by(each)


def test_the_driver_may_pad_it_and_tools_may_repeat_the_root() -> None:
    chain = gpu().chain
    found = parse_gpu_chain(chain)
    for same in (chain[:-1], chain + b"\0\0", chain + pieces(chain)[-1]):
        assert [each.der for each in parse_gpu_chain(same).levels()] == [each.der for each in found.levels()]


def test_E14_another_text_is_refused() -> None:
    chain = gpu().chain
    parts = pieces(chain)
    for wrong in (
        b"",
        b"\n" + chain,
        b"comment\n" + chain,
        chain.replace(b"\n", b"\r\n"),
        chain + b" ",
        b"".join(parts[:4]),
        b"".join([*parts, parts[0]]),
        b"".join([*parts, parts[-1], parts[-1]]),
        chain.replace(b"MII", b"MIJ", 1),
        b"".join([parts[0].replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE"), *parts[1:]]),
    ):
        assert refusal(parse_gpu_chain, wrong) is Reason.CERTIFICATE_INVALID
    assert refusal(parse_gpu_chain, bytes(MAX_GPU_CHAIN_SIZE + 1)) is Reason.TOO_LARGE


def test_E13_the_free_bits_of_a_signature_are_not_free() -> None:
    leaves = (parse_gpu_chain(gpu(number=number).chain).leaf for number in range(100, 164))
    leaf = next(each for each in leaves if not each.der[-1] & 1)
    assert parse_gpu_chain(with_level(0, leaf.x509)).leaf == leaf
    variant = x509.load_der_x509_certificate(loosened(leaf.der))
    assert refusal(parse_gpu_chain, with_level(0, variant)) is Reason.CERTIFICATE_INVALID


def test_E14_keys_and_signatures_are_those_of_the_profile() -> None:
    vendor = nvidia()
    name, small = subject("NVIDIA GH100 Provisioner ICA 1"), ec.generate_private_key(ec.SECP256R1())
    on_p256 = issue(name, small, vendor.identity.subject, vendor.identity_key, NOW, ca())
    with_sha256 = (
        x509.CertificateBuilder(name, name, new_key().public_key(), 5)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2030, 1, 1, tzinfo=UTC))
        .sign(vendor.identity_key, hashes.SHA256())
    )
    for wrong in (on_p256, with_sha256):
        assert refusal(parse_gpu_chain, with_level(2, wrong)) is Reason.CERTIFICATE_INVALID


def test_E14_no_critical_extension_is_passed_over() -> None:
    unknown = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)
    assert refusal(parse_gpu_chain, odd(extra=[unknown]).chain) is Reason.CERTIFICATE_INVALID


@pytest.mark.parametrize(
    ("oid", "value"),
    [
        ("2.5.29.18", tlv(0x30, tlv(0xA3, b"\x05\x00"))),  # issuer alternative name: an x400Address
        ("1.3.6.1.5.5.7.1.24", tlv(0x30, tlv(0x02, b"\x7f"))),  # TLS feature: a number that means nothing
    ],
)
def test_E14_an_extension_that_the_library_cannot_read_is_a_refusal(oid: str, value: bytes) -> None:
    unreadable = (x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), False)
    assert refusal(parse_gpu_chain, odd(extra=[unreadable]).chain) is Reason.CERTIFICATE_INVALID


@pytest.mark.parametrize("level", range(5))
@pytest.mark.parametrize("date", [b"00000101000000Z", b"00001231235959Z"])
def test_E14_a_year_that_the_library_cannot_read_is_a_refusal(level: int, date: bytes) -> None:
    parts = pieces(gpu().chain)
    der = x509.load_pem_x509_certificate(parts[level]).public_bytes(Encoding.DER)
    never = b"99991231235959Z"
    assert der.count(never) == 1
    parts[level] = x509.load_der_x509_certificate(der.replace(never, date)).public_bytes(Encoding.PEM)
    assert refusal(parse_gpu_chain, b"".join(parts)) is Reason.CERTIFICATE_INVALID


def test_a_certificate_without_constraints_is_no_ca() -> None:
    vendor, device = nvidia(), gpu()
    name = device.device.subject
    plain = issue(name, device.key, vendor.provisioner.subject, vendor.provisioner_key, NOW, ())
    assert not parse_gpu_chain(with_level(1, plain)).device.is_ca


def test_E14_a_name_stands_once() -> None:
    vendor = nvidia()
    attributes = [*subject("NVIDIA A"), *subject("NVIDIA B")]
    doubled = issue(x509.Name(attributes), new_key(), vendor.identity.subject, vendor.identity_key, NOW, ca())
    assert refusal(parse_gpu_chain, with_level(2, doubled)) is Reason.CERTIFICATE_INVALID


@pytest.mark.parametrize(
    "name",
    [
        tlv(0x0C, b"NVIDIA:GH100:48B02D92494BADF"),
        tlv(0x0C, b"NVIDIA:GH100:48b02d92494badf4"),
        tlv(0x0C, b"AMD:GH100:48B02D92494BADF4"),
        tlv(0x13, b"NVIDIA:GH100:48B02D92494BADF4"),
        tlv(0x0C, b"NVIDIA:GH100:48B02D92494BADF4\n"),
        tlv(0x0C, b""),
    ],
)
def test_E14_the_device_is_named_in_one_way(name: bytes) -> None:
    with pytest.raises(EvidenceError) as refused:
        parse_gpu_chain(odd(name=name).chain)
    assert refused.value.reason is Reason.CERTIFICATE_INVALID


def test_E14_a_leaf_has_one_name_and_one_dice_extension() -> None:
    device = gpu()
    oid, value = firmware(device.key, device.shape)
    other = x509.ObjectIdentifier("1.2.3.4")
    assert refusal(parse_gpu_chain, odd(firmware=(other, value)).chain) is Reason.CERTIFICATE_INVALID
    tcb_info = x509.UnrecognizedExtension(
        x509.ObjectIdentifier("2.23.133.5.4.1.1"), tlv(0x30, fwid(bytes(48)))
    )
    assert refusal(parse_gpu_chain, odd(extra=[(tcb_info, False)]).chain) is Reason.CERTIFICATE_INVALID
    without_names = issue(device.leaf.subject, new_key(), device.device.subject, device.key, NOW, ())
    assert refusal(parse_gpu_chain, with_level(0, without_names)) is Reason.CERTIFICATE_INVALID
    only = [(x509.SubjectAlternativeName([x509.DNSName("gpu.example")]), False)]
    other_name = issue(device.leaf.subject, new_key(), device.device.subject, device.key, NOW, only)
    assert refusal(parse_gpu_chain, with_level(0, other_name)) is Reason.CERTIFICATE_INVALID
    assert oid.dotted_string == "2.23.133.5.4.1"
