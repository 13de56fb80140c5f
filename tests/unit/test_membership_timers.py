"""Time: what each phase waits for, what it says again, and when it gives up (6.3)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.actors import Actor, Bench, kinds, of
from support.certificates import link

from toposeal._wire import peer_pb2 as wire
from toposeal.errors import Mismatch, Reason
from toposeal.limits import MAX_EPOCH_STEP
from toposeal.membership.events import Announce, Fence, Quote, Send, Timer
from toposeal.membership.machine import deadline
from toposeal.membership.state import Waiting, attempt_of, superseded
from toposeal_lab.simulation.symbolic import signed_topology

TWO_DBS = {"db": (2, 2), "web": (1, 1)}
SELDOM: dict[str, Any] = {"heartbeat_ms": 60_000, "lease_ms": 600_000}
MISMATCH = Mismatch(Reason.TOPOLOGY_ROLLBACK, "topology.version", "1", "2")
ELASTIC = {"db": (1, 3), "web": (1, 1)}


@pytest.fixture
def bench() -> Bench:
    return Bench(TWO_DBS, ping_ms=1_000, quote_ms=5_000, attempt_ms=10_000).gathering()


# Deadlines.


def test_P9_every_phase_that_waits_for_others_has_a_deadline(bench: Bench) -> None:
    start = Bench(TWO_DBS)
    assert start.phase == "boot" and deadline(start.member) is None  # the quote port has its own deadline
    start.appraise(start.quote(start.effects))
    assert start.phase == "waiting" and deadline(start.member) == start.now
    assert bench.phase == "gathering" and deadline(bench.member) == bench.now + 1_000
    found = {}
    for phase in ("proposed", "committed", "sealed"):
        mesh = Bench(TWO_DBS, ping_ms=60_000, quote_ms=5_000, attempt_ms=10_000, **SELDOM).gathering()
        getattr(mesh, phase)(mesh.actor("db"), mesh.actor("db"))
        mesh.tick(0)
        found[phase] = (deadline(mesh.member) or 0) - mesh.now
    assert found == {"proposed": 10_000, "committed": 15_000, "sealed": 10_000}


def test_an_active_member_wakes_for_heartbeats_leases_and_the_age_of_its_seal(bench: Bench) -> None:
    bench.active(bench.actor("db"), bench.actor("db"))
    timers, sealed_at = bench.signed.topology.timers, bench.member.sealed_at
    assert deadline(bench.member) == bench.now
    bench.tick()
    assert deadline(bench.member) == bench.now + timers.heartbeat_ms
    member = replace(bench.member, beat_at=1 << 40)
    assert deadline(member) == sealed_at + timers.lease_ms
    for peer in member.peers.values():
        member = member.with_peer(replace(peer, lease_until=1 << 40))
    assert deadline(member) == sealed_at + timers.reattest_ms
    newer = replace(member, own=replace(member.own, topology=signed_topology(TWO_DBS, version=8)))
    assert superseded(newer) and deadline(newer) == sealed_at  # at once
    assert deadline(replace(member, blocked=MISMATCH)) == sealed_at + 2 * timers.reattest_ms


def test_P9_a_member_that_stalls_after_each_message_delays_but_never_holds_the_others() -> None:
    """Whatever the last message was: without another one the attempt ends by itself."""
    for phase, ends in (("proposed", "waiting"), ("committed", "waiting"), ("sealed", "fenced")):
        bench = Bench(TWO_DBS, ping_ms=60_000, attempt_ms=1_000, quote_ms=1_000, **SELDOM).gathering()
        getattr(bench, phase)(bench.actor("db"), bench.actor("db"))
        bench.tick(0)
        bench.tick()
        assert bench.phase == ends


def test_a_selection_that_has_to_stand_is_looked_at_again_in_time() -> None:
    bench = Bench(ELASTIC, view_ms=300, ping_ms=1_000).gathering()
    bench.now += 100
    bench.meet(bench.actor("db"))
    assert deadline(bench.member) == bench.now + 300


def test_a_timer_that_is_early_changes_nothing(bench: Bench) -> None:
    bench.put(Waiting(3, bench.now + 500))
    before = bench.member
    assert bench.tick(0) == [] and bench.member == before


@pytest.mark.parametrize("phase", ["boot", "active"])
def test_a_timer_that_nobody_asked_for_says_nothing(bench: Bench, phase: str) -> None:
    if phase == "boot":
        bench = Bench(TWO_DBS)
    else:
        bench.active(bench.actor("db"), bench.actor("db"))
        bench.tick()
    before = bench.member.phase
    assert bench.tick(1) == [] and bench.member.phase is before


# Entropy.


@pytest.mark.parametrize("entropy", [b"", bytes(64), bytes([7]) * 64, bytes(range(63)), bytes(range(65))])
def test_O4_entropy_that_is_short_long_or_constant_fences(bench: Bench, entropy: bytes) -> None:
    fences = of(bench.event(Timer(entropy)), Fence)
    assert [f.mismatch.reason for f in fences] == [Reason.ENTROPY] and bench.phase == "fenced"


def test_O4_the_check_of_entropy_leaves_room_for_chance(bench: Bench) -> None:
    bench.event(Timer(bytes(range(8)) * 8))
    assert bench.phase == "gathering"
    assert of(bench.event(Timer(bytes(range(7)) * 9 + b"\0")), Fence)


def test_one_half_of_the_entropy_is_shown_and_the_other_is_the_secret_of_questions() -> None:
    start = Bench(TWO_DBS)
    start.appraise(start.quote(start.effects))
    start.event(Timer(bytes(range(64))))
    attempt = attempt_of(start.member.phase)
    assert attempt is not None and attempt.hello.nonce == bytes(range(32))
    assert attempt.ping_secret == start.member.beat_secret == bytes(range(32, 64))


def test_F4_what_was_made_of_entropy_and_kept_secret_is_in_no_representation() -> None:
    bench = Bench().gathering()
    attempt = attempt_of(bench.member.phase)
    assert attempt is not None and attempt.ping_secret and bench.member.beat_secret
    shown = repr(bench.member)
    assert repr(attempt.hello.nonce) in shown, "which is said to everybody"
    for secret in (attempt.ping_secret, bench.member.beat_secret):
        assert repr(secret) not in shown


# Saying it again.


def test_gathering_repeats_introduction_and_pings(bench: Bench) -> None:
    a = bench.actor("db")
    bench.meet(a)
    effects = bench.tick()
    (announced,) = of(effects, Announce)
    assert kinds(effects, a.iid) == ["ping"]
    assert announced.known == set(bench.member.peers[a.iid].hello.addresses)  # it is told when it is silent
    stranger = bench.actor("db")
    bench.receive(stranger.introduction())
    (announced,) = of(bench.tick(), Announce)
    assert announced.known == set(bench.member.peers[a.iid].hello.addresses)
    assert deadline(bench.member) == bench.now + 1_000


def test_a_candidate_ahead_of_us_is_followed_at_the_next_repetition(bench: Bench) -> None:
    """A higher attempt heard of while we could not follow: the repetition does."""
    actor = bench.actor("db")
    bench.meet(actor)
    peer = bench.member.peers[actor.iid]
    bench.member = bench.member.with_peer(replace(peer, hello=actor.new_hello(9)))
    assert bench.tick() == [] and bench.member.phase == Waiting(9, bench.now)


def test_L4_a_candidate_at_an_absurd_epoch_is_followed_once_in_a_while(bench: Bench) -> None:
    """64 epochs in each ping_ms at most, and no loop in between."""
    actor = bench.actor("db")
    actor.new_hello(1 << 50)
    bench.meet(actor)
    start, steps = bench.now, 0
    while bench.now < start + 10_000:
        bench.tick()
        steps += 1
    assert steps <= 22 and bench.member.last_epoch <= 1 + 12 * MAX_EPOCH_STEP


def test_proposed_repeats_the_proposal_too(bench: Bench) -> None:
    a, b = bench.actor("db"), bench.actor("db")
    bench.proposed(a, b)
    effects = bench.tick()
    assert kinds(effects, a.iid) == kinds(effects, b.iid) == ["ping", "propose"]


def test_committed_repeats_proposal_and_commit_where_they_may_be_lacking(bench: Bench) -> None:
    a, b = bench.actor("db"), bench.actor("db")
    manifest = bench.committed(a, b)
    bench.appraise(bench.quote(bench.last(Quote)))
    assert kinds(bench.tick(), a.iid) == ["propose", "commit"]
    bench.appraise(bench.receive(a.commit(manifest)))
    assert kinds(bench.tick(), a.iid) == ["commit"]
    bench.receive(a.sealed(manifest))
    effects = bench.tick()
    assert kinds(effects, a.iid) == [] and kinds(effects, b.iid) == ["propose", "commit"]


def test_committed_asks_a_sealed_member_for_the_commit_that_it_lacks(bench: Bench) -> None:
    a, b = bench.actor("db"), bench.actor("db")
    manifest = bench.committed(a, b)
    bench.appraise(bench.quote(bench.last(Quote)))
    bench.receive(a.sealed(manifest))
    assert kinds(bench.tick(), a.iid) == ["propose", "commit"]


def test_sealed_repeats_its_votes_to_whoever_has_not_sealed(bench: Bench) -> None:
    a, b = bench.actor("db"), bench.actor("db")
    manifest = bench.sealed(a, b)
    bench.tick()
    bench.receive(a.sealed(manifest))
    effects = bench.tick()
    assert kinds(effects, a.iid) == [] and kinds(effects, b.iid) == ["commit", "sealed"]


# Giving up.


def given_up(bench: Bench, times: int = 1) -> Waiting:
    """Fail so many attempts in a row at the proposal."""
    actors: list[Actor] = []
    for attempt in range(times):
        if not actors:
            actors = [bench.actor("db"), bench.actor("db")]
            bench.proposed(*actors)
        bench.now += 10_000
        bench.tick(0)
        phase = bench.member.phase
        assert isinstance(phase, Waiting)
        if attempt + 1 < times:
            bench.tick()
            for actor in actors:
                actor.new_hello(phase.epoch)
                bench.receive(actor.hello_message())
                bench.receive(bench.answer(actor, _last_ping(bench, actor)))
            assert bench.phase == "proposed"
    assert isinstance(bench.member.phase, Waiting)
    return bench.member.phase


def _last_ping(bench: Bench, actor: Actor) -> bytes:
    return [s.data for s in of(bench.effects, Send) if s.iid == actor.iid and kinds([s]) == ["ping"]][-1]


def test_a_failed_attempt_goes_to_the_next_number_after_a_back_off(bench: Bench) -> None:
    waiting = given_up(bench)
    assert waiting.epoch == 2 and 1_000 <= waiting.until - bench.now < 2_000


def test_R4_the_back_off_doubles_with_jitter_up_to_two_minutes(bench: Bench) -> None:
    for failures, low in ((1, 1_000), (2, 2_000), (3, 4_000), (6, 32_000), (7, 60_000), (40, 60_000)):
        other = Bench(TWO_DBS, quote_ms=5_000, attempt_ms=10_000).gathering()
        other.member = replace(other.member, failures=failures - 1)
        waiting = given_up(other)
        assert low <= waiting.until - other.now < 2 * low
        assert other.member.failures == failures


@pytest.mark.parametrize(
    ("failures", "chance", "pause"),
    [
        (1, 0, 1_000),
        (1, 0xFFFF, 1_999),
        (7, 0, 60_000),
        (7, 367, 60_335),  # 60 335.999
        (7, 0xFFFF, 119_999),
    ],
)
def test_R4_the_jitter_is_as_much_again_as_the_back_off_is_at_least(
    bench: Bench, failures: int, chance: int, pause: int
) -> None:
    bench.proposed(bench.actor("db"), bench.actor("db"))
    bench.member = replace(bench.member, failures=failures - 1)
    bench.now += 10_000
    bench.event(Timer(chance.to_bytes(2) + bench.entropy.randbytes(62)))
    assert bench.member.phase == Waiting(2, bench.now + pause)


def test_each_attempt_has_its_own_number_and_nonce(bench: Bench) -> None:
    waiting = given_up(bench, times=3)
    assert waiting.epoch == 4
    nonces = {a.nonce for a in _hellos(bench)}
    assert len(nonces) == 3


def _hellos(bench: Bench) -> list[wire.Hello]:
    found = []
    for announce in of(bench.effects, Announce):
        body = wire.Envelope.FromString(announce.messages[0]).introduction.hello.body
        found.append(wire.Hello.FromString(body))
    return found


@pytest.mark.parametrize(("silent", "told"), [(0, "hello"), (1, "hello"), (2, "introduction")])
def test_L4_a_new_attempt_is_told_once_and_with_our_identity_to_who_does_not_answer(
    bench: Bench, silent: int, told: str
) -> None:
    """However fast attempts follow each other: an Introduction carries the HELLO."""
    a = bench.actor("db")
    bench.meet(a)
    peer = bench.member.peers[a.iid]
    bench.member = bench.member.with_peer(replace(peer, greeted=True, silent=silent))
    bench.put(Waiting(2, bench.now))
    assert kinds(bench.tick(0), a.iid) == [told]
    assert kinds(bench.tick(1_000), a.iid) == ["introduction"]


def test_others_in_a_higher_attempt_are_joined_not_overtaken(bench: Bench) -> None:
    a, b = bench.actor("db"), bench.actor("db")
    bench.committed(a, b)
    newcomer = bench.actor("web")
    newcomer.new_hello(7)
    bench.appraise(bench.receive(newcomer.introduction()))
    bench.tick(15_000)
    assert bench.member.phase == Waiting(7, bench.now) and bench.member.failures == 1


def test_nothing_of_an_attempt_counts_in_the_next_one(bench: Bench) -> None:
    a, b = bench.actor("db"), bench.actor("db")
    manifest = bench.committed(a, b)
    bench.receive(a.commit(manifest))
    bench.receive(a.sealed(manifest))
    before = bench.member.peers[a.iid]
    lost: dict[str, Any] = {
        "pings": 0,
        "pong_at": None,
        "proposed": None,
        "commit": None,
        "sealed": None,
        "seal": b"",
    }
    assert before.greeted and all(getattr(before, name) != value for name, value in lost.items())
    bench.put(Waiting(2, bench.now))
    bench.tick(0)
    assert bench.member.peers[a.iid] == replace(before, **lost, silent=before.silent + 1)


def test_L4_a_failed_attempt_never_jumps_by_more_than_the_step(bench: Bench) -> None:
    a, b = bench.actor("db"), bench.actor("db")
    bench.committed(a, b)
    newcomer = bench.actor("web")
    newcomer.new_hello(1 << 40)
    bench.appraise(bench.receive(newcomer.introduction()))
    bench.tick(15_000)
    assert bench.member.phase == Waiting(1 + MAX_EPOCH_STEP, bench.now)


def test_a_sealed_genesis_that_never_becomes_active_fences(bench: Bench) -> None:
    bench.sealed(bench.actor("db"), bench.actor("db"))
    effects = bench.tick(10_000)
    assert [f.mismatch.reason for f in of(effects, Fence)] == [Reason.NOT_ACTIVE]
    assert bench.phase == "fenced" and bench.member.peers == {}


def test_a_sealed_genesis_that_a_member_of_it_goes_on_from_is_not_given_up(bench: Bench) -> None:
    """It became active there: the next attempt of ours follows it too. What others than its members say of
    it counts for nothing.
    """
    for follower in ("member", "stranger"):
        mesh = Bench(TWO_DBS, ping_ms=60_000, quote_ms=5_000, attempt_ms=10_000, **SELDOM).gathering()
        a, b, stranger = mesh.actor("db"), mesh.actor("db"), mesh.actor("db")
        manifest = mesh.sealed(a, b)
        if follower == "member":
            b.new_hello(2, previous=manifest.digest)
            mesh.receive(b.hello_message())
        else:
            stranger.new_hello(2, previous=manifest.digest)
            mesh.appraise(mesh.receive(stranger.introduction()))
        fenced = of(mesh.tick(10_000), Fence)
        assert (mesh.phase, len(fenced)) == (("waiting", 0) if follower == "member" else ("fenced", 1))


def test_L1_a_later_seal_that_never_becomes_active_begins_another_attempt_after_itself(bench: Bench) -> None:
    a, b = bench.actor("db"), bench.actor("db")
    serving = bench.active(a, b)
    sealed = bench.sealed(a, b)
    effects = bench.tick(10_000)
    assert bench.member.phase == Waiting(3, bench.now) and not of(effects, Fence)
    bench.tick(0)
    attempt = attempt_of(bench.member.phase)
    assert attempt is not None and (attempt.epoch, attempt.previous) == (3, sealed.digest)
    assert bench.member.serving is not None and bench.member.serving.manifest == serving


def test_L1_that_attempt_is_the_highest_which_others_are_in(bench: Bench) -> None:
    a, b, newcomer = bench.actor("db"), bench.actor("db"), bench.actor("db")
    bench.active(a, b)
    bench.sealed(a, b)
    newcomer.new_hello(9)
    bench.appraise(bench.receive(newcomer.introduction()))
    bench.tick(10_000)
    assert bench.member.phase == Waiting(9, bench.now)


def test_O3_a_clock_that_jumps_only_ends_things_early(bench: Bench) -> None:
    """A pause longer than every deadline: the first Timer afterwards gives up, nothing is accepted."""
    bench.committed(bench.actor("db"), bench.actor("db"))
    bench.tick(10_000_000)
    assert bench.phase == "waiting"


# After a certificate.


def test_L1_an_attempt_whose_predecessor_nobody_can_carry_any_more_gives_way_to_another(bench: Bench) -> None:
    """It was adopted while its members answered. They are gone: the next one follows what we sealed."""
    a, b = bench.actor("db"), bench.actor("db")
    manifest = bench.active(a, b)
    child = link(bench.member.chain[manifest.digest], 2, [a, b])
    bench.hold(child)
    bench.tick()
    bench.tick(0)
    attempt = attempt_of(bench.member.phase)
    assert attempt is not None and attempt.previous == child.digest
    bench.tick(bench.signed.topology.timers.lease_ms + 1)
    assert bench.member.phase == Waiting(attempt.epoch + 1, bench.now)
    bench.tick(0)
    following = attempt_of(bench.member.phase)
    assert following is not None and following.previous == manifest.digest


def test_S8_an_attempt_is_above_what_it_follows(bench: Bench) -> None:
    a, b = bench.actor("db"), bench.actor("db")
    bench.meet(a, b)
    bench.hold(link(None, 40, [a, b]))
    bench.put(Waiting(2, bench.now))
    bench.tick(0)
    attempt = attempt_of(bench.member.phase)
    assert attempt is not None and attempt.epoch == 41


def test_whoever_shows_a_round_that_we_can_follow_ends_the_back_off(bench: Bench) -> None:
    a, b = bench.actor("db"), bench.actor("db")
    manifest = bench.active(a, b)
    pause = Waiting(9, bench.now + 60_000)
    bench.put(pause)
    a.new_hello(5, previous=bytes([1]) * 48)
    bench.receive(a.hello_message())
    assert bench.member.phase == pause
    b.new_hello(5, previous=manifest.digest)
    bench.receive(b.hello_message())
    assert bench.member.phase == Waiting(9, bench.now)


def test_a_member_that_is_blocked_begins_no_round_however_old_its_seal(bench: Bench) -> None:
    bench.active(bench.actor("db"), bench.actor("db"))
    bench.member = replace(bench.member, blocked=MISMATCH)
    bench.tick(bench.signed.topology.timers.reattest_ms)
    assert bench.phase == "active"


def test_the_age_of_the_seal_begins_a_round_and_newcomers_are_told(bench: Bench) -> None:
    a, b = bench.actor("db"), bench.actor("db")
    manifest = bench.active(a, b)
    bench.tick(bench.signed.topology.timers.reattest_ms)
    attempt = attempt_of(bench.member.phase)
    assert attempt is not None and (attempt.epoch, attempt.previous) == (2, manifest.digest)
    assert "hello" in kinds(bench.effects, a.iid)
