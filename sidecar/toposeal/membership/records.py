"""One member of a manifest as it travels: in CERTIFICATE, and in the attestation document. No IO."""

from __future__ import annotations

from dataclasses import dataclass

from toposeal._wire import peer_pb2 as wire
from toposeal.errors import Mismatch, Reason, RemoteProtocolError, printable
from toposeal.evidence.auxiliary import gpu_messages
from toposeal.membership.hello import Hello, verify_hello
from toposeal.membership.identity import Identity, SignedIdentity, verify_identity
from toposeal.membership.manifest import Entry, Manifest
from toposeal.membership.sealed import SealedMember
from toposeal.membership.votes import SignedCommit, commit_message, verify_commit
from toposeal.topology.model import Topology


@dataclass(frozen=True)
class Introduced:
    """A member as it introduced itself: signed by its own keys, not yet backed by hardware."""

    entry: Entry
    signed: SignedIdentity
    hello: Hello

    @property
    def identity(self) -> Identity:
        return self.signed.identity


def record_message(member: SealedMember) -> wire.MemberRecord:
    return wire.MemberRecord(
        identity=member.identity.body,
        ik_signature=member.signed.ik_signature,
        ca_signature=member.signed.ca_signature,
        hello=wire.Signed(body=member.hello.body, signature=member.hello.signature),
        commit=commit_message(member.commit),
        gpus=gpu_messages(member.gpus),
    )


def introduced(record: wire.MemberRecord, entry: Entry, manifest: Manifest, topology: Topology) -> Introduced:
    """Identity and HELLO of a record are those of `entry`, of this manifest's epoch and topology.

    Raises RemoteProtocolError.
    """
    signed = verify_identity(
        record.identity, record.ik_signature, record.ca_signature, manifest.mesh_id, topology.mesh
    )
    identity = signed.identity
    require_equal(Reason.MEMBERS_INCOMPLETE, ("identity.iid", identity.iid, entry.iid))
    hello = verify_hello(record.hello.body, record.hello.signature, identity)
    require_equal(Reason.STALE_ATTEMPT, ("hello.target_epoch", hello.target_epoch, manifest.epoch))
    require_equal(
        Reason.TOPOLOGY_MISMATCH,
        ("hello.topology_version", hello.topology_version, manifest.topology_version),
        ("hello.topology_digest", hello.topology_digest, manifest.topology_digest),
    )
    require_equal(Reason.MANIFEST_LINEAGE, ("hello.previous", hello.previous, manifest.previous))
    offered = hello.entry(identity)
    names = ("role", "id_digest", "hello_digest", "ca_digest", "nonce", "aux_digest")
    require_equal(
        Reason.MANIFEST_MISMATCH,
        *((f"manifest.members.{name}", getattr(entry, name), getattr(offered, name)) for name in names),
    )
    return Introduced(entry, signed, hello)


def committed(record: wire.MemberRecord, member: Introduced, manifest: Manifest) -> SignedCommit:
    """The COMMIT of a record, over this manifest, with both signatures. Raises RemoteProtocolError."""
    commit = verify_commit(record.commit, member.identity)
    require_equal(
        Reason.MANIFEST_MISMATCH,
        ("commit.manifest_digest", commit.decision.manifest_digest, manifest.digest),
        ("commit.epoch", commit.decision.epoch, manifest.epoch),
    )
    return commit


def require_equal(reason: Reason, *fields: tuple[str, object, object]) -> None:
    """Raise RemoteProtocolError naming every one of (field, found, expected) that differs."""
    wrong = [
        Mismatch(reason, field, printable(found), printable(expected))
        for field, found, expected in fields
        if found != expected
    ]
    if wrong:
        raise RemoteProtocolError(*wrong)
