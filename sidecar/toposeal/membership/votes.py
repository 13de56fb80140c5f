"""PING, PONG, PROPOSE, COMMIT and SEALED: small signed bodies (PROTOCOL.md 4.3 to 4.6). No IO."""

from __future__ import annotations

from dataclasses import dataclass

from toposeal._wire import evidence_pb2 as wire_evidence
from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import decode, encode
from toposeal.errors import Reason, RemoteProtocolError
from toposeal.limits import NONCE_SIZE
from toposeal.membership.fields import (
    digest_field,
    epoch_field,
    evidence_field,
    nonce_field,
    sized_field,
)
from toposeal.membership.identity import Identity
from toposeal.membership.manifest import Manifest
from toposeal.membership.signing import SigningKeys, Tag, verify_ca, verify_ik

_MAX_SMALL_BODY = 256


@dataclass(frozen=True)
class Liveness:
    """A PING or a PONG."""

    sender: bytes  # iid
    receiver: bytes  # iid
    nonce: bytes  # 32
    target_epoch: int


@dataclass(frozen=True)
class Decision:
    """PROPOSE, COMMIT, SEALED or LEAVE: `sender` stands to manifest `manifest_digest` of `epoch`."""

    body: bytes
    sender: bytes
    epoch: int
    manifest_digest: bytes


@dataclass(frozen=True)
class SignedCommit:
    """A COMMIT with both signatures verified. Its SEAL evidence is not appraised yet."""

    decision: Decision
    ik_signature: bytes
    ca_signature: bytes
    evidence: wire_evidence.Evidence


def make_liveness(
    keys: SigningKeys, tag: Tag, sender: bytes, receiver: bytes, nonce: bytes, epoch: int
) -> wire.Signed:
    """A PING or PONG, by `tag`."""
    body = encode(wire.Ping(sender=sender, receiver=receiver, nonce=nonce, target_epoch=epoch))
    return wire.Signed(body=body, signature=keys.sign(tag, body))


def parse_liveness(signed: wire.Signed, field: str) -> Liveness:
    """Parse without checking the signature: the sender's key is looked up by what this gives."""
    message = decode(wire.Ping, signed.body, field, _MAX_SMALL_BODY)
    return Liveness(
        sender=digest_field(message.sender, f"{field}.sender"),
        receiver=digest_field(message.receiver, f"{field}.receiver"),
        nonce=nonce_field(message.nonce, f"{field}.nonce"),
        target_epoch=epoch_field(message.target_epoch, f"{field}.target_epoch"),
    )


@dataclass(frozen=True)
class Heartbeat:
    sender: bytes  # iid
    receiver: bytes  # iid
    nonce: bytes  # 32
    answer: bytes  # 32: the receiver's last nonce, zero before one came
    head: bytes  # 48: what the sender's next attempt would follow, zero without any
    leaving: bool = False  # asks to be left out of the next manifest


@dataclass(frozen=True)
class Want:
    sender: bytes  # iid
    receiver: bytes  # iid
    digest: bytes  # 48: D of a manifest, or topo_digest
    first: int  # the first record that is asked for


def make_heartbeat(keys: SigningKeys, beat: Heartbeat) -> wire.Signed:
    body = encode(
        wire.Heartbeat(
            sender=beat.sender,
            receiver=beat.receiver,
            nonce=beat.nonce,
            answer=beat.answer,
            head=beat.head,
            leaving=beat.leaving,
        )
    )
    return wire.Signed(body=body, signature=keys.sign(Tag.HEARTBEAT, body))


def parse_heartbeat(body: bytes) -> Heartbeat:
    """Parse without checking the signature. Raises RemoteProtocolError."""
    message = decode(wire.Heartbeat, body, "heartbeat", _MAX_SMALL_BODY)
    return Heartbeat(
        sender=digest_field(message.sender, "heartbeat.sender"),
        receiver=digest_field(message.receiver, "heartbeat.receiver"),
        nonce=nonce_field(message.nonce, "heartbeat.nonce"),
        answer=sized_field(message.answer, NONCE_SIZE, "heartbeat.answer"),
        head=digest_field(message.head, "heartbeat.head"),
        leaving=message.leaving,
    )


def make_want(keys: SigningKeys, want: Want) -> wire.Signed:
    body = encode(
        wire.Want(
            sender=want.sender,
            receiver=want.receiver,
            digest=want.digest,
            first=want.first,
        )
    )
    return wire.Signed(body=body, signature=keys.sign(Tag.WANT, body))


def parse_want(body: bytes) -> Want:
    """Parse without checking the signature. Raises RemoteProtocolError."""
    message = decode(wire.Want, body, "want", _MAX_SMALL_BODY)
    return Want(
        sender=digest_field(message.sender, "want.sender"),
        receiver=digest_field(message.receiver, "want.receiver"),
        digest=digest_field(message.digest, "want.digest"),
        first=message.first,
    )


def make_propose(keys: SigningKeys, sender: bytes, manifest: Manifest) -> wire.Signed:
    """What we would commit to; binds nobody and may be replaced."""
    body = decision_body(sender, manifest)
    return wire.Signed(body=body, signature=keys.sign(Tag.PROPOSE, body))


def make_commit(
    keys: SigningKeys, sender: bytes, manifest: Manifest, evidence: wire_evidence.Evidence
) -> SignedCommit:
    """The own COMMIT over the SEAL evidence just quoted."""
    body = decision_body(sender, manifest)
    return SignedCommit(
        decision=parse_decision(body, "commit"),
        ik_signature=keys.sign(Tag.COMMIT, body),
        ca_signature=keys.sign_ca(Tag.COMMIT, body),
        evidence=evidence,
    )


def commit_message(commit: SignedCommit) -> wire.Commit:
    return wire.Commit(
        body=commit.decision.body,
        ik_signature=commit.ik_signature,
        ca_signature=commit.ca_signature,
        evidence=commit.evidence,
    )


def verify_commit(message: wire.Commit, identity: Identity) -> SignedCommit:
    """Both signatures of a COMMIT under the keys of `identity`. Raises RemoteProtocolError."""
    decision = parse_decision(message.body, "commit")
    if decision.sender != identity.iid:
        raise RemoteProtocolError.of(
            Reason.IDENTITY_MISMATCH, "commit.sender", decision.sender, identity.iid.hex()
        )
    verify_ik(identity.ik, Tag.COMMIT, message.body, message.ik_signature)
    verify_ca(identity.ca.public_key, Tag.COMMIT, message.body, message.ca_signature)
    evidence = evidence_field(message.evidence, "commit.evidence")
    return SignedCommit(decision, message.ik_signature, message.ca_signature, evidence)


def make_sealed(keys: SigningKeys, sender: bytes, manifest: Manifest) -> wire.Signed:
    body = decision_body(sender, manifest)
    return wire.Signed(body=body, signature=keys.sign(Tag.SEALED, body))


def parse_decision(body: bytes, field: str) -> Decision:
    """Parse a PROPOSE, COMMIT, SEALED or LEAVE body without checking a signature."""
    message = decode(wire.Decision, body, field, _MAX_SMALL_BODY)
    return Decision(
        body=body,
        sender=digest_field(message.sender, f"{field}.sender"),
        epoch=epoch_field(message.epoch, f"{field}.epoch"),
        manifest_digest=digest_field(message.manifest_digest, f"{field}.manifest_digest"),
    )


def decision_body(sender: bytes, manifest: Manifest) -> bytes:
    return encode(wire.Decision(sender=sender, epoch=manifest.epoch, manifest_digest=manifest.digest))
