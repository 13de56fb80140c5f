"""The table of known instances, and which attempt they are in (PROTOCOL.md 4.1, 6.3). No IO."""

from __future__ import annotations

from dataclasses import replace

from toposeal.errors import Reason, RemoteProtocolError
from toposeal.limits import MAX_CANDIDATES_PER_ROLE, MAX_EPOCH_STEP
from toposeal.membership.events import Effect
from toposeal.membership.heads import is_needed
from toposeal.membership.identity import Identity
from toposeal.membership.state import (
    Active,
    Gathering,
    Member,
    Peer,
    Proposed,
    Waiting,
    listed_iids,
    mesh_iids,
)

Step = tuple[Member, tuple[Effect, ...]]

_SILENT_TO_YIELD = 2  # pings without an answer after which an instance gives way to a new one (P12)


def admitted_peer(member: Member, iid: bytes, field: str) -> Peer:
    """The admitted peer `iid`; raises RemoteProtocolError for ourselves (P7) and for strangers."""
    peer = known_peer(member, iid, field)
    if peer.admitted is None:
        raise unknown(field)
    return peer


def known_peer(member: Member, iid: bytes, field: str) -> Peer:
    if iid == member.own.iid:
        raise RemoteProtocolError.of(Reason.REFLECTED, field, "our own iid", "a peer's")
    peer = member.peers.get(iid)
    if peer is None:
        raise unknown(field)
    return peer


def with_room(member: Member, identity: Identity) -> Member:
    """Room for one more instance of the role, or RemoteProtocolError; the table is bounded (P12)."""
    if identity.iid == member.own.iid:
        raise RemoteProtocolError.of(Reason.REFLECTED, "identity.iid", "our own", "a peer's")
    if identity.iid in member.peers:
        raise RemoteProtocolError.of(
            Reason.IDENTITY_MISMATCH, "introduction.identity", identity.id_digest, "one identity per boot"
        )
    role = member.own.topology.topology.roles.get(identity.role)
    if role is None:
        raise RemoteProtocolError.of(
            Reason.ROLE_UNKNOWN, "identity.role", identity.role, "a role of the topology"
        )
    cas = {p.identity.ca.ca_digest for p in member.peers.values()} | {member.own.identity.ca.ca_digest}
    if identity.ca.ca_digest in cas:
        raise RemoteProtocolError.of(
            Reason.DUPLICATE_MEMBER, "identity.ca_certificate", identity.ca.ca_digest, "a CA key of its own"
        )
    same_role = [p for p in member.peers.values() if p.identity.role == identity.role]
    if len(same_role) < role.max_replicas + MAX_CANDIDATES_PER_ROLE:
        return member
    # Whom our manifest lists stays while it does: its votes have to find it.
    kept = listed_iids(member.phase) | mesh_iids(member)
    unlisted = (p for p in same_role if p.identity.iid not in kept)
    most_silent = max(unlisted, key=lambda p: p.silent, default=None)
    if most_silent is None or most_silent.silent < _SILENT_TO_YIELD:
        raise RemoteProtocolError.of(
            Reason.RATE_LIMITED, "identity.role", f"{len(same_role)} candidates", "a place in the table"
        )
    return member.without_peer(most_silent.identity.iid)


def follow(member: Member, now: int) -> Member:
    """Take part in the highest attempt that a candidate is in, unless we have committed (S3). Who rests on an
    active manifest follows its members alone.

    At most MAX_EPOCH_STEP above our own latest HELLO: who is further ahead is reached in steps.
    """
    phase = member.phase
    if isinstance(phase, Active):
        if member.leaving and not is_needed(member, now):
            return member
        target = min(_listed_epoch(member, phase), reach(member))
        return replace(member, phase=Waiting(target, now)) if target > member.last_epoch else member
    if not isinstance(phase, (Waiting, Gathering, Proposed)):
        return member
    own = phase.epoch if isinstance(phase, Waiting) else phase.attempt.epoch
    target = min(highest_epoch(member), reach(member))
    if target > own or (target == own and isinstance(phase, Waiting)):
        return replace(member, phase=Waiting(target, now))
    return member


def highest_epoch(member: Member) -> int:
    """The highest target epoch of an admitted peer with our topology; 0 without any."""
    own = member.own.topology.topology.digest
    admitted = (p.hello for p in member.peers.values() if p.admitted is not None)
    return max((h.target_epoch for h in admitted if h.topology_digest == own), default=0)


def reach(member: Member) -> int:
    """The highest epoch that we may begin next: a certificate proves that all below have been."""
    proven = max((held.manifest.epoch for held in member.chain.values()), default=0)
    return max(member.last_epoch, proven) + MAX_EPOCH_STEP


def _listed_epoch(member: Member, phase: Active) -> int:
    own = member.own.topology.topology.digest
    listed = (member.peers[iid] for iid in phase.sealed.iids if iid in member.peers)
    hellos = (p.hello for p in listed if p.admitted is not None)
    return max((h.target_epoch for h in hellos if h.topology_digest == own), default=0)


def stale(field: str, found: object) -> RemoteProtocolError:
    return RemoteProtocolError.of(Reason.STALE_ATTEMPT, field, found, "the current attempt")


def unknown(field: str) -> RemoteProtocolError:
    return RemoteProtocolError.of(Reason.UNKNOWN_MEMBER, field, "a stranger", "an admitted instance")
