"""A certificate that another member held is ours now: what it means for us (PROTOCOL.md 5.4). No IO."""

from __future__ import annotations

from dataclasses import replace

from toposeal.membership import fetching, heartbeats
from toposeal.membership.certificate import Certificate
from toposeal.membership.events import Appraised, Effect, Fence
from toposeal.membership.heads import head, sibling
from toposeal.membership.peers import Step, follow
from toposeal.membership.rounds import begin_if_due, fence
from toposeal.membership.state import Gathering, Member, Proposed, Waiting


def on_record_verified(member: Member, event: Appraised, now: int) -> Step:
    """One more record of the certificate that is being fetched; the last one completes it."""
    source = member.fetch.source if member.fetch else b""
    member, held = fetching.on_record_verified(member, event, now)
    return (member, ()) if held is None else _on_certificate(member, held, source, now)


def _on_certificate(member: Member, held: Certificate, source: bytes, now: int) -> Step:
    """Fence beside an active sibling; otherwise ask for what it rests on, then follow it, and say so."""
    mismatch = sibling(member, held)
    if mismatch is not None:
        return fence(member, Fence(mismatch))
    peer = member.peers.get(source)
    if peer is not None:
        member, effects = fetching.want(member, peer, held.digest, now)
        if effects:
            return member, effects
    member, told = _tell(member, now)
    phase = member.phase
    if isinstance(phase, (Gathering, Proposed)) and phase.attempt.previous != head(member, now):
        member = replace(member, phase=Waiting(member.last_epoch + 1, now))
    if isinstance(phase, Waiting):
        member = replace(member, phase=replace(phase, until=min(phase.until, now)))
    return follow(begin_if_due(member, now), now), told


def _tell(member: Member, now: int) -> Step:
    """Whoever follows the same learns at once that we are ready."""
    following = head(member, now)
    effects: tuple[Effect, ...] = ()
    for peer in list(member.peers.values()):
        if peer.head == following and peer.admitted is not None:
            member, more = heartbeats.answer(member, replace(peer, answered_at=None), now)
            effects += more
    return member, effects
