"""IDENTITY: possession of both keys, one mesh, one version, no other bytes than the canonical ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from support.actors import Actor, Bench

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.errors import Reason, RemoteProtocolError
from toposeal.limits import MAX_CERTIFICATE_SIZE
from toposeal.membership import identity as identity_module
from toposeal.membership.identity import SignedIdentity, read_ik, verify_identity
from toposeal.membership.signing import Tag
from toposeal.names import instance_id, mesh_id
from toposeal_lab.simulation.symbolic import owner, signed_topology

BENCH = Bench()
A, B = BENCH.actor("db"), BENCH.actor("db")
MESH_ID = A.own.identity.mesh_id


def body(actor: Actor = A, **changes: Any) -> bytes:
    message = wire.Identity.FromString(actor.own.identity.body)
    for name, value in changes.items():
        setattr(message, name, value)
    return encode(message)


def verify(
    data: bytes,
    ik_signature: bytes | None = None,
    ca_signature: bytes | None = None,
    keys: Actor = A,
    mesh: str = "shop",
    expected_mesh_id: bytes = MESH_ID,
) -> SignedIdentity:
    ik = keys.own.keys.sign(Tag.IDENTITY, data) if ik_signature is None else ik_signature
    ca = keys.own.keys.sign_ca(Tag.IDENTITY, data) if ca_signature is None else ca_signature
    return verify_identity(data, ik, ca, expected_mesh_id, mesh)


def refused(call: Callable[[], object]) -> Reason:
    with pytest.raises(RemoteProtocolError) as error:
        call()
    return error.value.reason


def test_what_was_made_is_read_back_with_the_same_values() -> None:
    identity = verify(body()).identity
    assert identity == A.own.identity
    assert identity.iid == instance_id(wire.Identity.FromString(body()).ik_spki)


def test_P1_swapping_the_ca_certificates_of_two_members_breaks_possession() -> None:
    swapped = body(ca_certificate=B.own.identity.ca.der)
    assert refused(lambda: verify(swapped)) is Reason.SIGNATURE_INVALID
    kept = A.own.signed
    assert refused(lambda: verify(swapped, kept.ik_signature, kept.ca_signature)) is Reason.SIGNATURE_INVALID


def test_P3_the_ca_key_of_another_member_cannot_be_registered_as_ones_own() -> None:
    theirs = body(ca_certificate=B.own.identity.ca.der)
    ik = A.own.keys.sign(Tag.IDENTITY, theirs)
    ca = A.own.keys.sign_ca(Tag.IDENTITY, theirs)
    assert refused(lambda: verify(theirs, ik, ca)) is Reason.SIGNATURE_INVALID
    # With B's own signature over it, which B never makes, nothing would be left to refuse here.
    verify(theirs, ik, B.own.keys.sign_ca(Tag.IDENTITY, theirs))


def test_either_signature_missing_is_a_refusal() -> None:
    ik, ca = A.own.signed.ik_signature, A.own.signed.ca_signature
    verify(body(), ik, ca)
    for signatures in ((b"", ca), (ik, b"")):
        assert refused(lambda: verify(body(), *signatures)) is Reason.SIGNATURE_INVALID  # noqa: B023


@pytest.mark.parametrize("protocol", [0, 2, (1 << 32) - 1])
def test_P6_another_protocol_version_or_none_is_refused(protocol: int) -> None:
    assert refused(lambda: verify(body(protocol=protocol))) is Reason.PROTOCOL_VERSION


def test_P10_another_mesh_of_the_same_owner_and_the_same_mesh_of_another_owner_are_refused() -> None:
    other_owner, _ = owner(2)
    for foreign in (mesh_id(owner()[0].canonical, "staging"), mesh_id(other_owner.canonical, "shop")):
        assert refused(lambda: verify(body(mesh_id=foreign))) is Reason.MESH_MISMATCH  # noqa: B023


def test_P10_a_ca_of_another_mesh_name_is_refused_even_under_the_right_mesh_id() -> None:
    staging = signed_topology({"db": (1, 1), "web": (1, 1)}, mesh="staging")
    foreign = BENCH.actor("db", signed=staging)
    data = body(foreign, mesh_id=MESH_ID)
    assert refused(lambda: verify(data, keys=foreign)) is Reason.CA_PROFILE


@pytest.mark.parametrize("role", ["", "Web", "web.", "a" * 41, "wéb", "web\n"])
def test_T7_role_names_outside_the_charset_are_refused(role: str) -> None:
    assert refused(lambda: verify(body(role=role))) is Reason.MALFORMED


def test_the_iid_is_the_digest_of_the_signing_key() -> None:
    assert refused(lambda: verify(body(iid=B.iid))) is Reason.IDENTITY_MISMATCH
    assert refused(lambda: verify(body(iid=A.iid[:47]))) is Reason.MALFORMED


def test_the_signing_key_is_ed25519_in_its_one_encoding() -> None:
    ed448 = Ed448PrivateKey.generate().public_key()
    spki = wire.Identity.FromString(body()).ik_spki
    long_form = b"\x30\x81\x2a" + spki[2:]
    for key in (
        ed448.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        b"",
        spki[:-1],
        spki + b"\0",
        long_form,
    ):
        assert refused(lambda: verify(body(ik_spki=key, iid=instance_id(key)))) is Reason.MALFORMED  # noqa: B023


def test_another_encoding_of_the_signing_key_is_refused_whatever_the_library_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two encodings of one key would be two iids of one instance."""
    spki = wire.Identity.FromString(body()).ik_spki
    monkeypatch.setattr(identity_module, "load_der_public_key", lambda _: A.own.identity.ik)
    assert read_ik(spki, "ik") == A.own.identity.ik
    assert refused(lambda: read_ik(spki + b"\0", "ik")) is Reason.MALFORMED


def test_a_certificate_of_any_size_that_is_allowed_is_looked_at() -> None:
    largest = bytes(MAX_CERTIFICATE_SIZE)
    assert refused(lambda: verify(body(ca_certificate=largest))) is Reason.CA_PROFILE


@pytest.mark.parametrize("certificate", [b"", b"\x30", bytes(4096)])
def test_K3_something_else_than_a_ca_certificate_is_refused(certificate: bytes) -> None:
    assert refused(lambda: verify(body(ca_certificate=certificate))) in (Reason.CA_PROFILE, Reason.TOO_LARGE)


def test_an_oversized_body_is_refused_unread() -> None:
    assert refused(lambda: verify(bytes(1 << 20))) is Reason.TOO_LARGE
