"""What the passing of time does: begin, repeat, give up (PROTOCOL.md 6.3). No IO, no clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from toposeal.errors import Mismatch, Reason
from toposeal.evidence.auxiliary import aux_digest
from toposeal.limits import MAX_EPOCH_STEP
from toposeal.membership import outbox
from toposeal.membership.events import Effect, Fence, Timer
from toposeal.membership.hello import make_hello
from toposeal.membership.peers import Step, follow, highest_epoch
from toposeal.membership.rounds import evaluate, fence
from toposeal.membership.state import (
    Attempt,
    Committed,
    Gathering,
    Member,
    Peer,
    Proposed,
    Sealed,
    Waiting,
)

ENTROPY_SIZE = 64
_BACKOFF_FIRST_MS = 2_000
_BACKOFF_LAST_MS = 120_000
_SILENT_LIMIT = 15  # pings in a row without an answer: the instance is forgotten (P12)


def deadline(member: Member) -> int | None:
    """When the machine wants its next `Timer`, in ms; None while only others can move it."""
    phase = member.phase
    if isinstance(phase, Waiting):
        return phase.until
    if isinstance(phase, Gathering):
        view = member.own.topology.topology.timers.view_ms
        return min(member.resend_at, phase.since + view) if phase.selection else member.resend_at
    if isinstance(phase, (Proposed, Committed, Sealed)):
        return min(member.resend_at, phase.deadline)
    return None


def on_timer(member: Member, event: Timer, now: int) -> Step:
    """The deadline has passed."""
    if len(event.entropy) != ENTROPY_SIZE or len(set(event.entropy)) < 8:
        mismatch = Mismatch(Reason.ENTROPY, "timer.entropy", "not random", f"{ENTROPY_SIZE} random bytes")
        return fence(member, Fence(mismatch))
    phase = member.phase
    if isinstance(phase, Waiting):
        return _begin(member, phase, event.entropy, now) if now >= phase.until else (member, ())
    if isinstance(phase, Sealed) and now >= phase.deadline:
        mismatch = Mismatch(
            Reason.NOT_ACTIVE, "sealed", "no SEALED of every member in time", "SEALED of all members"
        )
        return fence(member, Fence(mismatch))
    if isinstance(phase, (Proposed, Committed)) and now >= phase.deadline:
        return _give_up(member, event.entropy, now)
    if now < member.resend_at:
        return evaluate(member, now)
    # Not at the beginning of an attempt: one step in ping_ms, however far ahead somebody is.
    ahead = follow(member, now)
    return (ahead, ()) if ahead is not member else _repeat(member, now)


def _begin(member: Member, phase: Waiting, entropy: bytes, now: int) -> Step:
    """A new attempt: a fresh nonce, HELLO to every admitted peer, the Introduction to every address."""
    own = member.own
    hello = make_hello(
        own.keys,
        own.identity,
        own.topology.topology,
        phase.epoch,
        entropy[:32],
        own.addresses,
        aux_digest(member.gpus),
    )
    attempt = Attempt(hello, entropy[32:])
    member = replace(member, phase=Gathering(attempt), last_epoch=phase.epoch)
    hellos = tuple(_tell(member, attempt, peer) for peer in member.peers.values() if peer.admitted)
    member = replace(member, peers={iid: _reset(peer) for iid, peer in member.peers.items()})
    member, effects = _repeat(member, now)
    return member, (*hellos, *effects)


def _tell(member: Member, attempt: Attempt, peer: Peer) -> Effect:
    greeting = None if peer.greeted else outbox.introduction(member)
    return outbox.send(peer, greeting or outbox.hello(attempt))


def _repeat(member: Member, now: int) -> Step:
    """Say again what may have been lost, and ask every current peer for life."""
    member = replace(member, resend_at=now + member.own.topology.topology.timers.ping_ms)
    phase = member.phase
    if isinstance(phase, (Committed, Sealed)):
        return member, tuple(_repeat_votes(member, phase))
    if not isinstance(phase, (Gathering, Proposed)):
        return member, ()
    effects: tuple[Effect, ...] = outbox.announce(member)
    for peer in list(member.peers.values()):
        member, more = _ping_or_forget(member, phase.attempt, peer)
        effects += more
    if isinstance(phase, Proposed):
        effects += outbox.propose(member, phase.manifest)
    member, more = evaluate(member, now)
    return member, effects + more


def _repeat_votes(member: Member, phase: Committed | Sealed) -> Iterable[Effect]:
    """To whom our votes may be lacking, or whose votes we lack: they answer with theirs."""
    manifest = phase.manifest if isinstance(phase, Committed) else phase.sealed.manifest
    others = [member.peers[e.iid] for e in manifest.members if e.iid in member.peers]
    verified = phase.members if isinstance(phase, Committed) else phase.sealed.iids
    lacking = [p for p in others if p.sealed != manifest.digest or p.identity.iid not in verified]
    if isinstance(phase, Committed):
        undecided = [p.identity.iid for p in lacking if p.commit is None]
        yield from outbox.to_peers(member, undecided, outbox.proposal(member, manifest))
    for data in outbox.votes(member, phase):
        yield from outbox.to_peers(member, [p.identity.iid for p in lacking], data)


def _ping_or_forget(member: Member, attempt: Attempt, peer: Peer) -> Step:
    if peer.silent >= _SILENT_LIMIT:
        return member.without_peer(peer.identity.iid), ()
    unanswered = peer.silent > 0
    peer = replace(peer, silent=peer.silent + 1)
    member = member.with_peer(peer)
    if peer.admitted is None or peer.hello.topology_digest != member.own.topology.topology.digest:
        return member, ()
    # Who does not answer may not know us, or not our present HELLO.
    data = outbox.introduction(member) if unanswered else None
    effects: tuple[Effect, ...] = (outbox.send(peer, data),) if data else ()
    if peer.hello.target_epoch == attempt.epoch:
        member, ping = outbox.ping(member, attempt, peer)
        effects += ping
    return member, effects


def _give_up(member: Member, entropy: bytes, now: int) -> Step:
    """The attempt failed: join the others in theirs, or after a back-off begin the next one.

    To overtake an attempt that others are in would make that one fail too.
    """
    failures = member.failures + 1
    target = min(highest_epoch(member), member.last_epoch + MAX_EPOCH_STEP)
    if target > member.last_epoch:
        return replace(member, phase=Waiting(target, now), failures=failures), ()
    delay = min(_BACKOFF_FIRST_MS << min(failures - 1, 16), _BACKOFF_LAST_MS)
    jitter = delay * int.from_bytes(entropy[:2], "big") // (1 << 17)  # less than half of the delay
    until = now + delay // 2 + jitter
    return replace(member, phase=Waiting(member.last_epoch + 1, until), failures=failures), ()


def _reset(peer: Peer) -> Peer:
    """What an attempt leaves behind; votes of the last one mean nothing in this one."""
    greeted = peer.admitted is not None
    return replace(peer, greeted=greeted, pings=0, pong_at=None, proposed=None, commit=None, sealed=None)
