"""What a member checks before it commits, as one list (PROTOCOL.md 5.2). No IO."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from toposeal.errors import Mismatch, Reason
from toposeal.membership.candidates import is_candidate
from toposeal.membership.certificate import descends, majority, trail
from toposeal.membership.leave import SignedLeave
from toposeal.membership.manifest import Entry, Manifest, bounds_mismatches
from toposeal.membership.state import Attempt, Member, is_eligible


def commit_mismatches(
    member: Member, attempt: Attempt, manifest: Manifest, now: int, leave: SignedLeave | None = None
) -> list[Mismatch]:
    """Everything that speaks against committing to `manifest`; empty when nothing does."""
    topology = member.topology
    found: list[Mismatch] = []
    # (1) The topology is mine, and no verified one is newer or contradicts it.
    if manifest.topology_digest != topology.digest or manifest.topology_version != topology.version:
        found.append(_mismatch(Reason.TOPOLOGY_MISMATCH, "topology_digest", manifest.topology_digest.hex()))
    if member.blocked is not None:
        found.append(member.blocked)
    if manifest.mesh_id != member.own.identity.mesh_id:
        found.append(_mismatch(Reason.MESH_MISMATCH, "mesh_id", manifest.mesh_id.hex()))
    # (2) My own entry is exactly my current HELLO.
    if manifest.entry(member.own.iid) != attempt.hello.entry(member.own.identity):
        found.append(_mismatch(Reason.MANIFEST_OWN_ENTRY, "members", "another entry for us"))
    if member.accepted != topology.digest:
        found.append(_mismatch(Reason.ROLE_MISMATCH, "members", "us, whom the topology does not admit"))
    # (3) Sorted and unique: `parse_manifest` makes no other.
    # (4) Every other entry is a candidate: identity, JOIN evidence, HELLO, role, platform, epoch.
    if manifest.epoch != attempt.epoch:
        found.append(_mismatch(Reason.STALE_ATTEMPT, "epoch", str(manifest.epoch)))
    found += [m for e in manifest.members if (m := _entry_mismatch(member, attempt, e, now))]
    # (5) Counts within bounds. Roles are distinguishable, or the topology would not have parsed.
    found += bounds_mismatches(manifest.members, topology)
    # (6) CA profile: `parse_ca` accepts no other, at the parsing of IDENTITY.
    # (7) After what this attempt follows, which comes after what we have sealed: no branch is left.
    if manifest.previous != attempt.previous or not descends(member.chain, attempt.previous, member.sealed):
        found.append(_mismatch(Reason.MANIFEST_LINEAGE, "previous", manifest.previous.hex()))
    # (8) One commitment per epoch number, and numbers only rise (S3).
    if manifest.epoch <= member.last_commitment:
        found.append(_mismatch(Reason.COMMIT_REPEATED, "epoch", str(manifest.epoch)))
    # (9) More than half of the predecessor's members, and of every ancestor's back to the last active one;
    # whoever has left to this very manifest counts.
    left = {leave.sender} if leave and leave.decision.manifest_digest == manifest.digest else set()
    if not manifest.is_genesis:
        found += _follows(member, manifest, left)
    # (10) Auxiliary evidence as the role demands: admission
    # appraised it with JOIN, and the entry's aux_digest is the HELLO's, which is of nothing else.
    return found


def leave_mismatches(member: Member, manifest: Manifest) -> list[Mismatch]:
    """Everything that speaks against our LEAVE for `manifest`; empty when nothing does (PROTOCOL.md 4.10)."""
    topology, own = member.topology, member.own.iid
    found: list[Mismatch] = []
    # As checks 1, 4, 5 and 8: it is one that its members can commit to.
    if (manifest.topology_digest, manifest.mesh_id) != (topology.digest, member.own.identity.mesh_id):
        found.append(_mismatch(Reason.TOPOLOGY_MISMATCH, "topology_digest", manifest.topology_digest.hex()))
    if member.blocked is not None:
        found.append(member.blocked)
    found += [m for e in manifest.members if (m := _listed_mismatch(member, manifest, e))]
    found += bounds_mismatches(manifest.members, topology)
    if manifest.epoch <= member.last_commitment:
        found.append(_mismatch(Reason.COMMIT_REPEATED, "epoch", str(manifest.epoch)))
    # A child of what we sealed last, and of nothing else: what we sealed before it we cannot leave any more.
    if manifest.is_genesis or manifest.previous != member.sealed:
        found.append(_mismatch(Reason.MANIFEST_LINEAGE, "previous", manifest.previous.hex()))
    # (9) It needs us: without us there is no majority, and with us there is.
    found += _follows(member, manifest, {own})
    path = trail(member.chain, manifest.previous)
    if path and majority(path, [entry.iid for entry in manifest.members]):
        found.append(_mismatch(Reason.NO_MAJORITY, "members", "a majority without us"))
    return found


def _listed_mismatch(member: Member, manifest: Manifest, entry: Entry) -> Mismatch | None:
    """Others than us, whom we know in the very attempt that it is of."""
    peer = member.peers.get(entry.iid)
    if peer is None or not is_eligible(member, peer):
        return _mismatch(Reason.UNKNOWN_MEMBER, f"members[{entry.role}].iid", entry.iid.hex())
    attempt = (peer.hello.target_epoch, peer.hello.previous)
    if peer.hello.entry(peer.identity) != entry or attempt != (manifest.epoch, manifest.previous):
        return _mismatch(Reason.MANIFEST_MISMATCH, f"members[{entry.role}]", "another identity or HELLO")
    return None


def _follows(member: Member, manifest: Manifest, left: Collection[bytes]) -> Iterator[Mismatch]:
    path = trail(member.chain, manifest.previous)
    if not path:
        yield _mismatch(Reason.CERTIFICATE_UNKNOWN, "previous", manifest.previous.hex())
        return
    if manifest.epoch <= path[0].manifest.epoch:
        yield _mismatch(Reason.COMMIT_REPEATED, "epoch", str(manifest.epoch))
    if manifest.topology_version < path[0].manifest.topology_version:
        yield _mismatch(Reason.TOPOLOGY_ROLLBACK, "topology_version", str(manifest.topology_version))
    if manifest.lineage != path[0].lineage:
        yield _mismatch(Reason.MANIFEST_LINEAGE, "lineage", manifest.lineage.hex())
    if not majority(path, [*left, *(entry.iid for entry in manifest.members)]):
        yield _mismatch(Reason.NO_MAJORITY, "members", "too few members of an earlier manifest")


def _entry_mismatch(member: Member, attempt: Attempt, entry: Entry, now: int) -> Mismatch | None:
    if entry.iid == member.own.iid:
        return None
    peer = member.peers.get(entry.iid)
    if peer is None or not is_candidate(member, attempt, peer, now):
        return _mismatch(Reason.UNKNOWN_MEMBER, f"members[{entry.role}].iid", entry.iid.hex())
    if peer.hello.entry(peer.identity) != entry:
        return _mismatch(Reason.MANIFEST_MISMATCH, f"members[{entry.role}]", "another identity or HELLO")
    return None


def _mismatch(reason: Reason, field: str, found: str) -> Mismatch:
    return Mismatch(reason, f"manifest.{field}", found, "what this member verified")
