"""Minting: deterministic, within the profile, and never for another key's CA."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from support.forge import DAY, NOW, SERIAL, domain_of

from toposeal.errors import LocalProtocolError
from toposeal.limits import CLOCK_SKEW, MAX_CA_LIFETIME
from toposeal.pki.mint import mint_app_svid, mint_ca, mint_ingress_leaf, mint_mesh_leaf, serial_number
from toposeal.verification.ca_profile import key_usage, parse_ca

CA_KEY, LEAF_KEY = (ec.derive_private_key(n, ec.SECP256R1()) for n in (11, 12))
CA = mint_ca(CA_KEY, "shop", SERIAL, NOW)
MESH_LEAF = mint_mesh_leaf(CA_KEY, CA, "web", LEAF_KEY, SERIAL, NOW, DAY)
APP_SVID = mint_app_svid(CA_KEY, CA, "web", LEAF_KEY, SERIAL, NOW, DAY)
INGRESS_LEAF = mint_ingress_leaf(CA_KEY, CA, LEAF_KEY, SERIAL, NOW, DAY)


def load(der: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(der)


def test_the_same_input_gives_the_same_bytes() -> None:
    assert mint_ca(CA_KEY, "shop", SERIAL, NOW) == CA
    assert mint_mesh_leaf(CA_KEY, CA, "web", LEAF_KEY, SERIAL, NOW, DAY) == MESH_LEAF
    assert mint_ingress_leaf(CA_KEY, CA, LEAF_KEY, SERIAL, NOW, DAY) == INGRESS_LEAF


def test_the_ca_lives_for_one_boot_and_starts_before_slow_clocks() -> None:
    assert parse_ca(CA, "shop").domain == domain_of(CA_KEY)
    assert load(CA).not_valid_before_utc.timestamp() == NOW - CLOCK_SKEW
    assert load(CA).not_valid_after_utc.timestamp() == NOW - CLOCK_SKEW + MAX_CA_LIFETIME


@pytest.mark.parametrize(
    ("leaf", "name", "usages"),
    [
        (
            MESH_LEAF,
            x509.UniformResourceIdentifier(f"spiffe://{domain_of(CA_KEY)}/web"),
            [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
        ),
        (
            APP_SVID,
            x509.UniformResourceIdentifier(f"spiffe://{domain_of(CA_KEY)}/web/app"),
            [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
        ),
        (INGRESS_LEAF, x509.DNSName(domain_of(CA_KEY)), [ExtendedKeyUsageOID.SERVER_AUTH]),
    ],
)
def test_a_leaf_says_one_name_and_its_use(
    leaf: bytes, name: x509.GeneralName, usages: list[x509.ObjectIdentifier]
) -> None:
    certificate = load(leaf)
    certificate.verify_directly_issued_by(load(CA))
    found = {e.oid.dotted_string: (e.critical, e.value) for e in certificate.extensions}
    assert found == {
        "2.5.29.19": (True, x509.BasicConstraints(False, None)),
        "2.5.29.15": (True, key_usage(certificate_sign=False)),
        "2.5.29.37": (True, x509.ExtendedKeyUsage(usages)),
        "2.5.29.17": (True, x509.SubjectAlternativeName([name])),
        "2.5.29.35": (False, x509.AuthorityKeyIdentifier.from_issuer_public_key(CA_KEY.public_key())),
    }
    assert certificate.subject == x509.Name([])
    assert isinstance(certificate.signature_hash_algorithm, hashes.SHA256)
    assert certificate.not_valid_before_utc.timestamp() == NOW - CLOCK_SKEW
    assert certificate.not_valid_after_utc.timestamp() == NOW + DAY


def test_a_serial_has_20_bytes_whatever_the_entropy() -> None:
    for entropy in (bytes(20), b"\xff" * 20):
        serial = serial_number(entropy)
        assert serial > 0
        assert serial.bit_length() == 159
    assert serial_number(bytes(19) + b"\x01") != serial_number(bytes(20))


def test_short_entropy_is_our_own_fault() -> None:
    with pytest.raises(LocalProtocolError, match=r"serial\.entropy"):
        serial_number(bytes(19))


def test_a_role_that_is_no_name_is_refused() -> None:
    for mint, name in (
        (mint_mesh_leaf, "web/../db"),
        (mint_app_svid, "web/../db"),
        (mint_mesh_leaf, "web/app"),
    ):
        with pytest.raises(LocalProtocolError, match=r"leaf\.role"):
            mint(CA_KEY, CA, name, LEAF_KEY, SERIAL, NOW, DAY)


def test_a_ca_of_another_key_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match=r"leaf\.issuer"):
        mint_ingress_leaf(LEAF_KEY, CA, LEAF_KEY, SERIAL, NOW, DAY)


def test_a_leaf_without_a_life_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match=r"leaf\.lifetime"):
        mint_mesh_leaf(CA_KEY, CA, "web", LEAF_KEY, SERIAL, NOW, 0)
