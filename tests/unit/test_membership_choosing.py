"""Whom the next manifest lists, by itself: bounds, who leaves, who is in doubt (PROTOCOL.md 4.8, 5.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from support.actors import Actor, Bench
from support.certificates import link

from toposeal.membership.choosing import choose, doubted
from toposeal.membership.manifest import Entry

BENCH = Bench({"db": (1, 8)}, role="db")
FIVE = sorted((BENCH.actor("db") for _ in range(5)), key=lambda actor: actor.iid)
NOBODY: frozenset[bytes] = frozenset()


def chosen(
    there: Sequence[Actor],
    listed: Sequence[Actor],
    leaving: Sequence[Actor] = (),
    doubtful: Sequence[Actor] = (),
) -> list[int] | None:
    """Numbers in FIVE of those who are chosen to follow a manifest of `listed`."""
    found = choose(
        BENCH.signed.topology.roles,
        [_entry(actor) for actor in there],
        frozenset(actor.iid for actor in leaving),
        frozenset(actor.iid for actor in doubtful),
        (link(None, 1, listed),),
        frozenset(actor.iid for actor in listed),
    )
    return None if found is None else [[a.iid for a in FIVE].index(entry.iid) for entry in found.entries]


def _entry(actor: Actor) -> Entry:
    return actor.hello.entry(actor.own.identity)


def test_of_those_who_leave_only_members_of_the_predecessor_are_needed() -> None:
    """The majority of 1, 2 and 3 needs one of those who leave; 0 was never in it, and comes before them."""
    newcomer, *listed = FIVE[:4]
    leaving = [newcomer, *listed[1:]]
    assert chosen(FIVE[:4], listed, leaving) == [1, 2]
    assert chosen(FIVE[:4], listed, listed[1:]) == [0, 1, 2]


def test_doubt_lasts_for_eight_leases_and_no_longer() -> None:
    bench = Bench(lease_ms=3_000, heartbeat_ms=1_000).gathering()
    actor = bench.actor("db")
    bench.meet(actor)
    failed = replace(bench.member.peers[actor.iid], failed_at=500)
    member = bench.member.with_peer(failed)
    assert doubted(member, 500 + 8 * 3_000 - 1) == {actor.iid}
    assert doubted(member, 500 + 8 * 3_000) == NOBODY
    assert doubted(bench.member, 500) == NOBODY
