"""Phase 1: INTRODUCTION, HELLO, TOPOLOGY, and what each asks of us (PROTOCOL.md 4.1, 4.2, 4.7). No IO."""

from __future__ import annotations

from dataclasses import replace

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import digest
from toposeal.errors import Mismatch, Reason, RemoteProtocolError, TopologyError, printable
from toposeal.evidence.auxiliary import aux_digest
from toposeal.limits import MAX_VERSION_STEP
from toposeal.membership import fetching, heartbeats, outbox
from toposeal.membership.candidates import held
from toposeal.membership.events import Alarm, Appraise, Appraised, Refused, Subject, Ticket
from toposeal.membership.fields import evidence_field, gpus_field
from toposeal.membership.hello import Hello, peek_id_digest, verify_hello
from toposeal.membership.identity import verify_identity
from toposeal.membership.liveness import attempt_open_to, ping_current
from toposeal.membership.manifest import Manifest
from toposeal.membership.peers import Step, follow, reach, stale, unknown, with_room
from toposeal.membership.sealed import AdmittedPeer, check_verified, join_of
from toposeal.membership.state import (
    Committed,
    Gathering,
    Member,
    Peer,
    Proposed,
    Sealed,
    Waiting,
    attempt_of,
)
from toposeal.topology.accept import accept


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
    member = with_room(member, signed.identity)
    hello = verify_hello(message.hello.body, message.hello.signature, signed.identity)
    evidence = evidence_field(message.join, "introduction.join")
    gpus = gpus_field(evidence, "introduction.join")
    _expect_aux(hello, aux_digest(gpus))
    ticket = Ticket(Subject.JOIN, signed.identity.iid, signed.identity.id_digest)
    peer = Peer(signed, hello, gpus)
    return member.with_peer(peer), (Appraise(ticket, evidence, join_of(signed.identity)),)


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
    attempt = attempt_open_to(member, peer)
    answer = (outbox.pong(member, attempt, peer, asked),) if attempt and asked else ()
    member, beat = heartbeats.greet(member, member.peers[event.ticket.iid], now)
    return member, (*greeting, *answer, *beat, *effects)


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
        raise unknown("hello.id_digest")
    return _on_hello(member, member.peers[iid], message, now)


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


def _on_hello(member: Member, peer: Peer, message: wire.Signed, now: int) -> Step:
    if message.body == peer.hello.body:
        return member, ()
    hello = verify_hello(message.body, message.signature, peer.identity)
    _expect_aux(hello, peer.hello.aux_digest)
    if hello.target_epoch <= peer.hello.target_epoch:
        raise stale("hello.target_epoch", hello.target_epoch)
    peer = replace(peer, hello=hello, pong_at=None, silent=0, proposed=None, commit=None)
    return _consider(member.with_peer(peer), peer, now)


def _expect_aux(hello: Hello, expected: bytes) -> None:
    """The auxiliary evidence is that of JOIN, for the whole boot."""
    if hello.aux_digest != expected:
        raise RemoteProtocolError.of(
            Reason.IDENTITY_MISMATCH, "hello.aux_digest", hello.aux_digest, expected.hex()
        )


def _consider(member: Member, peer: Peer, now: int) -> Step:
    """What an admitted peer's HELLO asks of us: follow its epoch, show our topology, or ping it."""
    if peer.admitted is None:
        return member, ()
    if peer.hello.topology_digest != member.own.topology.topology.digest:
        return member, (*outbox.topology(member, peer), Alarm(_other_topology(peer, peer.hello)))
    member = follow(_hurry(_abandon(member, peer, now), peer, now), now)
    alarms = tuple(Alarm(m) for m in (*_same_nonce(member, peer), *_shared(member, peer)))
    member, wanted = fetching.want(member, peer, peer.hello.previous, now)
    if isinstance(member.phase, (Gathering, Proposed)):
        member, effects = ping_current(member, member.phase.attempt, peer)
        return member, alarms + wanted + effects
    return member, alarms + wanted


def _hurry(member: Member, peer: Peer, now: int) -> Member:
    """A round that we would take part in has begun: our own next attempt is above it, and waits no longer."""
    phase = member.phase
    if not isinstance(phase, Waiting) or peer.hello.previous not in member.chain:
        return member
    return replace(member, phase=replace(phase, until=min(phase.until, now)))


def _abandon(member: Member, peer: Peer, now: int) -> Member:
    """A listed member that begins a higher attempt will never seal ours: do not wait for it."""
    phase, target = member.phase, peer.hello.target_epoch
    if isinstance(phase, Committed) and _has_left(phase.manifest, peer):
        return replace(member, phase=Waiting(min(target, reach(member)), now))
    if isinstance(phase, Sealed) and _has_left(phase.sealed.manifest, peer):
        return replace(member, phase=replace(phase, deadline=now))
    return member


def _has_left(manifest: Manifest, peer: Peer) -> bool:
    """Listed, but with a HELLO that it has replaced: target epochs of HELLOs rise strictly."""
    entry = manifest.entry(peer.identity.iid)
    return entry is not None and entry.hello_digest != peer.hello.hello_digest


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


def _shared(member: Member, peer: Peer) -> list[Mismatch]:
    """Whether `peer` has its guest or a GPU together with somebody: two that live are no candidates. A dead
    boot, which anybody may replay, costs the living nothing; which of the two it is evidence does not say.
    """
    joins = [p.admitted.join for p in member.peers.values() if p.admitted and p is not peer]
    others = [*joins, member.admitted] if member.admitted else joins
    mine = held(peer.admitted.join) if peer.admitted else frozenset()
    if not any(mine & held(other) for other in others):
        return []
    field, expected = f"join of {peer.identity.role}", "a confidential VM and devices of its own"
    found = "the guest or a GPU of a second pod, or of an earlier boot, perhaps replayed"
    return [Mismatch(Reason.SHARED_CVM, field, found, expected)]


def _other_topology(peer: Peer, hello: Hello) -> Mismatch:
    return Mismatch(
        Reason.TOPOLOGY_MISMATCH,
        f"hello.topology_digest of {peer.identity.role}",
        printable(hello.topology_digest),
        "the digest of our topology",
    )
