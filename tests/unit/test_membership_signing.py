"""Signatures: over `tag | LP(body)`, deterministic, worth nothing under another tag, key or body."""

from __future__ import annotations

import random

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from toposeal.errors import Reason, RemoteProtocolError
from toposeal.membership.signing import SigningKeys, Tag, verify_ca, verify_ik
from toposeal_lab.simulation.keys import p256

KEYS = SigningKeys(Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32), p256(random.Random(1)))
OTHER = SigningKeys(Ed25519PrivateKey.from_private_bytes(bytes([2]) * 32), p256(random.Random(2)))
BODY = b"body"


def test_ik_signs_the_tag_and_the_length_of_the_body() -> None:
    expected = b"toposeal/v1/sig/hello" + (4).to_bytes(4, "big") + BODY
    assert KEYS.sign(Tag.HELLO, BODY) == KEYS.ik.sign(expected)
    verify_ik(KEYS.ik.public_key(), Tag.HELLO, BODY, KEYS.sign(Tag.HELLO, BODY))


def test_both_signatures_are_deterministic() -> None:
    assert KEYS.sign(Tag.COMMIT, BODY) == KEYS.sign(Tag.COMMIT, BODY)
    assert KEYS.sign_ca(Tag.COMMIT, BODY) == KEYS.sign_ca(Tag.COMMIT, BODY)


@pytest.mark.parametrize("tag", [t for t in Tag if t is not Tag.COMMIT])
def test_E3_a_signature_under_one_tag_is_worth_nothing_under_another(tag: Tag) -> None:
    with pytest.raises(RemoteProtocolError) as ik:
        verify_ik(KEYS.ik.public_key(), Tag.COMMIT, BODY, KEYS.sign(tag, BODY))
    with pytest.raises(RemoteProtocolError) as ca:
        verify_ca(KEYS.ca.public_key(), Tag.COMMIT, BODY, KEYS.sign_ca(tag, BODY))
    assert ik.value.reason is ca.value.reason is Reason.SIGNATURE_INVALID


def test_no_tag_is_the_beginning_of_another() -> None:
    tags = [t.value for t in Tag]
    assert [a for a in tags for b in tags if a != b and b.startswith(a)] == []


@pytest.mark.parametrize(
    "signature",
    [b"", bytes(64), KEYS.sign(Tag.HELLO, BODY)[:-1], KEYS.sign(Tag.HELLO, BODY) + b"\0", bytes(1000)],
)
def test_signatures_of_another_form_are_refused(signature: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        verify_ik(KEYS.ik.public_key(), Tag.HELLO, BODY, signature)
    with pytest.raises(RemoteProtocolError):
        verify_ca(KEYS.ca.public_key(), Tag.HELLO, BODY, signature)


def test_another_key_or_another_body_is_refused() -> None:
    verify_ca(KEYS.ca.public_key(), Tag.COMMIT, BODY, KEYS.sign_ca(Tag.COMMIT, BODY))
    for key, body in ((OTHER, BODY), (KEYS, b"bodY")):
        with pytest.raises(RemoteProtocolError):
            verify_ik(key.ik.public_key(), Tag.COMMIT, body, KEYS.sign(Tag.COMMIT, BODY))
        with pytest.raises(RemoteProtocolError):
            verify_ca(key.ca.public_key(), Tag.COMMIT, body, KEYS.sign_ca(Tag.COMMIT, BODY))


def test_F4_private_keys_are_in_no_representation() -> None:
    assert repr(KEYS) == "SigningKeys()"
