"""What the passing of time does: begin, repeat, give up (PROTOCOL.md 6.3). No IO, no clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from toposeal.errors import Mismatch, Reason
from toposeal.limits import MAX_EPOCH_STEP
from toposeal.membership import outbox
from toposeal.membership.events import Effect, Fence, Timer
from toposeal.membership.hello import make_hello
from toposeal.membership.peers import Step
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
        return _give_up(member, phase.attempt.epoch, event.entropy, now)
    if now >= member.resend_at:
        return _repeat(member, now)
    return evaluate(member, now)


def _begin(member: Member, phase: Waiting, entropy: bytes, now: int) -> Step:
    """A new attempt: a fresh nonce, HELLO to everybody known, the Introduction to every address."""
    own = member.own
    hello = make_hello(
        own.keys, own.identity, own.topology.topology, phase.epoch, entropy[:32], own.addresses
    )
    attempt = Attempt(hello, entropy[32:])
    member = replace(
        member,
        phase=Gathering(attempt),
        highest_seen=max(member.highest_seen, phase.epoch),
        peers={iid: _reset(peer) for iid, peer in member.peers.items()},
    )
    # Who met us before our first attempt has no Introduction of ours: HELLO alone would be a stranger's.
    greeting = outbox.introduction(member) if member.failures == 0 else None
    hellos = outbox.to_peers(member, member.peers, greeting or outbox.hello(attempt))
    member, effects = _repeat(member, now)
    return member, (*hellos, *effects)


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
    manifest = phase.manifest if isinstance(phase, Committed) else phase.sealed.manifest
    if isinstance(phase, Committed):
        yield from outbox.propose(member, manifest)
    for data in outbox.votes(member, phase):
        yield from outbox.to_listed(member, manifest, data)


def _ping_or_forget(member: Member, attempt: Attempt, peer: Peer) -> Step:
    if peer.silent >= _SILENT_LIMIT:
        return member.without_peer(peer.identity.iid), ()
    peer = replace(peer, silent=peer.silent + 1)
    if peer.admitted is None or peer.hello.target_epoch != attempt.epoch:
        return member.with_peer(peer), ()
    return outbox.ping(member, attempt, peer)


def _give_up(member: Member, epoch: int, entropy: bytes, now: int) -> Step:
    """The attempt failed: back off with jitter, then the highest epoch seen, above this one."""
    failures = member.failures + 1
    delay = min(_BACKOFF_FIRST_MS << min(failures - 1, 16), _BACKOFF_LAST_MS)
    jitter = delay * int.from_bytes(entropy[:2], "big") // (1 << 17)  # up to half of the delay
    target = max(epoch + 1, min(member.highest_seen, epoch + MAX_EPOCH_STEP))
    return replace(member, phase=Waiting(target, now + delay // 2 + jitter), failures=failures), ()


def _reset(peer: Peer) -> Peer:
    return replace(peer, pings=0, pong_at=None, proposal=None, commit=None, sealed=None)
