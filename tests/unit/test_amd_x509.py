"""AMD's certificates are read as the library reads them, and nothing else is a certificate."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from support.snp import NOW, amd, chip

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.amd_x509 import (
    AmdCertificate,
    parse_amd_certificate,
    parse_amd_crl,
    split_certificates,
)
from toposeal.evidence.der import BIT_STRING, SEQUENCE, DerReader
from toposeal.evidence.snp_tcb import Product
from toposeal_lab.simsnp import LabAmd, LeafShape
from toposeal_lab.simsnp.chip import LabChip
from toposeal_lab.simsnp.pki import der, pem

PSS = padding.PSS(padding.MGF1(hashes.SHA384()), salt_length=48)
START = datetime.fromtimestamp(NOW, UTC)


def parsed(data: bytes) -> AmdCertificate:
    return parse_amd_certificate(data, "certificate")


def refused(data: bytes) -> str:
    with pytest.raises(EvidenceError) as caught:
        parsed(data)
    assert caught.value.reason is Reason.CERTIFICATE_INVALID
    return str(caught.value)


def certificates() -> list[bytes]:
    vendor = amd()
    return [der(vendor.ark), der(vendor.ask), der(vendor.asvk), chip().certificate]


def made(
    names: list[x509.NameAttribute[Any]] | None = None,
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey | None = None,
    pss: padding.PSS | None = PSS,
    digest: hashes.SHA256 | hashes.SHA384 = hashes.SHA384(),  # noqa: B008
    until: datetime = START + timedelta(days=1),
    further: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> bytes:
    """A certificate by the simulated ARK that departs from the profile in what is given."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")] if names is None else names)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(amd().ark.subject)
        .public_key(key or amd().keys.ask.public_key())
        .serial_number(7)
        .not_valid_before(START)
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(True, 0), critical=True)
    )
    for extension, critical in further:
        builder = builder.add_extension(extension, critical)
    return der(builder.sign(amd().keys.ark, digest, rsa_padding=pss))


@pytest.mark.parametrize("index", range(4))
def test_it_reads_what_the_library_reads(index: int) -> None:
    data = certificates()[index]
    found = parsed(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the serial number 0
        wanted = x509.load_der_x509_certificate(data)
        assert found.serial == wanted.serial_number
    assert (found.issuer, found.subject) == (wanted.issuer.public_bytes(), wanted.subject.public_bytes())
    assert found.common_name == wanted.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    assert found.issuer_name == wanted.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    assert found.not_before == int(wanted.not_valid_before_utc.timestamp())
    assert found.not_after == int(wanted.not_valid_after_utc.timestamp())
    assert (found.signed, found.signature) == (wanted.tbs_certificate_bytes, wanted.signature)
    spki = wanted.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert found.public_key_info == spki
    assert found.critical == {each.oid.dotted_string for each in wanted.extensions if each.critical}
    assert set(found.extensions) == {each.oid.dotted_string for each in wanted.extensions}


def test_it_is_remembered() -> None:
    data = chip().certificate
    assert parsed(data) is parsed(bytes(data))


def test_who_issued_what() -> None:
    root, ca, other_ca, leaf = map(parsed, certificates())
    assert leaf.issued_by(ca)
    assert ca.issued_by(root)
    assert root.issued_by(root)
    assert not leaf.issued_by(root)  # another name
    assert not leaf.issued_by(other_ca)
    assert not leaf.issued_by(leaf)
    assert not ca.issued_by(ca)


def test_the_right_name_with_another_key_issues_nothing() -> None:
    key = rsa.generate_private_key(65537, 4096)
    keys = amd().keys
    other = LabAmd.create(Product.GENOA, NOW, type(keys)(keys.ark, key, key))
    leaf = parsed(chip().certificate)
    assert not leaf.issued_by(parsed(der(other.ask)))


def test_a_key_on_a_curve_issues_nothing() -> None:
    leaf = parsed(chip().certificate)
    imposter = parsed(made(list(amd().ask.subject), ec.generate_private_key(ec.SECP384R1()).public_key()))
    assert imposter.subject == leaf.issuer
    assert not leaf.issued_by(imposter)
    assert not imposter.may_sign_certificates()


def test_ca_by_constraints_and_usage() -> None:
    root, ca, other_ca, leaf = map(parsed, certificates())
    assert all(each.may_sign_certificates() for each in (root, ca, other_ca))
    assert not leaf.may_sign_certificates()
    assert not parsed(made()).may_sign_certificates()  # no key usage


def test_a_ca_with_a_critical_extension_that_nobody_reads_issues_nothing() -> None:
    usage = amd().ask.extensions.get_extension_for_class(x509.KeyUsage).value
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\0")
    assert parsed(made(further=[(usage, True), (unknown, False)])).may_sign_certificates()
    assert not parsed(made(further=[(usage, True), (unknown, True)])).may_sign_certificates()


@pytest.mark.parametrize("serial", [0, 1, 0x7F, 0x80, (1 << 159) - 1])
def test_any_serial_number_can_be_read(serial: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        leaf = LabChip(amd(), bytes(64), shape=LeafShape(serial=serial)).certificate
        assert parsed(leaf).serial == serial


def test_a_serial_number_is_at_most_20_bytes() -> None:
    assert "at most 20" in refused(LabChip(amd(), bytes(64), shape=LeafShape(serial=1 << 160)).certificate)


@pytest.mark.parametrize(
    ("pss", "digest"),
    [
        (None, hashes.SHA384()),
        (PSS, hashes.SHA256()),
        (padding.PSS(padding.MGF1(hashes.SHA384()), salt_length=32), hashes.SHA384()),
        (padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=48), hashes.SHA384()),
    ],
)
def test_another_signature_algorithm_is_refused(
    pss: padding.PSS | None, digest: hashes.SHA256 | hashes.SHA384
) -> None:
    assert parsed(made())
    assert "SHA-384, salt 48" in refused(made(pss=pss, digest=digest))


def test_other_keys_are_refused() -> None:
    assert "P-384" in refused(made(key=ec.generate_private_key(ec.SECP256R1()).public_key()))
    assert "4096" in refused(made(key=rsa.generate_private_key(65537, 2048).public_key()))


def test_a_key_that_is_none_is_refused() -> None:
    data = made()
    key = parsed(data).public_key_info
    assert "public_key" in refused(data.replace(key, key[:30] + b"\xff" * 6 + key[36:]))


@pytest.mark.parametrize("count", [0, 2])
def test_a_subject_has_one_common_name(count: int) -> None:
    names: list[x509.NameAttribute[Any]] = [x509.NameAttribute(NameOID.COUNTRY_NAME, "US")]
    names += [x509.NameAttribute(NameOID.COMMON_NAME, "x")] * min(count, 1)
    names += [x509.NameAttribute(NameOID.COMMON_NAME, "y")] * max(count - 1, 0)
    assert f"{count} common names" in refused(made(names))


def test_dates_after_2049_are_generalized_times() -> None:
    end = datetime(2060, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert parsed(made(until=end)).not_after == int(end.timestamp())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (START.strftime("%y%m%d").encode(), b"261301"),
        (START.strftime("%y%m%d").encode(), b"26010x"),
        (START.strftime("%y%m%d").encode(), b"260229"),
    ],
)
def test_a_date_is_one_of_the_calendar(old: bytes, new: bytes) -> None:
    assert "a time" in refused(made().replace(old, new, 1))


def test_dates_before_2000_are_of_the_century_before() -> None:
    first = START.strftime("%y%m%d%H%M%S").encode()
    data = made().replace(first, b"500101000000", 1)
    assert parsed(data).not_before == int(datetime(1950, 1, 1, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x01"),  # version 2
        (b"\xa0\x03\x02\x01\x02", b"\xa1\x03\x02\x01\x02"),
        (b"\x06\x03\x55\x1d\x13\x01\x01\xff", b"\x06\x03\x55\x1d\x13\x01\x01\x01"),  # critical, not TRUE
    ],
)
def test_other_forms_are_refused(old: bytes, new: bytes) -> None:
    data = made()
    assert data.count(old) == 1
    refused(data.replace(old, new))


def test_an_extension_twice_is_refused() -> None:
    leaf = chip().certificate
    assert "twice" in refused(leaf.replace(bytes.fromhex("9c78010304"), bytes.fromhex("9c78010305")))


def test_what_follows_is_refused() -> None:
    assert "more" in refused(made() + b"\0")


def test_the_size_is_bounded() -> None:
    with pytest.raises(EvidenceError) as caught:
        parsed(bytes(4097))
    assert caught.value.reason is Reason.TOO_LARGE
    with pytest.raises(EvidenceError) as caught:
        parse_amd_crl(bytes((64 << 10) + 1))
    assert caught.value.reason is Reason.TOO_LARGE
    with pytest.raises(EvidenceError) as caught:
        split_certificates(bytes((32 << 10) + 1), "chain")
    assert caught.value.reason is Reason.TOO_LARGE


def test_der_or_pem_in_one_spelling() -> None:
    one, two = certificates()[:2]
    assert split_certificates(one, "f") == (one,)
    assert split_certificates(pem(one) + pem(two), "f") == (one, two)
    assert split_certificates((pem(one) + pem(two)).rstrip(b"\n"), "f") == (one, two)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + b"x",
        lambda text: text + b"\n",
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE"),
        lambda text: text.replace(b"\n", b" \n", 2),
        lambda text: text[:100] + b"\n" + text[100:],
        lambda text: text * 5,
        lambda text: b"-----",
        lambda text: b"-----BEGIN CERTIFICATE-----\nQQ\n-----END CERTIFICATE-----\n",
        lambda text: b"-----BEGIN CERTIFICATE-----\nQR==\n-----END CERTIFICATE-----\n",
        lambda text: b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
    ],
)
def test_other_text_is_no_pem(change: object) -> None:
    assert callable(change)
    text = pem(certificates()[0])
    assert split_certificates(text, "f")
    with pytest.raises(EvidenceError) as caught:
        split_certificates(change(text), "f")
    assert caught.value.reason is Reason.CERTIFICATE_INVALID


def test_a_revocation_list_is_its_issuers() -> None:
    root, ca = parsed(der(amd().ark)), parsed(der(amd().ask))
    crl = parse_amd_crl(amd().crl([amd().asvk]))
    assert crl.issued_by(root)
    assert not crl.issued_by(ca)
    assert crl.lists(parsed(der(amd().asvk)))
    assert not crl.lists(ca)
    assert crl.next_update == NOW - 86400 + 365 * 86400


def test_a_revocation_list_by_another_key_or_digest_is_nobodys() -> None:
    root = parsed(der(amd().ark))
    curve = parsed(made(list(amd().ark.subject), ec.generate_private_key(ec.SECP384R1()).public_key()))
    assert not parse_amd_crl(amd().crl()).issued_by(curve)
    assert not parse_amd_crl(amd().crl(signer=amd().keys.ask)).issued_by(root)
    assert not parse_amd_crl(amd().crl(signer=amd().keys.ark, issuer=amd().ask)).issued_by(root)
    builder = x509.CertificateRevocationListBuilder().issuer_name(amd().ark.subject)
    builder = builder.last_update(START).next_update(START + timedelta(days=1))
    weak = builder.sign(amd().keys.ark, hashes.SHA256(), rsa_padding=PSS)
    with pytest.raises(EvidenceError) as caught:
        parse_amd_crl(weak.public_bytes(Encoding.DER))
    assert "salt 48" in str(caught.value)


def test_other_bytes_are_no_revocation_list() -> None:
    good = amd().crl()
    inside = good.replace(b"\x31\x14\x30", b"\x33\x14\x30", 1)  # a name whose tag is none
    for data in (b"", b"x", b"\x30\x00", inside, good + b"\0"):
        refuse_list(data)


def refuse_list(data: bytes) -> None:
    with pytest.raises(EvidenceError) as caught:
        parse_amd_crl(data)
    assert caught.value.reason is Reason.COLLATERAL_INVALID


def test_a_list_that_never_expires_is_refused() -> None:
    """The builder does not make one: nextUpdate is cut out of a good list."""
    whole = DerReader(amd().crl(), "crl", Reason.MALFORMED).inside(SEQUENCE)
    content = whole.element(SEQUENCE)
    assert content[-15:-13] == b"\x17\x0d"
    rest = whole.whole(SEQUENCE) + whole.whole(BIT_STRING)
    with pytest.raises(EvidenceError) as caught:
        parse_amd_crl(sequence(sequence(content[:-15]) + rest))
    assert caught.value.mismatches[0].field == "crl.nextUpdate"


def test_a_part_of_a_list_is_no_list() -> None:
    """A delta says what is new since another list: it would pass for an empty one."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(amd().ark.subject)
    builder = builder.last_update(START).next_update(START + timedelta(days=1))
    for critical in (False, True):
        delta = builder.add_extension(x509.DeltaCRLIndicator(1), critical)
        signed = delta.sign(amd().keys.ark, hashes.SHA384(), rsa_padding=PSS).public_bytes(Encoding.DER)
        if critical:
            refuse_list(signed)
        else:
            assert parse_amd_crl(signed).serials == frozenset()


def test_the_number_of_a_list_has_at_most_20_bytes() -> None:
    builder = x509.CertificateRevocationListBuilder().issuer_name(amd().ark.subject)
    builder = builder.last_update(START).next_update(START + timedelta(days=1))
    for number in ((1 << 160) - 1, 1 << 160, 1 << 15_000):
        listed = builder.add_extension(x509.CRLNumber(number), critical=False)
        signed = listed.sign(amd().keys.ark, hashes.SHA384(), rsa_padding=PSS).public_bytes(Encoding.DER)
        if number >> 160:
            refuse_list(signed)
        else:
            assert parse_amd_crl(signed).number == number


def test_E14_an_extension_of_a_list_that_the_library_cannot_read_is_a_refusal() -> None:
    """Issuer alternative name with an x400Address, which needs no signature to be met."""
    unreadable = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.18"), b"\x30\x04\xa3\x02\x05\x00")
    builder = x509.CertificateRevocationListBuilder().issuer_name(amd().ark.subject)
    builder = builder.last_update(START).next_update(START + timedelta(days=1))
    signed = builder.add_extension(unreadable, critical=False).sign(
        amd().keys.ark, hashes.SHA384(), rsa_padding=PSS
    )
    refuse_list(signed.public_bytes(Encoding.DER))


def sequence(content: bytes) -> bytes:
    size = (len(content).bit_length() + 7) // 8
    length = bytes([0x80 | size]) + len(content).to_bytes(size, "big")
    return b"\x30" + (length if len(content) > 127 else bytes([len(content)])) + content
