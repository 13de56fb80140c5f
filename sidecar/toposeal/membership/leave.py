"""LEAVE: the one vote of a member that has stopped, for one manifest without it (PROTOCOL.md 4.10). No IO."""

from __future__ import annotations

from dataclasses import dataclass

from toposeal._wire import peer_pb2 as wire
from toposeal.errors import Reason, RemoteProtocolError
from toposeal.membership.identity import Identity, read_ik, spki_of
from toposeal.membership.manifest import Manifest
from toposeal.membership.signing import SigningKeys, Tag, verify_ik
from toposeal.membership.votes import Decision, decision_body, parse_decision
from toposeal.names import instance_id


@dataclass(frozen=True)
class SignedLeave:
    """A LEAVE with its signature verified. It carries its key, since whoever follows the manifest later may
    never have met the sender; the iid says whose it is.
    """

    decision: Decision
    ik_spki: bytes  # DER, 44
    signature: bytes  # 64

    @property
    def sender(self) -> bytes:
        return self.decision.sender


def make_leave(keys: SigningKeys, identity: Identity, manifest: Manifest) -> SignedLeave:
    """The own LEAVE for `manifest`. Whoever calls this must be fenced before anybody is sent it."""
    body = decision_body(identity.iid, manifest)
    signature = keys.sign(Tag.LEAVE, body)
    return SignedLeave(parse_decision(body, "leave"), spki_of(keys.ik.public_key()), signature)


def leave_message(leave: SignedLeave) -> wire.Leave:
    return wire.Leave(ik_spki=leave.ik_spki, body=leave.decision.body, signature=leave.signature)


def verify_leave(message: wire.Leave) -> SignedLeave:
    """Whoever's it is, it is signed by that instance. Raises RemoteProtocolError."""
    decision = parse_decision(message.body, "leave")
    if decision.sender != instance_id(message.ik_spki):
        raise RemoteProtocolError.of(
            Reason.IDENTITY_MISMATCH, "leave.sender", decision.sender, "the digest of ik_spki"
        )
    verify_ik(read_ik(message.ik_spki, "leave.ik_spki"), Tag.LEAVE, message.body, message.signature)
    return SignedLeave(decision, message.ik_spki, message.signature)


def require_for(leave: SignedLeave, manifest: Manifest) -> None:
    """Raise RemoteProtocolError unless `leave` is for `manifest`, which does not list its sender."""
    decision = leave.decision
    if (decision.manifest_digest, decision.epoch) != (manifest.digest, manifest.epoch):
        found, expected = decision.manifest_digest, manifest.digest.hex()
        raise RemoteProtocolError.of(Reason.MANIFEST_MISMATCH, "leave.manifest_digest", found, expected)
    if manifest.entry(leave.sender) is not None:
        raise RemoteProtocolError.of(
            Reason.DUPLICATE_MEMBER, "leave.sender", leave.sender, "an instance that is not listed"
        )
