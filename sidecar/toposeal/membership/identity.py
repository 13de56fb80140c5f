"""IDENTITY: who a member is for one boot (PROTOCOL.md 3). No IO."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import decode, digest, encode
from toposeal.errors import Reason, RemoteProtocolError
from toposeal.limits import MAX_CERTIFICATE_SIZE
from toposeal.membership.fields import digest_field
from toposeal.membership.signing import SigningKeys, Tag, verify_ca, verify_ik
from toposeal.names import instance_id, is_name
from toposeal.verification.ca_profile import CaCertificate, parse_ca

PROTOCOL = 1
_MAX_IDENTITY_SIZE = MAX_CERTIFICATE_SIZE + 512


@dataclass(frozen=True)
class Identity:
    """A parsed IDENTITY body. Authentic only inside a `SignedIdentity` that `verify_identity` made."""

    body: bytes
    mesh_id: bytes  # 48
    role: str
    iid: bytes  # 48
    ik: Ed25519PublicKey
    ca: CaCertificate
    id_digest: bytes  # 48


@dataclass(frozen=True)
class SignedIdentity:
    """An IDENTITY whose two signatures prove possession of IK and of the CA key (P3)."""

    identity: Identity
    ik_signature: bytes
    ca_signature: bytes


def make_identity(keys: SigningKeys, mesh_id: bytes, mesh: str, role: str, ca_der: bytes) -> SignedIdentity:
    """Build and sign the own IDENTITY, and read it back with the checks every peer will apply."""
    spki = spki_of(keys.ik.public_key())
    body = encode(
        wire.Identity(
            protocol=PROTOCOL,
            mesh_id=mesh_id,
            role=role,
            iid=instance_id(spki),
            ik_spki=spki,
            ca_certificate=ca_der,
        )
    )
    return verify_identity(
        body, keys.sign(Tag.IDENTITY, body), keys.sign_ca(Tag.IDENTITY, body), mesh_id, mesh
    )


def verify_identity(
    body: bytes, ik_signature: bytes, ca_signature: bytes, mesh_id: bytes, mesh: str
) -> SignedIdentity:
    """Parse `body` and check both signatures. Raises RemoteProtocolError."""
    identity = parse_identity(body, mesh_id, mesh)
    verify_ik(identity.ik, Tag.IDENTITY, body, ik_signature)
    verify_ca(identity.ca.public_key, Tag.IDENTITY, body, ca_signature)
    return SignedIdentity(identity, ik_signature, ca_signature)


def parse_identity(body: bytes, mesh_id: bytes, mesh: str) -> Identity:
    """What `body` claims, before its signatures are checked. Raises RemoteProtocolError."""
    message = decode(wire.Identity, body, "identity", _MAX_IDENTITY_SIZE)
    if message.protocol != PROTOCOL:
        raise RemoteProtocolError.of(Reason.PROTOCOL_VERSION, "identity.protocol", message.protocol, PROTOCOL)
    if message.mesh_id != mesh_id:
        raise RemoteProtocolError.of(Reason.MESH_MISMATCH, "identity.mesh_id", message.mesh_id, mesh_id.hex())
    if not is_name(message.role):
        raise RemoteProtocolError.of(Reason.MALFORMED, "identity.role", message.role, "[a-z0-9-]{1,40}")
    iid = digest_field(message.iid, "identity.iid")
    if iid != instance_id(message.ik_spki):
        raise RemoteProtocolError.of(Reason.IDENTITY_MISMATCH, "identity.iid", iid, "the digest of ik_spki")
    return Identity(
        body=body,
        mesh_id=message.mesh_id,
        role=message.role,
        iid=iid,
        ik=read_ik(message.ik_spki, "identity.ik_spki"),
        ca=parse_ca(message.ca_certificate, mesh),
        id_digest=digest("toposeal/v1/identity", body),
    )


def read_ik(spki: bytes, field: str) -> Ed25519PublicKey:
    """A public IK in its one encoding. Raises RemoteProtocolError naming `field`."""
    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise RemoteProtocolError.of(Reason.MALFORMED, field, "not a public key", "Ed25519") from error
    if not isinstance(key, Ed25519PublicKey) or spki != spki_of(key):
        raise RemoteProtocolError.of(Reason.MALFORMED, field, type(key).__name__, "Ed25519")
    return key


def spki_of(key: Ed25519PublicKey) -> bytes:
    """The one encoding of a key: DER, 44 bytes."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
