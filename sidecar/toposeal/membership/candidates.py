"""The deterministic choice of a manifest's members (PROTOCOL.md 5.1). No IO."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from toposeal.evidence.binding import ZERO_DIGEST
from toposeal.membership.certificate import trail
from toposeal.membership.choosing import choose, doubted, leavers
from toposeal.membership.heads import is_alive, parting
from toposeal.membership.manifest import Entry, Manifest, build_manifest
from toposeal.membership.state import Attempt, Member, Peer, is_eligible

_MISSED_PINGS = 3  # a candidate that missed this many in a row is not live


@dataclass(frozen=True)
class Selection:
    """The members that the next manifest would have. `full`: no further instance could be in it. `awaited`:
    it leaves out a member of the predecessor that lives and that the topology still admits. `leaver`: whose
    LEAVE it rests on.
    """

    entries: tuple[Entry, ...]
    full: bool
    awaited: bool
    leaver: bytes | None = None

    @property
    def iids(self) -> tuple[bytes, ...]:
        return tuple(e.iid for e in self.entries)


def select(member: Member, attempt: Attempt, now: int) -> Selection | None:
    """Per role the live candidates up to max, members of the predecessor first, by ascending iid; of those
    who leave as few as check 9 needs, and nobody in doubt who can be done without. None while a role has
    fewer than min without them, or check 9 is not met, and for whoever is not chosen: one beyond max, who
    leaves and is not needed, whom the topology does not admit.

    Every member that sees the same candidates chooses the same ones.
    """
    path = trail(member.chain, attempt.previous)
    if attempt.previous != ZERO_DIGEST and not path:
        return None
    incumbents = path[0].sealed.iids if path else frozenset()
    roles = member.topology.roles
    if member.accepted != member.topology.digest:
        return None  # we have no place in it ourselves
    live = [p for p in member.peers.values() if is_candidate(member, attempt, p, now)]
    count = Counter([member.own.identity.role, *(p.identity.role for p in live)])
    if any(count[name] < role.min_replicas for name, role in roles.items()):
        return None  # the common case while members arrive, and a cheap one
    own = attempt.hello.entry(member.own.identity)
    entries = list(_unique([own, *(p.hello.entry(p.identity) for p in _apart(member, live))]))
    doubtful, gone = doubted(member, now), parting(member, path[0] if path else None, now)
    choice = choose(roles, entries, leavers(member), doubtful, path or (), gone)
    if choice is None or own not in choice.entries:
        return None
    chosen = choice.entries
    iids = {entry.iid for entry in chosen}
    left_out = incumbents - iids
    awaited = any(
        is_alive(member, peer, now) and not peer.leaving and peer.refused != member.topology.digest
        for iid, peer in member.peers.items()
        if iid in left_out - doubtful
    )
    count = Counter(entry.role for entry in chosen)
    full = all(count[name] == role.max_replicas for name, role in roles.items())
    return Selection(chosen, full and not awaited, awaited, choice.leaver)


def manifest_of(member: Member, attempt: Attempt, selection: Selection) -> Manifest:
    """The manifest of `selection` for this attempt."""
    own, held = member.own, member.chain.get(attempt.previous)
    previous = held.manifest if held else None
    return build_manifest(
        own.identity.mesh_id, own.topology.topology, attempt.epoch, selection.entries, previous
    )


def is_candidate(member: Member, attempt: Attempt, peer: Peer, now: int) -> bool:
    """Eligible, current (our topology, epoch and predecessor) and live (a recent PONG in this attempt)."""
    return (
        peer.pong_at is not None
        and now - peer.pong_at <= _MISSED_PINGS * member.topology.timers.ping_ms
        and is_eligible(member, peer)
        and peer.hello.target_epoch == attempt.epoch
        and peer.hello.previous == attempt.previous
        and peer.hello.topology_digest == member.topology.digest
    )


def _apart(member: Member, live: list[Peer]) -> list[Peer]:
    """Without those of whom two share a confidential VM or a GPU: evidence names the VM, not the pod, so
    neither can be told from the other. What is ours can be nobody else's."""
    holds = {p.identity.iid: p.admitted.join.held for p in live if p.admitted}
    if not any(holds.values()):
        return live
    count = Counter(thing for things in holds.values() for thing in things)
    ours = member.admitted.held if member.admitted else frozenset()
    return [
        p
        for p in live
        if not holds[p.identity.iid] & ours and all(count[thing] == 1 for thing in holds[p.identity.iid])
    ]


def _unique(entries: list[Entry]) -> Iterable[Entry]:
    """Two with the same nonce share an entropy source that failed: neither is a candidate (K7)."""
    count = Counter(e.nonce for e in entries)
    return (e for e in entries if count[e.nonce] == 1)
