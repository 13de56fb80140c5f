"""What the next attempt follows, and whether there is a reason for one (PROTOCOL.md 5.4, 6.3). No IO."""

from __future__ import annotations

from dataclasses import replace

from toposeal.errors import Mismatch, Reason
from toposeal.membership.certificate import Certificate, descends, majority, trail
from toposeal.membership.choosing import choose, doubted, leavers
from toposeal.membership.events import Left
from toposeal.membership.state import (
    Active,
    Member,
    Peer,
    Prospect,
    attempt_of,
    is_eligible,
    superseded,
)


def head(member: Member, now: int) -> bytes:
    """D of the highest certificate that check 9 can follow with those who live; else of what we sealed last.

    Only one that comes after what we have sealed: branches are never changed. Zero for a genesis. Who has
    sealed nothing stays with one of several lineages, whichever of them has the higher epoch just now.
    """
    living = {iid for iid, peer in member.peers.items() if is_alive(member, peer, now)} | {member.own.iid}
    held = sorted(
        member.chain.values(),
        key=lambda link: (link.lineage, link.manifest.epoch, link.digest),
        reverse=True,
    )
    for link in held:
        path = trail(member.chain, link.digest)
        if path and majority(path, living) and descends(member.chain, link.digest, member.sealed):
            return link.digest
    return member.sealed


def is_alive(member: Member, peer: Peer, now: int) -> bool:
    """Proved life no longer ago than a lease lasts."""
    return peer.alive_at is not None and now - peer.alive_at <= member.own.topology.topology.timers.lease_ms


def parting(member: Member, predecessor: Certificate | None, now: int) -> frozenset[bytes]:
    """iids of those who leave and can still sign a LEAVE for what follows `predecessor`, which only who has
    sealed that can, or did in this attempt; ours among them.
    """
    if predecessor is None:
        return frozenset()
    attempt = attempt_of(member.phase)

    def can(peer: Peer) -> bool:
        if peer.left is None:
            return peer.leaving and peer.identity.iid in predecessor.seals and is_alive(member, peer, now)
        return attempt is not None and peer.left.decision.epoch == attempt.epoch

    others = frozenset(iid for iid, peer in member.peers.items() if can(peer))
    ourselves = member.leaving and member.sealed == predecessor.digest
    return others | {member.own.iid} if ourselves else others


def is_ready(member: Member, peer: Peer, following: bytes, now: int) -> bool:
    """A living instance that would take part in the attempt that follows `following`."""
    return (
        is_eligible(member, peer)
        and peer.hello.topology_digest == member.topology.digest
        and peer.head == following
        and is_alive(member, peer, now)
    )


def round_is_due(member: Member, now: int) -> bool:
    """Whether a member at rest has to begin an attempt: a newer certificate or topology, a seal that is old,
    or another set of members within reach, which has stood for view_ms so that who comes together gets in
    together.
    """
    if member.sealed not in member.chain or member.blocked is not None:
        return False
    timers = member.topology.timers
    if superseded(member):
        return True
    if head(member, now) != member.sealed or now >= member.sealed_at + timers.reattest_ms:
        return True
    return member.prospect is not None and now >= member.prospect.since + timers.view_ms


def look_ahead(member: Member, now: int) -> Member:
    """Remember since when the next manifest would list others than ours does."""
    own = member.chain.get(member.sealed)
    iids = _prospect(member, own, now) if own else None
    if own is None or iids is None or iids == own.sealed.iids:
        return member if member.prospect is None else replace(member, prospect=None)
    if member.prospect is not None and member.prospect.iids == iids:
        return member
    return replace(member, prospect=Prospect(iids, now))


def left(member: Member, now: int) -> tuple[Left, ...]:
    """Who asked to be left out may end when a later manifest without it is active, or when none can be that
    brings it nearer.
    """
    serving, held = member.serving, member.chain.get(member.sealed)
    if serving is None or held is None or member.suspended_at is not None:
        return (Left(replaced=False),)
    own, epoch = member.own.iid, serving.manifest.epoch
    if any(c.proven and c.manifest.epoch > epoch and own not in c.sealed.iids for c in member.chain.values()):
        return (Left(replaced=True),)
    if not isinstance(member.phase, Active):
        return ()
    prospect = _prospect(member, held, now)
    return (Left(replaced=False),) if prospect is None or prospect == held.sealed.iids else ()


def is_needed(member: Member, now: int) -> bool:
    """Whether who leaves has to take part once more, since without it there would be no majority."""
    held = member.chain.get(member.sealed)
    prospect = _prospect(member, held, now) if held else None
    return prospect is not None and member.own.iid in prospect


def sibling(member: Member, found: Certificate) -> Mismatch | None:
    """Why `found`, proven active, leaves no place for what we sealed; None where it does."""
    own = member.chain.get(member.sealed)
    if own is None or not found.proven or found.lineage != own.lineage:
        return None
    older = found.manifest.epoch <= own.manifest.epoch
    # Links older than our own last active manifest are not kept: those are ancestors, as active ones are.
    if older and descends(member.chain, own.digest, found.digest) is not False:
        return None
    if not older and descends(member.chain, found.digest, own.digest):
        return None
    return Mismatch(
        Reason.SIBLING_ACTIVE, "certificate", found.digest.hex(), f"one line with {own.digest.hex()}"
    )


def _prospect(member: Member, own: Certificate, now: int) -> frozenset[bytes] | None:
    """Whom the next manifest would list: who lives of ours, then who is ready, and of those who leave as few
    as check 9 needs, or the LEAVE of one; None where it could not be, or not without them later on.
    """
    path, listed = trail(member.chain, member.sealed), own.sealed.iids
    if not path:
        return None
    admitted = member.accepted == member.topology.digest
    there = [entry for entry in own.manifest.members if entry.iid == member.own.iid and admitted]
    for iid, peer in member.peers.items():
        if not is_eligible(member, peer):
            continue
        if is_alive(member, peer, now) if iid in listed else is_ready(member, peer, member.sealed, now):
            there.append(peer.hello.entry(peer.identity))
    doubtful, gone = doubted(member, now), parting(member, path[0], now)
    chosen = choose(member.topology.roles, there, leavers(member), doubtful, path, gone)
    return None if chosen is None else frozenset(entry.iid for entry in chosen.entries)
