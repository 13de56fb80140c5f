"""Phase 1: INTRODUCTION and HELLO, and what each asks of us (PROTOCOL.md 4.1, 4.2). No IO."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

from toposeal._wire import evidence_pb2 as wire_evidence
from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import digest
from toposeal.errors import Mismatch, Reason, RemoteProtocolError, printable
from toposeal.evidence.auxiliary import aux_digest
from toposeal.limits import MAX_DECLINED
from toposeal.membership import fetching, heartbeats, outbox
from toposeal.membership.events import Alarm, Appraise, Appraised, Effect, Refused, Subject, Ticket
from toposeal.membership.fields import evidence_field, gpus_field
from toposeal.membership.hello import Hello, peek_id_digest, verify_hello
from toposeal.membership.identity import Identity, verify_identity
from toposeal.membership.liveness import attempt_open_to, ping_current
from toposeal.membership.manifest import Manifest
from toposeal.membership.peers import Step, follow, reach, stale, unknown, with_room
from toposeal.membership.sealed import AdmittedPeer, check_verified, join_of
from toposeal.membership.state import (
    Committed,
    Declined,
    Gathering,
    Member,
    Peer,
    Proposed,
    Sealed,
    Waiting,
    attempt_of,
    is_eligible,
    mesh_iids,
)


def on_introduction(member: Member, message: wire.Introduction, now: int) -> Step:
    """Authenticate an instance by signature; its JOIN evidence is appraised outside (P1, P3, P10)."""
    known = member.by_id_digest.get(digest("toposeal/v1/identity", message.identity))
    if known is not None:
        return _on_known(member, member.peers[known], message.hello, now)
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
    peer = Peer(signed, hello, gpus, evidence)
    return member.with_peer(peer), judge(member, signed.identity, evidence)


def judge(member: Member, identity: Identity, evidence: wire_evidence.Evidence | None) -> tuple[Effect, ...]:
    """JOIN evidence of a peer, or our own, by the present topology; a verdict by another counts no more."""
    if evidence is None:
        return ()
    ticket = Ticket(Subject.JOIN, identity.iid, identity.id_digest, member.topology.digest)
    return (Appraise(ticket, evidence, join_of(identity), member.topology),)


def on_admitted(member: Member, event: Appraised, now: int) -> Step:
    """JOIN evidence verified: the instance is what it says. Introduce ourselves, answer and ask."""
    peer = _judged(member, event.ticket)
    if peer is None or is_eligible(member, peer):
        return member, ()
    check_verified(event.verified, join_of(peer.identity))
    admitted = AdmittedPeer(peer.signed, event.verified, event.ticket.topology)
    if peer.admitted is not None:
        peer = replace(peer, admitted=admitted)
        member = member.with_peer(peer)
        # Who has not said since that it knows our topology sees it in our HELLO, and asks for it.
        current = peer.hello.topology_digest == member.topology.digest
        return _consider(member, peer, now) if current else (member, ())
    asked, data = peer.asked, outbox.introduction(member)
    peer = replace(peer, admitted=admitted, asked=None, greeted=data is not None)
    greeting = (outbox.send(peer, data),) if data else ()
    member, effects = _consider(member.with_peer(peer), peer, now)
    attempt = attempt_open_to(member, peer)
    answer = (outbox.pong(member, attempt, peer, asked),) if attempt and asked else ()
    member, beat = heartbeats.greet(member, member.peers[event.ticket.iid], now)
    return member, (*greeting, *answer, *beat, *effects)


def on_not_admitted(member: Member, event: Refused, now: int) -> Step:
    """JOIN evidence refused: forget the instance, so that strangers hold no memory. One that a certificate
    of ours lists is known for as long as it does, and chosen no more.
    """
    peer = _judged(member, event.ticket)
    if peer is None or is_eligible(member, peer):
        return member, ()
    member = _decline(member, Declined(peer.identity.role, event.mismatch, now))
    if peer.admitted is None or peer.identity.iid not in mesh_iids(member):
        return member.without_peer(event.ticket.iid), (Alarm(event.mismatch),)
    alarms = () if peer.refused == event.ticket.topology else (Alarm(event.mismatch),)
    return member.with_peer(replace(peer, refused=event.ticket.topology)), alarms


def _decline(member: Member, declined: Declined) -> Member:
    """Of each role and reason the last: whoever invents instances crowds out few of the others."""
    kind = (declined.role, declined.mismatch.reason)
    others = (d for d in member.declined if (d.role, d.mismatch.reason) != kind)
    return replace(member, declined=(*others, declined)[-MAX_DECLINED:])


def _judged(member: Member, ticket: Ticket) -> Peer | None:
    """Whom a verdict is about; None for one by a topology that is ours no more."""
    peer = member.peers.get(ticket.iid)
    if peer is None or (peer.identity.id_digest, member.topology.digest) != (ticket.digest, ticket.topology):
        return None
    return peer


def on_hello(member: Member, message: wire.Signed, now: int) -> Step:
    """A known instance begins another attempt."""
    iid = member.by_id_digest.get(peek_id_digest(message.body))
    if iid is None:
        raise unknown("hello.id_digest")
    return _on_hello(member, member.peers[iid], message, now)


def _on_known(member: Member, peer: Peer, message: wire.Signed, now: int) -> Step:
    """Its HELLO, and another look at evidence that our topology refused: collateral may have come since."""
    refused = peer.refused == member.topology.digest and not is_eligible(member, peer)
    again = judge(member, peer.identity, peer.join) if refused else ()
    member, effects = _on_hello(member, peer, message, now)
    return member, (*again, *effects)


def _on_hello(member: Member, peer: Peer, message: wire.Signed, now: int) -> Step:
    if message.body == peer.hello.body:  # said again, perhaps since an answer was lost
        return _on_other_topology(member, peer, now) if peer.admitted else (member, ())
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
    member = _abandon(member, peer, now)
    if peer.hello.topology_digest != member.topology.digest:
        return _on_other_topology(member, peer, now)
    member = follow(_hurry(member, peer, now), now)
    alarms = tuple(Alarm(m) for m in (*_same_nonce(member, peer), *_shared(member, peer)))
    member, wanted = fetching.want(member, peer, peer.hello.previous, now, held=False)
    if isinstance(member.phase, (Gathering, Proposed)):
        member, effects = ping_current(member, member.phase.attempt, peer)
        return member, alarms + wanted + effects
    return member, alarms + wanted


def _on_other_topology(member: Member, peer: Peer, now: int) -> Step:
    """Ask for a newer topology, and show ours to who has another that is not; once in `ping_ms`."""
    theirs, ours = peer.hello, member.topology
    if theirs.topology_digest == ours.digest:
        return member, ()
    if theirs.topology_version > ours.version:
        return fetching.want_topology(member, peer, now)
    if peer.shown_at is not None and now - peer.shown_at < ours.timers.ping_ms:
        return member, ()
    shown = outbox.topology(member, peer)
    hopeless = theirs.topology_version == ours.version or not shown
    alarms = (Alarm(_other_topology(peer)),) if peer.shown_at is None and hopeless else ()
    return member.with_peer(replace(peer, shown_at=now)), (*shown, *alarms)


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
    attempt, nonce = attempt_of(member.phase), peer.hello.nonce
    others = (p for iid, p in member.peers.items() if p.admitted and iid != peer.identity.iid)
    ours = attempt is not None and attempt.hello.nonce == nonce
    if not ours and all(p.hello.nonce != nonce for p in others):
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
    mine = peer.admitted.join.held if peer.admitted else frozenset()
    if mine.isdisjoint(chain.from_iterable(other.held for other in others)):
        return []
    field, expected = f"join of {peer.identity.role}", "a confidential VM and devices of its own"
    found = "the guest or a GPU of a second pod, or of an earlier boot, perhaps replayed"
    return [Mismatch(Reason.SHARED_CVM, field, found, expected)]


def _other_topology(peer: Peer) -> Mismatch:
    return Mismatch(
        Reason.TOPOLOGY_MISMATCH,
        f"hello.topology_digest of {peer.identity.role}",
        printable(peer.hello.topology_digest),
        "the digest of our topology",
    )
