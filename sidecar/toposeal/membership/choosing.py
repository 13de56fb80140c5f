"""Whom of those at hand the next manifest lists (PROTOCOL.md 4.8, 5.1). No IO."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from toposeal.membership.certificate import Certificate, majority
from toposeal.membership.manifest import Entry
from toposeal.membership.state import Member
from toposeal.topology.model import Role

_FEW = 2  # of more members a majority is left when one goes, so that rounds let go of all who leave


class Choice(NamedTuple):
    """In ascending order; without the LEAVE of `leaver` to it check 9 is not met."""

    entries: tuple[Entry, ...]
    leaver: bytes | None = None


def leavers(member: Member) -> frozenset[bytes]:
    """iids of all who leave, ours among them."""
    others = {iid for iid, peer in member.peers.items() if peer.leaving}
    return frozenset(others | {member.own.iid} if member.leaving else others)


_DOUBT_LEASES = 8


def doubted(member: Member, now: int) -> frozenset[bytes]:
    """iids of those for want of whose COMMIT an attempt has ended, for a few leases. Who has another opinion,
    since it took no part or messages were lost, has to wait no longer than that.
    """
    doubt_ms = _DOUBT_LEASES * member.topology.timers.lease_ms
    failed = ((iid, peer.failed_at) for iid, peer in member.peers.items())
    return frozenset(iid for iid, at in failed if at is not None and now - at < doubt_ms)


def choose(
    roles: Mapping[str, Role],
    entries: Sequence[Entry],
    leaving: frozenset[bytes],
    doubtful: frozenset[bytes],
    path: Sequence[Certificate],
    parting: frozenset[bytes],
) -> Choice | None:
    """None while a role has fewer than min of those who stay, or check 9 along `path`, of which the first is
    the predecessor, is not met. Without those who are `doubtful`, unless nothing can be chosen without them.
    Those of `parting` would sign a LEAVE.
    """
    certain = [entry for entry in entries if entry.iid not in doubtful]
    chosen = _choose(roles, certain, leaving, path, parting)
    if chosen is None and len(certain) < len(entries):
        return _choose(roles, entries, leaving, path, parting)
    return chosen


def _choose(
    roles: Mapping[str, Role],
    entries: Sequence[Entry],
    leaving: frozenset[bytes],
    path: Sequence[Certificate],
    parting: frozenset[bytes],
) -> Choice | None:
    """Of those who leave as few as check 9 needs, of the predecessor's members alone, by ascending iid: with
    more of them the majority never gets smaller, since they come before everybody not listed. Where that
    brings nobody nearer to its end, those who stay with the LEAVE of one.
    """
    listed = path[0].sealed.iids if path else frozenset()
    staying = [entry for entry in entries if entry.iid not in leaving]
    alone = _within_bounds(roles, staying, listed)
    if alone is None:
        return None
    going = sorted((entry for entry in entries if entry.iid in leaving & listed), key=lambda entry: entry.iid)

    def with_some(count: int) -> tuple[Entry, ...] | None:
        chosen = _within_bounds(roles, [*staying, *going[:count]], listed)
        return chosen if chosen is not None and majority(path, [entry.iid for entry in chosen]) else None

    counts = range(len(going) + 1)
    fewest = bisect_left(counts, True, key=lambda count: with_some(count) is not None)
    chosen = with_some(fewest) if fewest < len(counts) else None
    if len(listed) <= _FEW and (chosen is None or listed == {entry.iid for entry in chosen}):
        iids = [entry.iid for entry in alone]
        for leaver in sorted(parting & listed):
            if majority(path, [*iids, leaver]):
                return Choice(alone, leaver)
    return None if chosen is None else Choice(chosen)


def _within_bounds(
    roles: Mapping[str, Role], entries: Sequence[Entry], listed: frozenset[bytes]
) -> tuple[Entry, ...] | None:
    """Per role up to max, members of the predecessor first, by ascending iid; None with fewer than min."""
    chosen: list[Entry] = []
    for name, role in roles.items():
        of_role = [entry for entry in entries if entry.role == name]
        if len(of_role) < role.min_replicas:
            return None
        chosen += sorted(of_role, key=lambda entry: (entry.iid not in listed, entry.iid))[: role.max_replicas]
    return tuple(sorted(chosen, key=lambda entry: (entry.role, entry.iid)))
