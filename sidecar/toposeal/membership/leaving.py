"""Who has asked to be left out, and how many of them are still needed (PROTOCOL.md 4.8, 5.1). No IO."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import TypeVar

from toposeal.membership.manifest import Entry
from toposeal.membership.state import Member

T = TypeVar("T")


def leavers(member: Member) -> frozenset[bytes]:
    """iids of all who leave, ours among them."""
    others = {iid for iid, peer in member.peers.items() if peer.leaving}
    return frozenset(others | {member.own.iid} if member.leaving else others)


def with_fewest(
    staying: Sequence[Entry], going: Sequence[Entry], choose: Callable[[Sequence[Entry]], T | None]
) -> T | None:
    """What `choose` gives for those who stay and as few of those who go as it needs, by ascending iid; None
    where it gives nothing for all of them. With more of them it never gives less: they are members of the
    predecessor, which come before everybody else.
    """
    ordered = sorted(going, key=lambda entry: entry.iid)
    chosen = choose(staying)
    if chosen is not None or not ordered:
        return chosen
    counts = range(1, len(ordered) + 1)
    found = bisect_left(counts, True, key=lambda count: choose([*staying, *ordered[:count]]) is not None)
    return choose([*staying, *ordered[: counts[found]]]) if found < len(counts) else None
