"""K5: every function that verifies a signature or reads a key says of Wycheproof's vectors what they say.

The functions are the very ones that decide; what stands around a message on the wire is left out, since a
vector's message is its own. Our raw signatures stand in fields of a fixed size, so a vector of another
size has no place there: whoever parses the field refuses it, which is in that parser's tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from support.parsers import kept
from support.wycheproof import Verifier, disagreements, keys, signatures

from toposeal.errors import ToposealError
from toposeal.evidence import amd_x509, collateral
from toposeal.membership import identity, signing
from toposeal.topology.owner import OwnerKey
from toposeal.verification import collateral_authentic, gpu_authentic, gpu_rim, snp_authentic, tdx_diagnosis

P256, P256_RAW = "ecdsa_secp256r1_sha256", "ecdsa_secp256r1_sha256_p1363"
P384_RAW, ED25519, RSA_PSS = "ecdsa_secp384r1_sha384_p1363", "ed25519", "rsa_pss_4096_sha384_mgf1_48"
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ED25519_ORDER = (1 << 252) + 27742317777372353535851937790883648493
AMD = amd_x509.parse_amd_certificate(kept("amd-certificate", "genuine-*")[0], "certificate")


def load(key: bytes) -> Any:
    return load_der_public_key(key)


def accepts(call: Callable[..., object], *arguments: object) -> bool:
    """Whether it returns; every other exception than a typed refusal fails the test."""
    try:
        call(*arguments)
    except ToposealError:
        return False
    return True


def halves(signature: bytes, size: int) -> dict[str, int] | None:
    """What stands in two fields of `size` bytes; None where it does not fit into them."""
    if len(signature) != 2 * size:
        return None
    r, s = signature[:size], signature[size:]
    return {"signature_r": int.from_bytes(r, "big"), "signature_s": int.from_bytes(s, "big")}


def by_owner(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        return OwnerKey.parse(key, "key").has_signed(message, signature)
    except ToposealError:
        return False


def by_ca(key: bytes, message: bytes, signature: bytes) -> bool:
    return accepts(signing.verify_ca, load(key), signing.Tag.HELLO, message, signature)


def by_ik(key: bytes, message: bytes, signature: bytes) -> bool:
    return accepts(signing.verify_ik, identity.read_ik(key, "key"), signing.Tag.HELLO, message, signature)


def by_tcb_signer(key: bytes, message: bytes, signature: bytes) -> bool:
    def judge() -> None:
        fields = collateral._hex(signature.hex(), "signature", 64)
        text = SimpleNamespace(encode=lambda _: message)  # vectors are no ASCII
        document: Any = SimpleNamespace(
            text=text, signature=fields, chain=[SimpleNamespace(public_key=load(key))]
        )
        collateral_authentic._expect_signature(document, "tcb_info")

    return accepts(judge)


def by_quote(key: bytes, message: bytes, signature: bytes) -> bool:
    return len(signature) == 64 and tdx_diagnosis._verifies(load(key), signature, message)


def by_vcek(key: bytes, message: bytes, signature: bytes) -> bool:
    numbers, holder = halves(signature, 48), SimpleNamespace(public_key=load(key))
    report: Any = SimpleNamespace(signed=message, **(numbers or {}))
    return numbers is not None and accepts(snp_authentic._expect_signature, report, holder)


def by_gpu(key: bytes, message: bytes, signature: bytes) -> bool:
    numbers, holder = halves(signature, 48), SimpleNamespace(public_key=load(key))
    report: Any = SimpleNamespace(transcript=SimpleNamespace(signed=message, **(numbers or {})))
    return numbers is not None and accepts(gpu_authentic._expect_signature, report, holder)


def by_rim_signer(key: bytes, message: bytes, signature: bytes) -> bool:
    numbers, holder = halves(signature, 48), SimpleNamespace(public_key=load(key))
    rim: Any = SimpleNamespace(
        covered=b"", digest=b"", signed_info=message, certificates=[holder], **(numbers or {})
    )
    return numbers is not None and accepts(gpu_rim._expect_signature, rim)


def by_amd_ca(key: bytes, message: bytes, signature: bytes) -> bool:
    issuer = replace(AMD, public_key=amd_x509._public_key(key, "ca"))
    issued = replace(AMD, issuer=issuer.subject, signed=message, signature=signature)
    return issued.issued_by(issuer)


def by_amd_list(key: bytes, message: bytes, signature: bytes) -> bool:
    issuer = replace(AMD, public_key=amd_x509._public_key(key, "ca"))
    return amd_x509.AmdCrl(message, signature, issuer.subject, frozenset(), 0, 0).issued_by(issuer)


VERIFIERS: dict[str, tuple[str, Verifier]] = {
    "owner, ECDSA": (P256, by_owner),
    "CA key": (P256, by_ca),
    "TCB signer": (P256_RAW, by_tcb_signer),
    "quoting enclave": (P256_RAW, by_quote),
    "VCEK": (P384_RAW, by_vcek),
    "GPU": (P384_RAW, by_gpu),
    "reference manifest": (P384_RAW, by_rim_signer),
    "owner, Ed25519": (ED25519, by_owner),
    "IK": (ED25519, by_ik),
    "AMD's CAs": (RSA_PSS, by_amd_ca),
    "AMD's lists": (RSA_PSS, by_amd_list),
}


@pytest.fixture(autouse=True)
def messages_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tag and length are left out of what IK and CA key sign: the vectors bring whole messages."""

    monkeypatch.setattr(signing, "transcript", lambda tag, body: body)


@pytest.mark.parametrize("name", VERIFIERS)
def test_K5_a_signature_holds_exactly_where_the_suite_says_so(name: str) -> None:
    file, verifier = VERIFIERS[name]
    assert {each.result for each in signatures(file)} >= {"valid", "invalid"}
    assert disagreements(file, verifier) == []


def without_ranges(key: bytes, message: bytes, signature: bytes) -> bool:
    """The classic flaw: r and s of any size, taken modulo the order."""
    half = len(signature) // 2
    r, s = (int.from_bytes(part, "big") % P256_ORDER for part in (signature[:half], signature[half:]))
    try:
        load(key).verify(utils.encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def malleable(key: bytes, message: bytes, signature: bytes) -> bool:
    """RFC 8032, 5.1.7 left out: S is taken modulo the order."""
    s = int.from_bytes(signature[32:], "little") % ED25519_ORDER
    public: Ed25519PublicKey = load(key)
    try:
        public.verify(signature[:32] + s.to_bytes(32, "little"), message)
    except InvalidSignature:
        return False
    return True


FLAWED: dict[str, tuple[str, Verifier, str]] = {
    "accepts everything": (P256, lambda *_: True, "invalid"),
    "accepts nothing": (P256, lambda *_: False, "valid"),
    "no ranges": (P256_RAW, without_ranges, "invalid"),
    "no end": (P256, lambda k, m, s: any(by_ca(k, m, s[:end]) for end in range(68, 73)), "invalid"),
    "malleable": (ED25519, malleable, "invalid"),
    "another hash": (RSA_PSS, lambda k, m, s: by_amd_ca(k, m + b"\0", s), "valid"),
}


@pytest.mark.parametrize("name", FLAWED)
def test_K5_a_verifier_with_a_known_flaw_is_noticed(name: str) -> None:
    file, verifier, wrong = FLAWED[name]
    assert {result for _, result in disagreements(file, verifier)} == {wrong}


def test_K5_no_owner_has_a_key_under_which_anybody_can_sign() -> None:
    """The suite leaves the eight points of small order to its reader; we refuse them."""
    unsettled = [each for each in signatures(ED25519) if each.result == "acceptable"]
    weak = {each.key for each in unsettled if not accepts(OwnerKey.parse, each.key, "key")}
    assert len(weak) == 8
    assert not any(by_owner(each.key, each.message, each.signature) for each in unsettled if each.key in weak)


def test_K5_an_owners_key_has_one_encoding_and_is_on_its_curve() -> None:
    """What the suite only tolerates is refused too."""
    wrong = [
        (each.number, each.result)
        for each in keys("ecdh_secp256r1")
        if accepts(OwnerKey.parse, each.key, "key") != (each.result == "valid")
    ]
    assert wrong == []


def test_K5_no_vendors_key_is_read_that_the_suite_refuses() -> None:
    read = {"valid": 0, "acceptable": 0, "invalid": 0}
    for each in keys("ecdh_secp384r1"):
        read[each.result] += accepts(amd_x509._public_key, each.key, "endorsement")
    assert read["invalid"] == 0
    assert read["valid"] == sum(each.result == "valid" for each in keys("ecdh_secp384r1"))
