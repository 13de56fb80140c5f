"""Selection (5.1): who could be in the next manifest, and that everybody chooses the same."""

from __future__ import annotations

from dataclasses import replace

from support.actors import Actor, Bench

from toposeal.membership.candidates import Selection, is_candidate, manifest_of, select
from toposeal.membership.state import Attempt, Gathering, Proposed, attempt_of

ROLES = {"db": (1, 1), "web": (1, 3)}


def gathering(roles: dict[str, tuple[int, int]] | None = None, ping_ms: int = 2_000) -> Bench:
    return Bench(roles or ROLES, ping_ms=ping_ms).gathering()


def attempt(bench: Bench) -> Attempt:
    found = attempt_of(bench.member.phase)
    assert found is not None
    return found


def selection(bench: Bench) -> Selection | None:
    return select(bench.member, attempt(bench), bench.now)


def test_fewer_than_min_means_wait() -> None:
    bench = gathering()
    assert selection(bench) is None
    bench.meet(bench.actor("web"))
    assert selection(bench) is None
    bench.meet(bench.actor("db"))
    assert selection(bench) is not None


def test_ascending_iid_up_to_max_whatever_the_order_of_arrival() -> None:
    bench = gathering({"db": (1, 2), "web": (1, 1)})
    dbs = [bench.actor("db") for _ in range(4)]
    bench.meet(*dbs)
    found = selection(bench)
    assert found is not None and found.full
    lowest = sorted(d.iid for d in dbs)[:2]
    assert found.iids == (*lowest, bench.own.iid)


def test_M3_an_instance_beyond_max_never_joins_while_the_others_live() -> None:
    bench = gathering({"db": (1, 1), "web": (1, 1)})
    first, second = sorted((bench.actor("db") for _ in range(2)), key=lambda a: a.iid)
    bench.meet(second, first)
    found = selection(bench)
    assert found is not None and second.iid not in found.iids and first.iid in found.iids


def test_M3_who_is_the_one_beyond_max_has_no_selection() -> None:
    bench = gathering({"db": (1, 1), "web": (1, 1)})
    bench.meet(bench.actor("db"))
    assert selection(bench) is not None
    other = bench.actor("web")
    while other.iid > bench.own.iid:
        other = bench.actor("web")
    bench.meet(other)
    assert selection(bench) is None


def test_T4_whom_a_newer_topology_does_not_admit_has_no_selection() -> None:
    bench = gathering()
    bench.meet(bench.actor("db"))
    bench.member = replace(bench.member, accepted=bytes(48))
    assert selection(bench) is None


def test_a_selection_is_full_when_no_further_instance_could_be_in_it() -> None:
    bench = gathering()
    bench.meet(bench.actor("db"), bench.actor("web"))
    found = selection(bench)
    assert found is not None and not found.full
    bench.meet(bench.actor("web"))
    found = selection(bench)
    assert found is not None and found.full


def candidate(bench: Bench) -> Actor:
    actor = bench.actor("db")
    bench.meet(actor)
    assert counts(bench, actor)
    return actor


def counts(bench: Bench, actor: Actor) -> bool:
    peer = bench.member.peers[actor.iid]
    return is_candidate(bench.member, attempt(bench), peer, bench.now)


def test_P12_only_who_answered_lately_counts() -> None:
    bench = gathering(ping_ms=500)
    actor = candidate(bench)
    bench.now += 1_500
    assert counts(bench, actor)
    bench.now += 1
    assert not counts(bench, actor)


def test_each_condition_of_a_candidate_is_needed() -> None:
    bench = gathering()
    actor = candidate(bench)
    peer = bench.member.peers[actor.iid]
    changes = (
        replace(peer, admitted=None),
        replace(peer, pong_at=None),
        replace(peer, hello=replace(peer.hello, target_epoch=2)),
        replace(peer, hello=replace(peer.hello, topology_digest=bytes(48))),
    )
    assert is_candidate(bench.member, attempt(bench), peer, bench.now)
    for changed in changes:
        assert not is_candidate(bench.member, attempt(bench), changed, bench.now)


def test_K7_two_with_one_nonce_are_no_candidates() -> None:
    bench = gathering({"db": (1, 3), "web": (1, 1)})
    actors = [bench.actor("db") for _ in range(3)]
    actors[1].new_hello(1, nonce=actors[0].hello.nonce)
    bench.meet(*actors)
    found = selection(bench)
    assert found is not None
    assert set(found.iids) == {bench.own.iid, actors[2].iid}


def test_K7_a_peer_with_our_own_nonce_excludes_us_too() -> None:
    bench = gathering()
    actor = bench.actor("db")
    actor.new_hello(1, nonce=attempt(bench).hello.nonce)
    bench.meet(actor)
    assert selection(bench) is None


def test_all_members_build_the_same_bytes() -> None:
    bench = gathering({"db": (1, 1), "web": (1, 1)})
    actor = candidate(bench)
    found = selection(bench)
    assert found is not None
    manifest = manifest_of(bench.member, attempt(bench), found)
    assert manifest.body == bench.manifest(actor).body


# After a genesis.


def active(roles: dict[str, tuple[int, int]], dbs: int) -> tuple[Bench, list[Actor]]:
    """Ourselves and so many `db`, active together."""
    bench = Bench(roles, view_ms=100).gathering()
    actors = [bench.actor("db") for _ in range(dbs)]
    bench.active(*actors)
    return bench, actors


def test_M3_members_of_the_predecessor_come_before_newcomers_whatever_their_iids() -> None:
    bench, dbs = active({"db": (1, 2), "web": (1, 1)}, dbs=2)
    newcomers = [bench.actor("db") for _ in range(4)]
    assert min(actor.iid for actor in newcomers) < max(actor.iid for actor in dbs)
    bench.meet(*newcomers)
    bench.again(*dbs, *newcomers)
    found = selection(bench)
    assert found is not None and set(found.iids) == {bench.own.iid, *(actor.iid for actor in dbs)}


def test_M3_a_newcomer_takes_the_place_of_a_member_that_is_gone() -> None:
    bench, dbs = active({"db": (1, 2), "web": (1, 1)}, dbs=2)
    newcomer = bench.actor("db")
    bench.meet(newcomer)
    bench.again(dbs[0], newcomer)
    found = selection(bench)
    assert found is not None and set(found.iids) == {bench.own.iid, dbs[0].iid, newcomer.iid}


def test_a_member_that_lives_is_awaited_although_a_newcomer_could_have_its_place() -> None:
    bench, dbs = active({"db": (1, 2), "web": (1, 1)}, dbs=2)
    newcomer = bench.actor("db")
    bench.meet(newcomer)
    bench.again(dbs[0], newcomer)
    found = selection(bench)
    assert found is not None and not found.full
    late = bench.member.peers[dbs[1].iid]
    bench.member = bench.member.with_peer(replace(late, alive_at=None))
    found = selection(bench)
    assert found is not None and found.full


def test_who_failed_to_commit_is_not_awaited() -> None:
    bench, dbs = active({"db": (1, 2), "web": (1, 1)}, dbs=2)
    newcomer = bench.actor("db")
    bench.meet(newcomer)
    bench.again(dbs[0], newcomer)
    failing(bench, dbs[1])
    found = selection(bench)
    assert found is not None and found.full and not found.awaited


def test_a_slow_member_that_lives_is_left_out_no_sooner_than_a_lease_after_the_others_are_complete() -> None:
    """One view_ms is enough for those who have proved nothing; who lives has the time of a lease."""
    bench, dbs = active({"db": (1, 3), "web": (1, 1)}, dbs=3)
    timers = bench.signed.topology.timers
    bench.again(*dbs[:2])
    phase = bench.member.phase
    assert isinstance(phase, Gathering)
    assert set(phase.selection) == {bench.own.iid, dbs[0].iid, dbs[1].iid}
    assert phase.until == phase.since + timers.lease_ms
    bench.member = bench.member.with_peer(replace(bench.member.peers[dbs[2].iid], alive_at=None))
    bench.tick(timers.view_ms)
    assert isinstance(bench.member.phase, Proposed)


def test_a_slow_member_that_lives_is_awaited_beyond_view_ms() -> None:
    bench, dbs = active({"db": (1, 3), "web": (1, 1)}, dbs=3)
    timers = bench.signed.topology.timers
    bench.again(*dbs[:2])
    bench.tick(timers.view_ms)
    phase = bench.member.phase
    assert isinstance(phase, Gathering) and phase.until > bench.now


def test_9_there_is_no_selection_without_a_majority_of_the_predecessor() -> None:
    bench, dbs = active({"db": (1, 4), "web": (1, 1)}, dbs=3)
    bench.again(dbs[0])
    assert selection(bench) is None
    bench.again(*dbs[:2])
    assert selection(bench) is not None


def test_an_attempt_after_a_manifest_that_is_not_held_has_no_selection() -> None:
    bench, dbs = active({"db": (1, 2), "web": (1, 1)}, dbs=2)
    bench.again(*dbs)
    assert selection(bench) is not None
    bench.member = replace(bench.member, chain={})
    assert selection(bench) is None


def test_who_follows_another_predecessor_is_no_candidate() -> None:
    bench, dbs = active({"db": (1, 2), "web": (1, 1)}, dbs=2)
    bench.again(*dbs)
    peer = bench.member.peers[dbs[0].iid]
    assert is_candidate(bench.member, attempt(bench), peer, bench.now)
    elsewhere = replace(peer, hello=replace(peer.hello, previous=bytes(48)))
    assert not is_candidate(bench.member, attempt(bench), elsewhere, bench.now)


# Whose commitments did not come.


def failing(bench: Bench, actor: Actor) -> None:
    peer = bench.member.peers[actor.iid]
    bench.member = bench.member.with_peer(replace(peer, failed_at=bench.now))


def test_who_failed_to_commit_is_done_without_for_a_while() -> None:
    bench = gathering({"db": (1, 3), "web": (1, 1)}, ping_ms=60_000)
    a, b = (bench.actor("db") for _ in range(2))
    bench.meet(a, b)
    assert chosen(bench) == {a.iid, b.iid, bench.own.iid}
    failing(bench, a)
    assert chosen(bench) == {b.iid, bench.own.iid}
    peer = bench.member.peers[a.iid]
    long_ago = bench.now - 8 * bench.member.topology.timers.lease_ms
    bench.member = bench.member.with_peer(replace(peer, failed_at=long_ago))
    assert chosen(bench) == {a.iid, b.iid, bench.own.iid}


def test_who_cannot_be_done_without_is_tried_again_and_again() -> None:
    bench = gathering({"db": (2, 3), "web": (1, 1)})
    a, b = (bench.actor("db") for _ in range(2))
    bench.meet(a, b)
    failing(bench, a)
    failing(bench, b)
    assert chosen(bench) == {a.iid, b.iid, bench.own.iid}


def chosen(bench: Bench) -> set[bytes]:
    found = selection(bench)
    assert found is not None
    return set(found.iids)
