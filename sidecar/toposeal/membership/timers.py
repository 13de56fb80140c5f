"""What the passing of time does: begin, repeat, give up (PROTOCOL.md 6.3). No IO, no clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from toposeal.errors import Mismatch, Reason
from toposeal.evidence.auxiliary import aux_digest
from toposeal.membership import fetching, heartbeats, outbox
from toposeal.membership.events import Effect, Fence, Timer
from toposeal.membership.exchange import judge
from toposeal.membership.heads import head
from toposeal.membership.hello import make_hello
from toposeal.membership.peers import Step, follow, highest_epoch, reach
from toposeal.membership.rounds import begin_if_due, evaluate, fence
from toposeal.membership.state import (
    Active,
    Attempt,
    Boot,
    Committed,
    Fenced,
    Gathering,
    Member,
    Peer,
    Phase,
    Proposed,
    Sealed,
    Waiting,
    mesh_iids,
    superseded,
)

ENTROPY_SIZE = 64
_BACKOFF_FIRST_MS = 2_000
_BACKOFF_LAST_MS = 120_000
_SILENT_LIMIT = 15  # pings in a row without an answer: the instance is forgotten (P12)


def deadline(member: Member) -> int | None:
    """When the machine wants its next `Timer`, in ms; None while only others can move it."""
    phase, timers = member.phase, member.own.topology.topology.timers
    if isinstance(phase, Boot) and phase.refused is not None:
        return min(member.resend_at, phase.since + timers.quorum_ms)
    if isinstance(phase, (Boot, Fenced)):
        return None
    wanted = _of_phase(member, phase)
    if member.chain:
        wanted.append(member.beat_at)
    if member.fetch is not None:
        wanted.append(member.fetch.asked_at + timers.ping_ms)
    if member.suspended_at is None and (lapses := heartbeats.lapses_at(member)) is not None:
        wanted.append(lapses)
    if (gives_up := heartbeats.quorum_deadline(member)) is not None:
        wanted.append(gives_up)
    return min(wanted, default=None)


def _of_phase(member: Member, phase: Phase) -> list[int]:
    timers = member.own.topology.topology.timers
    match phase:
        case Waiting():
            return [phase.until]
        case Gathering():
            return [member.resend_at, phase.until] if phase.selection else [member.resend_at]
        case Proposed() | Committed() | Sealed():
            return [member.resend_at, phase.deadline]
        case Active() if member.blocked is None and not member.leaving:
            wanted = [member.sealed_at + (0 if superseded(member) else timers.reattest_ms)]
            return [*wanted, member.prospect.since + timers.view_ms] if member.prospect else wanted
        case _:
            return []


def on_timer(member: Member, event: Timer, now: int) -> Step:
    """The deadline has passed."""
    if len(event.entropy) != ENTROPY_SIZE or len(set(event.entropy)) < 8:
        mismatch = Mismatch(Reason.ENTROPY, "timer.entropy", "not random", f"{ENTROPY_SIZE} random bytes")
        return fence(member, Fence(mismatch))
    member = member if member.beat_secret else replace(member, beat_secret=event.entropy[32:])
    effects: tuple[Effect, ...] = ()
    if member.chain and now >= member.beat_at:
        member, effects = heartbeats.beat_all(member, now)
    member, wanted = fetching.retry(member, now)
    member = begin_if_due(member, now)
    member, more = _in_phase(member, event, now)
    return member, effects + wanted + more


def _in_phase(member: Member, event: Timer, now: int) -> Step:
    phase = member.phase
    if isinstance(phase, Boot):
        return _still_refused(member, phase, now)
    if isinstance(phase, Waiting):
        return _begin(member, phase, event.entropy, now) if now >= phase.until else (member, ())
    if isinstance(phase, Sealed) and now >= phase.deadline:
        return _not_active(member, phase, now)
    if isinstance(phase, (Proposed, Committed)) and now >= phase.deadline:
        return _give_up(member, event.entropy, now)
    if now < member.resend_at:
        return evaluate(member, now)
    # Not at the beginning of an attempt: one step in ping_ms, however far ahead somebody is.
    ahead = follow(member, now)
    return (ahead, ()) if ahead is not member else _repeat(member, now)


def _still_refused(member: Member, phase: Boot, now: int) -> Step:
    """Another look at our own evidence, since collateral may have come. When no topology that admits us has,
    whoever starts the pod anew may bring one.
    """
    timers = member.topology.timers
    if phase.refused is None or now < min(member.resend_at, phase.since + timers.quorum_ms):
        return member, ()
    if now >= phase.since + timers.quorum_ms:
        return fence(member, Fence(phase.refused))
    member = replace(member, resend_at=now + timers.attempt_ms)
    return member, judge(member, member.own.identity, member.join)


def _not_active(member: Member, phase: Sealed, now: int) -> Step:
    """Somebody has not sealed, or we did not hear of it: the next attempt follows what we sealed. After a
    genesis there is no mesh to go on with, unless another member goes on from it.
    """
    d = phase.sealed.manifest.digest
    others = [p for iid, p in member.peers.items() if iid in phase.sealed.iids]
    gone_on = any(d in (p.hello.sealed, p.hello.previous) for p in others)
    if phase.sealed.manifest.is_genesis and not gone_on:
        expected = "SEALED of all members"
        mismatch = Mismatch(Reason.NOT_ACTIVE, "sealed", "no SEALED of every member in time", expected)
        return fence(member, Fence(mismatch))
    target = max(member.last_epoch + 1, min(highest_epoch(member), reach(member)))
    return replace(member, phase=Waiting(target, now)), ()


def _begin(member: Member, phase: Waiting, entropy: bytes, now: int) -> Step:
    """A new attempt: a fresh nonce, HELLO to every admitted peer, the Introduction to every address."""
    own, previous = member.own, head(member, now)
    held = member.chain.get(previous)
    epoch = max(phase.epoch, held.manifest.epoch + 1 if held else 0)
    hello = make_hello(
        own.keys,
        own.identity,
        own.topology.topology,
        epoch,
        entropy[:32],
        own.addresses,
        aux_digest(member.gpus),
        member.sealed,
        previous,
    )
    attempt = Attempt(hello, entropy[32:])
    member = replace(member, phase=Gathering(attempt), last_epoch=epoch)
    introduction = outbox.introduction(member)
    hellos = tuple(_tell(attempt, peer, introduction) for peer in member.peers.values() if peer.admitted)
    member = replace(member, peers={iid: _reset(peer) for iid, peer in member.peers.items()})
    member, effects = _ask(member, attempt, introduction, None, now)
    return member, (*hellos, *effects)


def _tell(attempt: Attempt, peer: Peer, introduction: bytes | None) -> Effect:
    """The HELLO; within the Introduction to who does not answer, and so may not know us."""
    known = peer.greeted and peer.silent <= 1
    return outbox.send(peer, outbox.hello(attempt) if known or introduction is None else introduction)


def _repeat(member: Member, now: int) -> Step:
    """Say again what may have been lost, and ask every current peer for life."""
    phase = member.phase
    if isinstance(phase, (Committed, Sealed)):
        return _resent(member, now), tuple(_repeat_votes(member, phase))
    if not isinstance(phase, (Gathering, Proposed)):
        return _resent(member, now), ()
    if head(member, now) != phase.attempt.previous:  # another predecessor: another HELLO
        return replace(_resent(member, now), phase=Waiting(member.last_epoch + 1, now)), ()
    introduction = outbox.introduction(member)
    return _ask(member, phase.attempt, introduction, introduction, now)


def _resent(member: Member, now: int) -> Member:
    return replace(member, resend_at=now + member.own.topology.topology.timers.ping_ms)


def _ask(
    member: Member, attempt: Attempt, introduction: bytes | None, to_silent: bytes | None, now: int
) -> Step:
    """The Introduction to every address, `to_silent` to who did not answer, a PING to all in our attempt."""
    member, phase = _resent(member, now), member.phase
    admitted = (peer.hello.addresses for peer in member.peers.values() if peer.admitted)
    known = frozenset(address for addresses in admitted for address in addresses)
    effects: tuple[Effect, ...] = (*outbox.announce(member, introduction, known), *_ourselves(member))
    for peer in list(member.peers.values()):
        member, more = _ping_or_forget(member, attempt, peer, to_silent)
        effects += more
    if isinstance(phase, Proposed):
        effects += outbox.propose(member, phase)
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
        for data in (outbox.proposal(member, manifest), *outbox.leave(phase)):
            yield from outbox.to_peers(member, undecided, data)
    for data in outbox.votes(member, phase):
        yield from outbox.to_peers(member, [p.identity.iid for p in lacking], data)


def _ourselves(member: Member) -> tuple[Effect, ...]:
    """Another look at our own evidence where the topology refused it: collateral may have come since."""
    refused = member.refused == member.topology.digest != member.accepted
    return judge(member, member.own.identity, member.join) if refused else ()


def _ping_or_forget(member: Member, attempt: Attempt, peer: Peer, to_silent: bytes | None) -> Step:
    if peer.silent >= _SILENT_LIMIT and peer.identity.iid not in mesh_iids(member):
        return member.without_peer(peer.identity.iid), ()
    unanswered = peer.silent > 0
    peer = replace(peer, silent=peer.silent + 1)
    if peer.admitted is None:
        return member.with_peer(peer), ()
    # Who does not answer may not know us, or not our present HELLO, or not our topology.
    effects: tuple[Effect, ...] = (outbox.send(peer, to_silent),) if to_silent and unanswered else ()
    if (peer.hello.target_epoch, peer.hello.topology_digest) == (attempt.epoch, member.topology.digest):
        member, ping = outbox.ping(member, attempt, peer)
        return member, effects + ping
    return member.with_peer(peer), effects


def _give_up(member: Member, entropy: bytes, now: int) -> Step:
    """The attempt failed: join the others in theirs, or after a back-off begin the next one.

    To overtake an attempt that others are in would make that one fail too.
    """
    member = _doubting(member, now)
    failures = member.failures + 1
    target = min(highest_epoch(member), reach(member))
    if target > member.last_epoch:
        return replace(member, phase=Waiting(target, now), failures=failures), ()
    delay = min(_BACKOFF_FIRST_MS << min(failures - 1, 16), _BACKOFF_LAST_MS)
    jitter = delay * int.from_bytes(entropy[:2], "big") // (1 << 17)  # less than half of the delay
    until = now + delay // 2 + jitter
    return replace(member, phase=Waiting(member.last_epoch + 1, until), failures=failures), ()


def _doubting(member: Member, now: int) -> Member:
    """Remember whose COMMIT is lacking, or did not hold, though ours does: then the time has run out. An
    attempt that somebody leaves is left by all at once, and says nothing of anybody.
    """
    phase = member.phase
    if not isinstance(phase, Committed) or member.own.iid not in phase.members:
        return member
    for iid in {entry.iid for entry in phase.manifest.members} - phase.members.keys():
        peer = member.peers.get(iid)
        if peer is not None and peer.commit is None:
            member = member.with_peer(replace(peer, failed_at=now))
    return member


def _reset(peer: Peer) -> Peer:
    """What an attempt leaves behind; votes of the last one mean nothing in this one."""
    greeted = peer.admitted is not None
    return replace(
        peer, greeted=greeted, pings=0, pong_at=None, proposed=None, commit=None, sealed=None, seal=b""
    )
