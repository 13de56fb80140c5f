"""The CA profile: what mint makes is accepted, and everything that differs from it is refused."""

from __future__ import annotations

import ipaddress
import warnings
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from support.forge import (
    DAY,
    NOW,
    SERIAL,
    assemble,
    constraints,
    domain_of,
    forge_ca,
    loosened,
    new_key,
    resigned,
    tlv,
)

from toposeal.errors import Reason, RemoteProtocolError
from toposeal.limits import MAX_CA_LIFETIME, MAX_CERTIFICATE_SIZE
from toposeal.names import ca_digest
from toposeal.pki.mint import mint_ca
from toposeal.verification.ca_profile import encode_spki, key_usage, parse_ca

KEY = new_key()
DOMAIN = domain_of(KEY)
URI, DNS = x509.UniformResourceIdentifier, x509.DNSName


def refused(der: bytes) -> str:
    """The fields that the refusal names."""
    with warnings.catch_warnings(), pytest.raises(RemoteProtocolError) as caught:
        warnings.simplefilter("ignore")
        parse_ca(der, "shop")
    assert caught.value.reason is Reason.CA_PROFILE
    return " ".join(m.field for m in caught.value.mismatches)


def test_the_minted_ca_is_accepted_and_says_who_it_is() -> None:
    der = mint_ca(KEY, "shop", SERIAL, NOW)
    ca = parse_ca(der, "shop")
    assert ca.der == der
    assert ca.spki == encode_spki(KEY.public_key())
    assert ca.ca_digest == ca_digest(ca.spki)
    assert ca.domain == DOMAIN
    assert ca.pem.startswith("-----BEGIN CERTIFICATE-----")
    assert ca.public_key == KEY.public_key()


def test_the_forger_with_no_change_makes_the_profile() -> None:
    assert parse_ca(forge_ca(KEY), "shop").domain == DOMAIN


def test_a_mesh_name_of_full_length_fits() -> None:
    mesh = "m" * 40
    assert parse_ca(mint_ca(KEY, mesh, SERIAL, NOW), mesh).domain.endswith("." + mesh)


def test_K3_another_meshs_ca_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match=r"2\.5\.29\.30"):
        parse_ca(mint_ca(KEY, "shop", SERIAL, NOW), "bank")


def with_crl_sign() -> x509.KeyUsage:
    return x509.KeyUsage(False, False, False, False, False, True, True, False, False)


def named(*permitted: x509.GeneralName, **options: Any) -> dict[str, Any]:
    return {"names": (constraints(permitted, options.get("excluded")), options.get("critical", True))}


def extended(value: x509.ExtensionType, critical: bool) -> dict[str, Any]:
    return {"extra": (value, critical)}


BASIC, USAGE, SKID, NAMES = (f"ca.extension 2.5.29.{n}" for n in (19, 15, 14, 30))
SIGNER = key_usage(certificate_sign=True)
PRIVATE = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
TEN = x509.IPAddress(ipaddress.ip_network("10.0.0.0/8"))
FOREIGN = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "m-0")])
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "pathlen absent": ({"basic": (x509.BasicConstraints(True, None), True)}, BASIC),
    "pathlen 1": ({"basic": (x509.BasicConstraints(True, 1), True)}, BASIC),
    "not a CA": ({"basic": (x509.BasicConstraints(False, None), True)}, BASIC),
    "basicConstraints not critical": ({"basic": (x509.BasicConstraints(True, 0), False)}, BASIC),
    "no basicConstraints": ({"basic": None}, BASIC),
    "no keyUsage": ({"usage": None}, USAGE),
    "keyUsage not critical": ({"usage": (SIGNER, False)}, USAGE),
    "keyUsage of a leaf": ({"usage": (key_usage(certificate_sign=False), True)}, USAGE),
    "keyUsage with CRLs": ({"usage": (with_crl_sign(), True)}, USAGE),
    "no key identifier": ({"skid": None}, SKID),
    "key identifier of another key": ({"skid": (x509.SubjectKeyIdentifier(bytes(20)), False)}, SKID),
    "no name constraints": ({"names": None}, NAMES),
    "name constraints not critical": (named(URI(DOMAIN), DNS(DOMAIN), critical=False), NAMES),
    "URI alone": (named(URI(DOMAIN)), NAMES),
    "every name of the mesh": (named(URI(".shop"), DNS("shop")), NAMES),
    "another name too": (named(URI(DOMAIN), DNS(DOMAIN), DNS("bank")), NAMES),
    "nothing excluded": (named(URI(DOMAIN), DNS(DOMAIN), excluded=[]), NAMES),
    "addresses permitted": (named(URI(DOMAIN), DNS(DOMAIN), TEN), NAMES),
    "foreign name": ({"name": FOREIGN}, "ca.issuer ca.subject"),
    "no name": ({"name": x509.Name([])}, "ca.issuer ca.subject"),
    "issued by another": ({"issuer": x509.Name([])}, "ca.issuer"),
    "unknown critical extension": (extended(PRIVATE, True), "ca.extension 1.3.6.1.4.1.99999.1"),
    "a SAN": (extended(x509.SubjectAlternativeName([DNS(DOMAIN)]), False), "ca.extension 2.5.29.17"),
    "short serial": ({"serial": 1}, "ca.serial"),
    "SHA-384": ({"digest": hashes.SHA384()}, "ca.signature_algorithm"),
    "too long a life": ({"end": NOW + MAX_CA_LIFETIME + 1}, "ca.not_after"),
    "before 1970": ({"start": -DAY, "end": DAY}, "ca.not_before"),
    "signed by another key": ({"signer": new_key()}, "ca.signature"),
}


@pytest.mark.parametrize("name", CASES)
def test_K3_each_deviation_is_refused_by_name(name: str) -> None:
    changes, fields = CASES[name]
    assert refused(forge_ca(KEY, **changes)) == fields


def test_K3_all_deviations_are_reported_at_once() -> None:
    assert (
        refused(forge_ca(KEY, name=x509.Name([]), skid=None)) == "ca.extension 2.5.29.14 ca.issuer ca.subject"
    )


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP256K1()])
def test_K3_another_curve_is_refused(curve: ec.EllipticCurve) -> None:
    other = ec.generate_private_key(curve)
    assert refused(forge_ca(KEY, public=other.public_key(), signer=other)) == "ca.public_key"


def test_K3_RSA_is_refused() -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert refused(forge_ca(KEY, public=other.public_key(), signer=other)) == "ca.public_key"


def test_K3_SHA1_is_refused() -> None:
    honest = forge_ca(KEY)
    sha256, sha1 = bytes.fromhex("300a06082a8648ce3d040302"), bytes.fromhex("300906072a8648ce3d0401")
    signed = x509.load_der_x509_certificate(honest).tbs_certificate_bytes
    content = signed[4:].replace(sha256, sha1)
    sha1_signed = tlv(0x30, content)
    certificate = tlv(
        0x30, sha1_signed + sha1 + tlv(0x03, b"\x00" + KEY.sign(sha1_signed, ec.ECDSA(hashes.SHA1())))
    )
    assert "ca.signature_algorithm" in refused(certificate)


def test_K3_inner_and_outer_algorithm_must_agree() -> None:
    honest = forge_ca(KEY)
    at = honest.rindex(bytes.fromhex("06082a8648ce3d040302"))
    forged = honest[:at] + bytes.fromhex("06082a8648ce3d040303") + honest[at + 10 :]
    assert refused(forged) == "ca.signature_algorithm"


def test_K3_a_point_off_the_curve_is_refused() -> None:
    point = encode_spki(KEY.public_key())[-64:]
    off = point[:-1] + bytes([point[-1] ^ 1])
    assert refused(resigned(forge_ca(KEY), KEY, point, off)) == "ca"


def test_K3_a_compressed_point_is_refused() -> None:
    honest = x509.load_der_x509_certificate(forge_ca(KEY)).tbs_certificate_bytes
    old = encode_spki(KEY.public_key())
    point = old[-64:]
    short = bytes([2 + point[-1] % 2]) + point[:32]
    new = tlv(0x30, old[2:23] + tlv(0x03, b"\x00" + short))
    signed = tlv(0x30, honest[4:].replace(old, new))
    assert refused(assemble(signed, KEY)).startswith("ca")


def test_K3_a_negative_serial_is_refused() -> None:
    serial = SERIAL.to_bytes(20, "big")
    assert refused(resigned(forge_ca(KEY), KEY, serial, b"\xff" + serial[1:])) in (
        "ca",
        "ca.fields",
        "ca.serial",
    )


@pytest.mark.parametrize("year", [b"0000", b"0255"])
def test_K3_absurd_years_are_refused(year: bytes) -> None:
    end = NOW + 30 * 365 * DAY
    honest = forge_ca(KEY, end=end)
    later = x509.load_der_x509_certificate(honest).not_valid_after_utc.strftime("%Y%m%d%H%M%SZ").encode()
    fields = refused(resigned(honest, KEY, later, year + later[4:]))
    assert fields.startswith("ca")


def test_K3_an_end_before_the_start_is_refused() -> None:
    honest = forge_ca(KEY)
    certificate = x509.load_der_x509_certificate(honest)
    start = certificate.not_valid_before_utc.strftime("%y%m%d%H%M%SZ").encode()
    end = certificate.not_valid_after_utc.strftime("%y%m%d%H%M%SZ").encode()
    assert refused(resigned(honest, KEY, start + b"\x17\r" + end, end + b"\x17\r" + start)) == "ca.not_after"


def test_K3_another_order_of_extensions_is_refused() -> None:
    extra = (x509.BasicConstraints(True, 0), True)
    assert refused(forge_ca(KEY, basic=None, extra=extra)) == "ca.encoding"


@pytest.mark.parametrize(
    ("oid", "value"),
    [
        ("2.5.29.17", tlv(0x30, tlv(0xA3, b"\x05\x00"))),  # subject alternative name: an x400Address
        ("2.5.29.18", tlv(0x30, tlv(0xA5, b""))),  # issuer alternative name: an ediPartyName
        ("1.3.6.1.5.5.7.1.24", tlv(0x30, tlv(0x02, b"\x7f"))),  # TLS feature: a number that means nothing
    ],
)
def test_E14_S9_an_extension_that_the_library_cannot_read_is_a_refusal(oid: str, value: bytes) -> None:
    """Anybody may send such a certificate: as an error of our own it would fence the member."""
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
    assert "ca.fields" in refused(forge_ca(KEY, extra=(extension, False)))


def test_K3_an_extension_twice_is_refused() -> None:
    honest = x509.load_der_x509_certificate(forge_ca(KEY))
    usage = bytes.fromhex("300e0603551d0f0101ff040403020204")
    at = honest.tbs_certificate_bytes.index(usage)
    inner = honest.tbs_certificate_bytes
    start = inner.rindex(b"\xa3\x81", 0, at)
    extensions = inner[start + 6 :]
    doubled = tlv(0xA3, tlv(0x30, usage + extensions))
    assert refused(assemble(tlv(0x30, inner[4:start] + doubled), KEY)) == "ca.fields"


def test_K3_version_1_is_refused() -> None:
    inner = x509.load_der_x509_certificate(forge_ca(KEY)).tbs_certificate_bytes
    start = inner.rindex(b"\xa3\x81")
    assert "ca.version" in refused(assemble(tlv(0x30, inner[9:start]), KEY))


def test_K3_trailing_bytes_are_refused() -> None:
    assert refused(forge_ca(KEY) + b"\x00") == "ca"


def test_K3_oversized_input_is_refused_unparsed() -> None:
    assert refused(bytes(MAX_CERTIFICATE_SIZE + 1)) == "ca"


def test_K3_a_flipped_bit_anywhere_is_refused() -> None:
    honest = forge_ca(KEY)
    for index in range(len(honest)):
        refused(honest[:index] + bytes([honest[index] ^ 1]) + honest[index + 1 :])


def test_K3_unused_bits_of_the_signature_are_refused() -> None:
    """Half of all signatures end in a zero bit, which a lax reader lets the encoder drop."""
    honest = next(c for c in (forge_ca(KEY) for _ in range(64)) if c[-1] & 1 == 0)
    assert refused(loosened(honest)) == "ca.signature"
