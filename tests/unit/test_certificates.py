"""Certificate chains are read in one spelling only, so that no other reader sees other certificates."""

from __future__ import annotations

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from support.forge import loosened, resigned
from support.tdx import HOST, NOW, PKI, refusal

from toposeal.errors import Reason
from toposeal.evidence.certificates import MAX_CHAIN_SIZE, parse_chain
from toposeal_lab.simtdx import LabPki
from toposeal_lab.simtdx.pki import ROOT_NAME

ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
CHAIN = (PKI.tcb_signing.pem() + PKI.root.pem()).encode()


def reason(pem: bytes, length: int = 2) -> Reason:
    return refusal(parse_chain, pem, length, "chain", Reason.COLLATERAL_SIGNER)


def relabelled(der: bytes) -> bytes:
    body = base64.encodebytes(der).replace(b"\n", b"")
    lines = b"\n".join(body[i : i + 64] for i in range(0, len(body), 64))
    return b"-----BEGIN CERTIFICATE-----\n" + lines + b"\n-----END CERTIFICATE-----\n"


def lenient(pem: bytes) -> bytes:
    return base64.b64decode(b"".join(pem.split(b"\n")[1:-2]))


def test_the_facts_are_those_of_the_certificates() -> None:
    signer, root = parse_chain(CHAIN, 2, "chain", Reason.COLLATERAL_SIGNER)
    assert (signer.common_name, root.common_name) == ("Intel SGX TCB Signing", "Intel SGX Root CA")
    assert root.der == PKI.root_der
    assert signer.not_before < NOW < signer.not_after
    assert signer.issued_by(root)
    assert not root.issued_by(signer)


@pytest.mark.parametrize("pem", [CHAIN, CHAIN[:-1], CHAIN + b"\0", CHAIN[:-1] + b"\0\0"])
def test_what_genuine_chains_differ_in_is_admitted(pem: bytes) -> None:
    assert len(parse_chain(pem, 2, "chain", Reason.COLLATERAL_SIGNER)) == 2


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"\0",
        b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        b" " + CHAIN,
        CHAIN + b"\n",
        CHAIN + b"\n\0",
        CHAIN + b"comment",
        b"Subject: somebody\n" + CHAIN,
        CHAIN.replace(b"\n", b"\r\n"),
        CHAIN.replace(b"-----\n-----", b"-----\n\n-----"),
        CHAIN.replace(b"CERTIFICATE", b"X509 CERTIFICATE"),
        CHAIN[: len(CHAIN) // 2],
        CHAIN.replace(b"MII", b"MIJ", 1),
        CHAIN[: CHAIN.index(b"\n-----END") - 1] + CHAIN[CHAIN.index(b"\n-----END") :],
    ],
)
def test_E10_another_spelling_is_refused(pem: bytes) -> None:
    assert reason(pem) is Reason.COLLATERAL_SIGNER


def test_E10_another_number_of_certificates_is_refused() -> None:
    for pem in (PKI.root.pem(), HOST.pck.pem() + PKI.platform_ca.pem() + PKI.root.pem()):
        assert reason(pem.encode()) is Reason.COLLATERAL_SIGNER


def test_an_issuer_that_cannot_be_read_is_refused() -> None:
    """Names are read lazily, and `evidence show` reads this one of chains that nobody has verified."""
    signer = PKI.tcb_signing.certificate.public_bytes(Encoding.DER)
    unreadable = resigned(signer, PKI.root.key, ROOT_NAME.encode(), ROOT_NAME[:-1].encode() + b"\xff")
    root = PKI.root.pem().encode()
    chain = parse_chain(relabelled(signer) + root, 2, "chain", Reason.COLLATERAL_SIGNER)
    assert ROOT_NAME in chain[0].issuer
    assert reason(relabelled(unreadable) + root) is Reason.COLLATERAL_SIGNER


def test_E13_the_free_bits_of_base64_are_not_free() -> None:
    """The last character before the padding carries bits that decode to nothing."""
    roots = (LabPki.create(NOW).root.pem().encode() for _ in range(64))
    pem = next(each for each in roots if b"=" in each)
    at = pem.index(b"=") - 1
    variant = pem[:at] + bytes([ALPHABET[ALPHABET.index(pem[at]) ^ 1]]) + pem[at + 1 :]
    assert lenient(variant) == lenient(pem)
    assert len(parse_chain(pem, 1, "chain", Reason.COLLATERAL_SIGNER)) == 1
    assert reason(variant, 1) is Reason.COLLATERAL_SIGNER


def test_E13_the_free_bits_of_a_signature_are_not_free() -> None:
    """Of a BIT STRING that ends with a zero the last bit can be called unused, and verifies as before."""
    ders = (LabPki.create(NOW).root_der for _ in range(64))
    der = next(each for each in ders if not each[-1] & 1)
    variant = loosened(der)
    read = x509.load_der_x509_certificate(variant)
    read.verify_directly_issued_by(read)
    assert len(parse_chain(relabelled(der), 1, "chain", Reason.COLLATERAL_SIGNER)) == 1
    assert reason(relabelled(variant), 1) is Reason.COLLATERAL_SIGNER


def test_a_chain_above_the_cap_is_refused_unread() -> None:
    assert reason(CHAIN.ljust(MAX_CHAIN_SIZE + 1, b"\0")) is Reason.COLLATERAL_SIGNER


def test_hostile_der_is_refused() -> None:
    der = PKI.root_der
    for offset in range(0, len(der), 3):
        variant = der[:offset] + bytes([der[offset] ^ 0x41]) + der[offset + 1 :]
        chain = CHAIN[: len(PKI.tcb_signing.pem())] + relabelled(variant)
        try:
            _, root = parse_chain(chain, 2, "chain", Reason.COLLATERAL_SIGNER)
        except Exception as error:
            assert getattr(error, "reason", None) is Reason.COLLATERAL_SIGNER, repr(error)
        else:
            assert root.der != der
            assert not root.issued_by(root)


def _certificate(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey, *names: str) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, each) for each in names])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(PKI.root.certificate.not_valid_before_utc)
        .not_valid_after(PKI.root.certificate.not_valid_after_utc)
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )
    return made.public_bytes(Encoding.PEM)


@pytest.mark.parametrize("names", [(), ("Intel SGX TCB Signing", "Intel SGX TCB Signing")])
def test_a_subject_without_exactly_one_common_name_is_refused(names: tuple[str, ...]) -> None:
    assert (
        reason(_certificate(ec.generate_private_key(ec.SECP256R1()), *names), 1) is Reason.COLLATERAL_SIGNER
    )


def test_a_key_that_is_not_on_p256_is_refused() -> None:
    for key in (ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1())):
        assert reason(_certificate(key, "x"), 1) is Reason.COLLATERAL_SIGNER
