"""Phase 1, exchange: who is an admitted, current, live candidate (PROTOCOL.md 4.1 to 4.3, 4.7). No IO."""

from __future__ import annotations

from dataclasses import replace

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import digest
from toposeal.errors import Mismatch, Reason, RemoteProtocolError, TopologyError, printable
from toposeal.limits import MAX_CANDIDATES_PER_ROLE, MAX_EPOCH_STEP, MAX_VERSION_STEP
from toposeal.membership import outbox
from toposeal.membership.candidates import is_candidate
from toposeal.membership.events import Alarm, Appraise, Appraised, Effect, Refused, Subject, Ticket
from toposeal.membership.fields import evidence_field
from toposeal.membership.hello import Hello, peek_id_digest, verify_hello
from toposeal.membership.identity import Identity, verify_identity
from toposeal.membership.manifest import Manifest
from toposeal.membership.sealed import AdmittedPeer, check_verified, join_of
from toposeal.membership.signing import Tag, verify_ik
from toposeal.membership.state import (
    Attempt,
    Committed,
    Gathering,
    Member,
    Peer,
    Proposed,
    Sealed,
    Waiting,
    attempt_of,
)
from toposeal.membership.votes import parse_liveness
from toposeal.topology.accept import accept

Step = tuple[Member, tuple[Effect, ...]]

_EAGER_PINGS = 2  # in one attempt, the second as soon as the peer shows life: a lost one costs no time
_SILENT_TO_YIELD = 2  # pings without an answer after which an instance gives way to a new one (P12)


def on_introduction(member: Member, message: wire.Introduction, now: int) -> Step:
    """Authenticate an instance by signature; its JOIN evidence is appraised outside (P1, P3, P10)."""
    known = member.by_id_digest.get(digest("toposeal/v1/identity", message.identity))
    if known is not None:
        return _on_hello(member, member.peers[known], message.hello, now)
    own = member.own
    signed = verify_identity(
        message.identity,
        message.ik_signature,
        message.ca_signature,
        own.identity.mesh_id,
        own.topology.topology.mesh,
    )
    member = _with_room(member, signed.identity)
    hello = verify_hello(message.hello.body, message.hello.signature, signed.identity)
    ticket = Ticket(Subject.JOIN, signed.identity.iid, signed.identity.id_digest)
    evidence = evidence_field(message.join, "introduction.join")
    return member.with_peer(Peer(signed, hello)), (Appraise(ticket, evidence, join_of(signed.identity)),)


def on_admitted(member: Member, event: Appraised, now: int) -> Step:
    """JOIN evidence verified: the instance is what it says. Introduce ourselves, answer and ask."""
    peer = member.peers.get(event.ticket.iid)
    if peer is None or peer.identity.id_digest != event.ticket.digest or peer.admitted:
        return member, ()
    check_verified(event.verified, join_of(peer.identity))
    asked, data = peer.asked, outbox.introduction(member)
    admitted = AdmittedPeer(peer.signed, event.verified)
    peer = replace(peer, admitted=admitted, asked=None, greeted=data is not None)
    greeting = (outbox.send(peer, data),) if data else ()
    member, effects = _consider(member.with_peer(peer), peer, now)
    attempt = _attempt_open_to(member, peer)
    answer = (outbox.pong(member, attempt, peer, asked),) if attempt and asked else ()
    return member, (*greeting, *answer, *effects)


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
    """Answer whoever may count on us; to a stranger's addresses nothing is ever sent (P5)."""
    ping = parse_liveness(message, "ping")
    peer = _known_peer(member, ping.sender, "ping.sender")
    _check_receiver(member, ping.receiver, "ping.receiver")
    verify_ik(peer.identity.ik, Tag.PING, message.body, message.signature)
    if peer.admitted is None:
        return member.with_peer(replace(peer, asked=ping.nonce)), ()
    return _answer(member, peer, ping.nonce)


def on_pong(member: Member, message: wire.Signed, now: int) -> tuple[Member, bool]:
    """Proof of life in this attempt; the answer to one of the last pings counts.

    Also whether that made the peer a candidate: only then is there anything to decide anew.
    """
    pong = parse_liveness(message, "pong")
    peer = admitted_peer(member, pong.sender, "pong.sender")
    _check_receiver(member, pong.receiver, "pong.receiver")
    verify_ik(peer.identity.ik, Tag.PONG, message.body, message.signature)
    attempt = attempt_of(member.phase)
    if attempt is None or pong.target_epoch != attempt.epoch:
        raise stale("pong.target_epoch", pong.target_epoch)
    recent = range(max(1, peer.pings - _EAGER_PINGS), peer.pings + 1)
    if all(pong.nonce != outbox.ping_nonce(attempt, peer, n) for n in recent):
        raise stale("pong.nonce", pong.nonce)
    known = is_candidate(member, attempt, peer, now)
    return member.with_peer(replace(peer, pong_at=now, silent=0)), not known


def on_topology(member: Member, envelope: bytes) -> Step:
    """A peer shows another signed topology: a newer one or an equivocation stops commitments (T4, T5).

    A version counts only after the owner's threshold is verified; anything else is a TopologyError.
    """
    own = member.own.topology.topology
    seen = accept(envelope, member.own.owner, own.mesh, 1).topology
    if seen.version - own.version > MAX_VERSION_STEP:
        expected = f"at most {own.version + MAX_VERSION_STEP}"
        raise TopologyError.of(Reason.TOPOLOGY_FAST_FORWARD, "topology.version", seen.version, expected)
    if seen.version == own.version and seen.digest != own.digest:
        mismatch = Mismatch(
            Reason.TOPOLOGY_EQUIVOCATION, "topology.version", str(seen.version), "one content per version"
        )
    elif seen.version > own.version:
        mismatch = Mismatch(Reason.TOPOLOGY_ROLLBACK, "topology.version", str(own.version), str(seen.version))
    else:
        return member, ()
    if mismatch == member.blocked:
        return member, ()
    version = max(member.highest_version, seen.version)
    return replace(member, highest_version=version, blocked=member.blocked or mismatch), (Alarm(mismatch),)


def admitted_peer(member: Member, iid: bytes, field: str) -> Peer:
    """The admitted peer `iid`; raises RemoteProtocolError for ourselves (P7) and for strangers."""
    peer = _known_peer(member, iid, field)
    if peer.admitted is None:
        raise _unknown(field)
    return peer


def follow(member: Member, now: int) -> Member:
    """Take part in the highest attempt that a candidate is in, unless we have committed (S3).

    At most MAX_EPOCH_STEP above our own latest HELLO: who is further ahead is reached in steps.
    """
    phase = member.phase
    if not isinstance(phase, (Waiting, Gathering, Proposed)):
        return member
    own = phase.epoch if isinstance(phase, Waiting) else phase.attempt.epoch
    target = min(highest_epoch(member), member.last_epoch + MAX_EPOCH_STEP)
    if target > own or (target == own and isinstance(phase, Waiting)):
        return replace(member, phase=Waiting(target, now))
    return member


def highest_epoch(member: Member) -> int:
    """The highest target epoch of an admitted peer with our topology; 0 without any."""
    own = member.own.topology.topology.digest
    admitted = (p.hello for p in member.peers.values() if p.admitted is not None)
    return max((h.target_epoch for h in admitted if h.topology_digest == own), default=0)


def stale(field: str, found: object) -> RemoteProtocolError:
    return RemoteProtocolError.of(Reason.STALE_ATTEMPT, field, found, "the current attempt")


def _on_hello(member: Member, peer: Peer, message: wire.Signed, now: int) -> Step:
    if message.body == peer.hello.body:
        return member, ()
    hello = verify_hello(message.body, message.signature, peer.identity)
    if hello.target_epoch <= peer.hello.target_epoch:
        raise stale("hello.target_epoch", hello.target_epoch)
    peer = replace(peer, hello=hello, pong_at=None, silent=0, proposed=None, commit=None)
    return _consider(member.with_peer(peer), peer, now)


def _consider(member: Member, peer: Peer, now: int) -> Step:
    """What an admitted peer's HELLO asks of us: follow its epoch, show our topology, or ping it."""
    if peer.admitted is None:
        return member, ()
    if peer.hello.topology_digest != member.own.topology.topology.digest:
        return member, (*outbox.topology(member, peer), Alarm(_other_topology(peer, peer.hello)))
    member = follow(_abandon(member, peer, now), now)
    alarms = tuple(Alarm(m) for m in _same_nonce(member, peer))
    if isinstance(member.phase, (Gathering, Proposed)):
        member, effects = _ping_current(member, member.phase.attempt, peer)
        return member, alarms + effects
    return member, alarms


def _abandon(member: Member, peer: Peer, now: int) -> Member:
    """A listed member that begins a higher attempt will never seal ours: do not wait for it."""
    phase, target = member.phase, peer.hello.target_epoch
    if isinstance(phase, Committed) and _outgrown(phase.manifest, peer):
        return replace(member, phase=Waiting(min(target, member.last_epoch + MAX_EPOCH_STEP), now))
    if isinstance(phase, Sealed) and _outgrown(phase.sealed.manifest, peer):
        return replace(member, phase=replace(phase, deadline=now))
    return member


def _outgrown(manifest: Manifest, peer: Peer) -> bool:
    listed = manifest.entry(peer.identity.iid) is not None
    return listed and peer.hello.target_epoch > manifest.epoch


def _answer(member: Member, peer: Peer, nonce: bytes) -> Step:
    """PONG while `peer` may count on us, otherwise silence; and a PING if we know less than it does."""
    attempt = _attempt_open_to(member, peer)
    if attempt is None:
        return member, ()
    answer = outbox.pong(member, attempt, peer, nonce)
    if peer.pong_at is not None or peer.pings >= _EAGER_PINGS or isinstance(member.phase, Committed):
        return member, (answer,)
    member, effects = _ping_current(member, attempt, peer)
    return member, (answer, *effects)


def _attempt_open_to(member: Member, peer: Peer) -> Attempt | None:
    """After a commitment only its own members may still count on us."""
    phase = member.phase
    if isinstance(phase, Committed):
        return phase.attempt if phase.manifest.entry(peer.identity.iid) else None
    return phase.attempt if isinstance(phase, (Gathering, Proposed)) and member.blocked is None else None


def _ping_current(member: Member, attempt: Attempt, peer: Peer) -> Step:
    return outbox.ping(member, attempt, peer) if peer.hello.target_epoch == attempt.epoch else (member, ())


def _with_room(member: Member, identity: Identity) -> Member:
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
    most_silent = max(same_role, key=lambda p: p.silent)
    if most_silent.silent < _SILENT_TO_YIELD:
        raise RemoteProtocolError.of(
            Reason.RATE_LIMITED, "identity.role", f"{len(same_role)} candidates", "a place in the table"
        )
    return member.without_peer(most_silent.identity.iid)


def _known_peer(member: Member, iid: bytes, field: str) -> Peer:
    if iid == member.own.iid:
        raise RemoteProtocolError.of(Reason.REFLECTED, field, "our own iid", "a peer's")
    peer = member.peers.get(iid)
    if peer is None:
        raise _unknown(field)
    return peer


def _check_receiver(member: Member, receiver: bytes, field: str) -> None:
    if receiver != member.own.iid:
        raise RemoteProtocolError.of(Reason.IDENTITY_MISMATCH, field, receiver, member.own.iid.hex())


def _same_nonce(member: Member, peer: Peer) -> list[Mismatch]:
    """Who else shows the nonce of `peer`: an entropy source that failed (K7)."""
    attempt = attempt_of(member.phase)
    others = [p.hello for p in member.peers.values() if p.admitted and p.identity.iid != peer.identity.iid]
    hellos = [*others, attempt.hello] if attempt else others
    if all(h.nonce != peer.hello.nonce for h in hellos):
        return []
    return [
        Mismatch(Reason.ENTROPY, f"hello.nonce of {peer.identity.role}", "a nonce twice", "a fresh nonce")
    ]


def _other_topology(peer: Peer, hello: Hello) -> Mismatch:
    return Mismatch(
        Reason.TOPOLOGY_MISMATCH,
        f"hello.topology_digest of {peer.identity.role}",
        printable(hello.topology_digest),
        "the digest of our topology",
    )


def _unknown(field: str) -> RemoteProtocolError:
    return RemoteProtocolError.of(Reason.UNKNOWN_MEMBER, field, "a stranger", "an admitted instance")
