"""The owner root: keys, groups, thresholds, and its one spelling."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from support.topologies import refusals

from toposeal.errors import Reason, TopologyError
from toposeal.limits import MAX_OWNER_KEYS, MAX_OWNER_ROOT_SIZE
from toposeal.topology import strict_json
from toposeal.topology.owner import OwnerKey, OwnerRoot, spki

INVALID = Reason.TOPOLOGY_INVALID
KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in range(1, 4)]
P256 = ec.derive_private_key(7, ec.SECP256R1())
DERS = [spki(key.public_key()) for key in KEYS]
ED25519_PREFIX = DERS[0][:12]
P = (1 << 255) - 19


def _b64(der: bytes) -> str:
    return base64.b64encode(der).decode()


def _refused(required: Any) -> set[tuple[Reason, str]]:
    return refusals(lambda: OwnerRoot.parse(strict_json.canonical({"required": required})))


def test_the_digest_is_that_of_the_files_bytes() -> None:
    root = OwnerRoot.of([([DERS[0], spki(P256.public_key())], 2), ([DERS[1]], 1)])
    expected = {"required": [[[_b64(DERS[0]), _b64(spki(P256.public_key()))], 2], [[_b64(DERS[1])], 1]]}
    assert json.loads(root.canonical) == expected
    assert root.digest == hashlib.sha384(root.canonical).digest()
    assert OwnerRoot.parse(root.canonical) == root
    assert [key.spki for key in root.keys] == [DERS[0], spki(P256.public_key()), DERS[1]]


def test_a_key_in_two_groups_is_one_key() -> None:
    assert len(OwnerRoot.of([([DERS[0]], 1), ([DERS[0], DERS[1]], 1)]).keys) == 2


@pytest.mark.parametrize("spelling", [b"\n", b" "])
def test_another_spelling_of_the_root_is_refused(spelling: bytes) -> None:
    data = OwnerRoot.of([([DERS[0]], 1)]).canonical + spelling
    assert refusals(lambda: OwnerRoot.parse(data)) == {(Reason.NOT_CANONICAL, "owner")}


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"null", b'{"extra":1,"required":[]}', b'{"required":{}}']
)
def test_anything_but_groups_is_refused(data: bytes) -> None:
    ((reason, field),) = refusals(lambda: OwnerRoot.parse(data))
    assert reason is (Reason.MALFORMED if not data else INVALID)
    assert field.startswith("owner")


def test_at_least_one_group_is_needed() -> None:
    assert _refused([]) == {(INVALID, "owner.required")}


@pytest.mark.parametrize("group", [[], [[]], [[], 1, 2], "x", {"keys": []}, ["x", 1]])
def test_a_group_is_keys_and_a_threshold(group: Any) -> None:
    assert _refused([[[_b64(DERS[0])], 1], group]) == {(INVALID, "owner.required[1]")}


@pytest.mark.parametrize("threshold", [0, -1, 3, True, None, "1"])
def test_T3_a_threshold_is_between_one_and_the_number_of_keys(threshold: Any) -> None:
    keys = [_b64(DERS[0]), _b64(DERS[1])]
    assert _refused([[keys, threshold]]) == {(INVALID, "owner.required[0][1]")}


def test_an_empty_group_is_refused() -> None:
    assert _refused([[[], 0]]) == {(INVALID, "owner.required[0][1]")}


def test_T3_a_key_twice_in_one_group_is_refused() -> None:
    assert _refused([[[_b64(DERS[0]), _b64(DERS[1]), _b64(DERS[0])], 2]]) == {(INVALID, "owner.required[0]")}


@pytest.mark.parametrize(
    "key", [1, None, "", "*", "é", "AA", "AAAA", _b64(b"0\x03\x02\x01\x00"), _b64(DERS[0])[:-1]]
)
def test_what_is_no_key_is_refused(key: Any) -> None:
    assert _refused([[[key], 1]]) == {(INVALID, "owner.required[0][0][0]")}


@pytest.mark.parametrize(
    "key",
    [
        ec.derive_private_key(7, ec.SECP384R1()).public_key(),
        ec.derive_private_key(7, ec.SECP256K1()).public_key(),
        rsa.generate_private_key(65537, 2048).public_key(),
    ],
)
def test_other_kinds_of_keys_are_refused(key: Any) -> None:
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert refusals(lambda: OwnerRoot.of([([der], 1)])) == {(INVALID, "owner.required[0][0][0]")}


def test_T3_a_second_encoding_of_a_key_cannot_count_twice() -> None:
    full = spki(P256.public_key())
    point = P256.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    algorithm = full[2:23]  # SEQUENCE { id-ecPublicKey, prime256v1 }
    compressed = b"\x30\x39" + algorithm + b"\x03\x22\x00" + point
    assert refusals(lambda: OwnerKey.parse(compressed, "k")) == {(INVALID, "k")}
    assert refusals(lambda: OwnerKey.parse(full + b"\x00", "k")) == {(INVALID, "k")}


def _order_8() -> int:
    """A y of order 8 from its definition: d*y^4 + 2*y^2 - 1 = 0 on -x^2 + y^2 = 1 + d*x^2*y^2."""
    d = -121665 * pow(121666, -1, P) % P
    root_of_minus_one = pow(2, (P - 1) // 4, P)

    def sqrt(n: int) -> int | None:
        candidate = pow(n, (P + 3) // 8, P)
        for root in (candidate, candidate * root_of_minus_one % P):
            if root * root % P == n % P:
                return root
        return None

    discriminant = sqrt(1 + d)
    assert discriminant is not None
    squares = [(sign * discriminant - 1) * pow(d, -1, P) % P for sign in (1, -1)]
    return next(y for y in map(sqrt, squares) if y is not None)


@pytest.mark.parametrize("y", [0, 1, P - 1, P, P + 1, P + 5, (1 << 255) - 1, _order_8(), P - _order_8()])
@pytest.mark.parametrize("sign", [0, 1])
def test_T3_ed25519_points_that_need_no_private_key_are_refused(y: int, sign: int) -> None:
    der = ED25519_PREFIX + (y | sign << 255).to_bytes(32, "little")
    assert refusals(lambda: OwnerKey.parse(der, "k")) == {(INVALID, "k")}


def test_a_point_of_small_order_would_sign_anything() -> None:
    """Why the rule above is there: OpenSSL itself accepts such a signature."""
    identity = (1).to_bytes(32, "little")
    Ed25519PublicKey.from_public_bytes(identity).verify(identity + bytes(32), b"any topology at all")


def test_the_number_of_keys_and_bytes_is_bounded() -> None:
    ders = [spki(Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32).public_key()) for i in range(65)]
    assert len(OwnerRoot.of([(ders[:MAX_OWNER_KEYS], 1)]).keys) == MAX_OWNER_KEYS
    assert refusals(lambda: OwnerRoot.of([(ders[:60], 1), (ders[60:], 1)])) == {(INVALID, "owner.required")}
    large = b" " * (MAX_OWNER_ROOT_SIZE + 1)
    assert refusals(lambda: OwnerRoot.parse(large)) == {(Reason.TOO_LARGE, "owner")}


def test_unmet_names_every_group_that_falls_short() -> None:
    root = OwnerRoot.of([(DERS[:2], 2), ([DERS[2]], 1)])
    one, two, three = root.keys
    assert list(root.unmet([one, two, three])) == []
    assert [m.field for m in root.unmet([one, three])] == ["signatures of owner.required[0]"]
    assert [m.field for m in root.unmet([one, one])] == [
        "signatures of owner.required[0]",
        "signatures of owner.required[1]",
    ]


def test_a_key_of_each_kind_knows_its_signatures() -> None:
    message = b"message"
    ecdsa = P256.sign(message, ec.ECDSA(SHA256()))
    for private, signature in ((KEYS[0], KEYS[0].sign(message)), (P256, ecdsa)):
        key = OwnerKey.parse(spki(private.public_key()), "k")
        assert key.has_signed(message, signature)
        assert not key.has_signed(message + b"!", signature)
        assert not key.has_signed(message, signature[:-1])
        assert not key.has_signed(message, b"")


def test_refusals_show_no_key_material_beyond_what_a_terminal_bears() -> None:
    with pytest.raises(TopologyError) as caught:
        OwnerRoot.parse(strict_json.canonical({"required": [[["\x1b" * 5000], 1]]}))
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()
