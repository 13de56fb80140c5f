"""Phase 1, exchange: who is an admitted, current, live candidate (PROTOCOL.md 4.1 to 4.3). No IO."""

from __future__ import annotations

from dataclasses import replace

from toposeal._wire import peer_pb2 as wire
from toposeal.errors import Mismatch, Reason, RemoteProtocolError, printable
from toposeal.limits import MAX_CANDIDATES_PER_ROLE, MAX_EPOCH_STEP
from toposeal.membership import outbox
from toposeal.membership.events import Alarm, Appraise, Appraised, Effect, Refused, Subject, Ticket
from toposeal.membership.hello import Hello, peek_id_digest, verify_hello
from toposeal.membership.identity import Identity, verify_identity
from toposeal.membership.sealed import AdmittedPeer, join_of
from toposeal.membership.signing import Tag, verify_ik
from toposeal.membership.state import (
    Gathering,
    Member,
    Peer,
    Proposed,
    Waiting,
    attempt_of,
)
from toposeal.membership.votes import parse_liveness
from toposeal.topology.accept import accept
from toposeal.verification.model import VerifiedEvidence

Step = tuple[Member, tuple[Effect, ...]]


def on_introduction(member: Member, message: wire.Introduction, now: int) -> Step:
    """Authenticate an instance by signature; its JOIN evidence is appraised outside (P1, P3, P10)."""
    own = member.own
    signed = verify_identity(
        message.identity,
        message.ik_signature,
        message.ca_signature,
        own.identity.mesh_id,
        own.topology.topology.mesh,
    )
    known = member.peers.get(signed.identity.iid)
    if known is not None:
        if known.identity.body != signed.identity.body:
            raise _identity_mismatch(signed.identity)
        return _on_hello(member, known, message.hello, now)
    _check_new(member, signed.identity)
    hello = verify_hello(message.hello.body, message.hello.signature, signed.identity)
    ticket = Ticket(Subject.JOIN, signed.identity.iid, signed.identity.id_digest)
    appraise = Appraise(ticket, message.join, join_of(signed.identity))
    return member.with_peer(Peer(signed, hello)), (appraise,)


def on_admitted(member: Member, event: Appraised, now: int) -> Step:
    """JOIN evidence verified: the instance is what it says. Introduce ourselves and ask for life."""
    peer = member.peers.get(event.ticket.iid)
    if peer is None or peer.identity.id_digest != event.ticket.digest or peer.admitted:
        return member, ()
    _check_join(peer.identity, event.verified)
    member = member.with_peer(replace(peer, admitted=AdmittedPeer(peer.signed, event.verified)))
    data = outbox.introduction(member)
    greeting = (outbox.send(peer, data),) if data else ()
    member, effects = _consider(member, member.peers[event.ticket.iid], now)
    return member, (*greeting, *effects)


def on_not_admitted(member: Member, event: Refused) -> Step:
    """JOIN evidence refused: forget the instance, so that strangers hold no memory."""
    peer = member.peers.get(event.ticket.iid)
    if peer is None or peer.identity.id_digest != event.ticket.digest or peer.admitted:
        return member, ()
    return member.without_peer(event.ticket.iid), (Alarm(event.mismatch),)


def on_hello(member: Member, message: wire.Signed, now: int) -> Step:
    """A known instance begins another attempt."""
    iid = member.by_id_digest.get(peek_id_digest(message.body))
    if iid is None:
        raise _unknown("hello.id_digest")
    return _on_hello(member, member.peers[iid], message, now)


def on_ping(member: Member, message: wire.Signed) -> Step:
    """Answer while an attempt is open; afterwards silence, so that nobody counts on us."""
    ping = parse_liveness(message, "ping")
    peer = peer_of(member, ping.sender, "ping.sender")
    _check_receiver(member, ping.receiver, "ping.receiver")
    verify_ik(peer.identity.ik, Tag.PING, message.body, message.signature)
    if not isinstance(member.phase, (Gathering, Proposed)):
        return member, ()
    return member, (outbox.pong(member, member.phase.attempt, peer, ping.nonce),)


def on_pong(member: Member, message: wire.Signed, now: int) -> Step:
    """Proof of life in this attempt; the answer to one of the last two pings counts."""
    pong = parse_liveness(message, "pong")
    peer = peer_of(member, pong.sender, "pong.sender")
    _check_receiver(member, pong.receiver, "pong.receiver")
    verify_ik(peer.identity.ik, Tag.PONG, message.body, message.signature)
    attempt = attempt_of(member.phase)
    if attempt is None or pong.target_epoch != attempt.epoch:
        raise stale("pong.target_epoch", pong.target_epoch)
    recent = [outbox.ping_nonce(attempt, peer, n) for n in (peer.pings, peer.pings - 1) if n > 0]
    if pong.nonce not in recent:
        raise stale("pong.nonce", pong.nonce)
    return member.with_peer(replace(peer, pong_at=now, silent=0)), ()


def on_topology(member: Member, envelope: bytes) -> Step:
    """A peer shows another signed topology: a newer one or an equivocation stops commitments (T4, T5).

    A version counts only after the owner's threshold is verified; anything else is a TopologyError.
    """
    own = member.own.topology.topology
    seen = accept(envelope, member.own.owner, own.mesh, 1).topology
    if seen.version == own.version and seen.digest != own.digest:
        mismatch = Mismatch(
            Reason.TOPOLOGY_EQUIVOCATION, "topology.version", str(seen.version), "one content per version"
        )
    elif seen.version > own.version:
        mismatch = Mismatch(Reason.TOPOLOGY_ROLLBACK, "topology.version", str(own.version), str(seen.version))
    else:
        return member, ()
    version = max(member.highest_version, seen.version)
    return replace(member, highest_version=version, blocked=member.blocked or mismatch), (Alarm(mismatch),)


def peer_of(member: Member, iid: bytes, field: str) -> Peer:
    """The known peer `iid`; raises RemoteProtocolError for ourselves (P7) and for strangers."""
    if iid == member.own.iid:
        raise RemoteProtocolError.of(Reason.REFLECTED, field, "our own iid", "a peer's")
    peer = member.peers.get(iid)
    if peer is None:
        raise _unknown(field)
    return peer


def proven_epoch(member: Member) -> int:
    """The highest epoch that our own attempts prove."""
    attempt = attempt_of(member.phase)
    waiting = member.phase.epoch - 1 if isinstance(member.phase, Waiting) else 0
    return max(member.last_commitment, attempt.epoch if attempt else 0, waiting)


def stale(field: str, found: object) -> RemoteProtocolError:
    return RemoteProtocolError.of(Reason.STALE_ATTEMPT, field, found, "the current attempt")


def _on_hello(member: Member, peer: Peer, message: wire.Signed, now: int) -> Step:
    if message.body == peer.hello.body:
        return member, ()
    hello = verify_hello(message.body, message.signature, peer.identity)
    if hello.target_epoch <= peer.hello.target_epoch:
        raise stale("hello.target_epoch", hello.target_epoch)
    peer = replace(peer, hello=hello, pong_at=None, silent=0, proposal=None, commit=None)
    return _consider(member.with_peer(peer), peer, now)


def _consider(member: Member, peer: Peer, now: int) -> Step:
    """What an admitted peer's HELLO asks of us: follow its epoch, show our topology, or ping it."""
    if peer.admitted is None:
        return member, ()
    own, hello = member.own.topology.topology, peer.hello
    if hello.topology_digest != own.digest:
        return member, (outbox.topology(member, peer), Alarm(_other_topology(peer, hello)))
    member = _follow(replace(member, highest_seen=max(member.highest_seen, hello.target_epoch)), hello, now)
    if isinstance(member.phase, (Gathering, Proposed)) and hello.target_epoch == member.phase.attempt.epoch:
        return outbox.ping(member, member.phase.attempt, peer)
    return member, ()


def _follow(member: Member, hello: Hello, now: int) -> Member:
    """Take part in a higher attempt at once, unless we have committed in ours (S3); bounded in height."""
    phase = member.phase
    if not isinstance(phase, (Waiting, Gathering, Proposed)):
        return member
    own = phase.epoch if isinstance(phase, Waiting) else phase.attempt.epoch
    target = min(hello.target_epoch, proven_epoch(member) + MAX_EPOCH_STEP)
    if target > own or (target == own and isinstance(phase, Waiting)):
        return replace(member, phase=Waiting(target, now))
    return member


def _check_new(member: Member, identity: Identity) -> None:
    if identity.iid == member.own.iid:
        raise RemoteProtocolError.of(Reason.REFLECTED, "identity.iid", "our own", "a peer's")
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
    same_role = sum(p.identity.role == identity.role for p in member.peers.values())
    if same_role >= role.max_replicas + MAX_CANDIDATES_PER_ROLE:
        raise RemoteProtocolError.of(
            Reason.RATE_LIMITED, "identity.role", f"{same_role} candidates", "a place in the table"
        )


def _check_join(identity: Identity, verified: VerifiedEvidence) -> None:
    if verified.binding != join_of(identity):
        raise RemoteProtocolError.of(
            Reason.REPORT_DATA, "introduction.join", verified.binding.purpose.name, "JOIN of this identity"
        )


def _check_receiver(member: Member, receiver: bytes, field: str) -> None:
    if receiver != member.own.iid:
        raise RemoteProtocolError.of(Reason.IDENTITY_MISMATCH, field, receiver, member.own.iid.hex())


def _other_topology(peer: Peer, hello: Hello) -> Mismatch:
    return Mismatch(
        Reason.TOPOLOGY_MISMATCH,
        f"hello.topology_digest of {peer.identity.role}",
        printable(hello.topology_digest),
        "the digest of our topology",
    )


def _identity_mismatch(identity: Identity) -> RemoteProtocolError:
    return RemoteProtocolError.of(
        Reason.IDENTITY_MISMATCH, "introduction.identity", identity.id_digest, "one identity per boot"
    )


def _unknown(field: str) -> RemoteProtocolError:
    return RemoteProtocolError.of(Reason.UNKNOWN_MEMBER, field, "a stranger", "an introduced instance")
