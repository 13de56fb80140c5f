"""Time: what each phase waits for, what it says again, and when it gives up (6.3)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.actors import Actor, Bench, kinds, of

from toposeal._wire import peer_pb2 as wire
from toposeal.errors import Reason
from toposeal.limits import MAX_EPOCH_STEP
from toposeal.membership.events import Announce, Fence, Quote, Send, Timer
from toposeal.membership.machine import deadline
from toposeal.membership.state import Waiting

TWO_DBS = {"db": (2, 2), "web": (1, 1)}
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
    a, b = bench.actor("db"), bench.actor("db")
    found = {}
    for phase in ("proposed", "committed", "sealed"):
        mesh = Bench(TWO_DBS, ping_ms=60_000, quote_ms=5_000, attempt_ms=10_000).gathering()
        getattr(mesh, phase)(mesh.actor("db"), mesh.actor("db"))
        found[phase] = (deadline(mesh.member) or 0) - mesh.now
    assert found == {"proposed": 10_000, "committed": 15_000, "sealed": 10_000}
    bench.active(a, b)
    assert deadline(bench.member) is None


def test_P9_a_member_that_stalls_after_each_message_delays_but_never_holds_the_others() -> None:
    """Whatever the last message was: without another one the attempt ends by itself."""
    for phase, ends in (("proposed", "waiting"), ("committed", "waiting"), ("sealed", "fenced")):
        bench = Bench(TWO_DBS, ping_ms=60_000, attempt_ms=1_000, quote_ms=1_000).gathering()
        getattr(bench, phase)(bench.actor("db"), bench.actor("db"))
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


def test_F4_entropy_is_in_no_representation() -> None:
    assert repr(Timer(bytes(range(64)))) == "Timer()"


# Saying it again.


def test_gathering_repeats_introduction_and_pings(bench: Bench) -> None:
    a = bench.actor("db")
    bench.meet(a)
    effects = bench.tick()
    assert len(of(effects, Announce)) == 1 and kinds(effects, a.iid) == ["ping"]
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


def test_each_attempt_has_its_own_number_and_nonce(bench: Bench) -> None:
    waiting = given_up(bench, times=3)
    assert waiting.epoch == 4
    nonces = {a.nonce for a in _hellos(bench)}
    assert len(nonces) == 3


def _hellos(bench: Bench) -> list[wire.Hello]:
    found = []
    for announce in of(bench.effects, Announce):
        body = wire.Envelope.FromString(announce.data).introduction.hello.body
        found.append(wire.Hello.FromString(body))
    return found


def test_others_in_a_higher_attempt_are_joined_not_overtaken(bench: Bench) -> None:
    a, b = bench.actor("db"), bench.actor("db")
    bench.committed(a, b)
    newcomer = bench.actor("web")
    newcomer.new_hello(7)
    bench.appraise(bench.receive(newcomer.introduction()))
    bench.tick(15_000)
    assert bench.member.phase == Waiting(7, bench.now)


def test_L4_a_failed_attempt_never_jumps_by_more_than_the_step(bench: Bench) -> None:
    a, b = bench.actor("db"), bench.actor("db")
    bench.committed(a, b)
    newcomer = bench.actor("web")
    newcomer.new_hello(1 << 40)
    bench.appraise(bench.receive(newcomer.introduction()))
    bench.tick(15_000)
    assert bench.member.phase == Waiting(1 + MAX_EPOCH_STEP, bench.now)


def test_a_sealed_member_that_never_becomes_active_fences(bench: Bench) -> None:
    bench.sealed(bench.actor("db"), bench.actor("db"))
    effects = bench.tick(10_000)
    assert [f.mismatch.reason for f in of(effects, Fence)] == [Reason.NOT_ACTIVE]
    assert bench.phase == "fenced" and bench.member.peers == {}


def test_O3_a_clock_that_jumps_only_ends_things_early(bench: Bench) -> None:
    """A pause longer than every deadline: the first Timer afterwards gives up, nothing is accepted."""
    bench.committed(bench.actor("db"), bench.actor("db"))
    bench.tick(10_000_000)
    assert bench.phase == "waiting"
