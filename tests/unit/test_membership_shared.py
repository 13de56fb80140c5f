"""Who shares a confidential VM or a GPU is nobody's candidate; who has merely died in one harms nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from support.actors import Actor, Bench, of

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.errors import Reason
from toposeal.limits import MAX_GPU_CHAIN_SIZE
from toposeal.membership.candidates import select
from toposeal.membership.events import Alarm, Appraise, Appraised, Effect, Fence, Quote, Send
from toposeal.membership.state import attempt_of
from toposeal.verification.model import GpuDevice
from toposeal_lab.simulation.network import sent_kind
from toposeal_lab.simulation.symbolic import symbolic_appraisal

PING_MS = 1_000
GUEST, OTHER = bytes([1]) * 32, bytes([2]) * 32
GPU = GpuDevice("GH100", bytes([3]) * 32, "550", "96", 1 << 40)


@pytest.fixture
def bench() -> Bench:
    return Bench({"db": (1, 3), "web": (1, 3)}, ping_ms=PING_MS).gathering()


def judged(bench: Bench, effects: Sequence[Effect], **said: object) -> list[Effect]:
    """Every appraisal among `effects` answered, with `said` in the verdict."""
    found: list[Effect] = []
    for effect in of(effects, Appraise):
        verdict = symbolic_appraisal(effect)
        assert isinstance(verdict, Appraised)
        found += bench.event(replace(verdict, verified=replace(verdict.verified, **said)))  # type: ignore[arg-type]
    return found


def admit(bench: Bench, actor: Actor, **said: object) -> list[Effect]:
    return judged(bench, bench.receive(actor.introduction()), **said)


def live(bench: Bench, actor: Actor, **said: object) -> list[Effect]:
    """Admitted, and it has answered the PING: only whoever holds the boot's key can."""
    effects = admit(bench, actor, **said)
    pings = [s for s in of(effects, Send) if s.iid == actor.iid and sent_kind(s.data) == "ping"]
    bench.receive(bench.answer(actor, pings[0].data))
    return effects


def chosen(bench: Bench) -> set[bytes]:
    attempt = attempt_of(bench.member.phase)
    assert attempt is not None
    selection = select(bench.member, attempt, bench.now)
    return set() if selection is None else set(selection.iids) - {bench.own.iid}


def alarms(effects: Sequence[Effect]) -> list[Reason]:
    return [alarm.mismatch.reason for alarm in of(effects, Alarm)]


@pytest.mark.parametrize("shared", [{"guest": GUEST}, {"gpus": (GPU,)}], ids=["guest", "gpu"])
def test_two_live_instances_that_share_something_are_nobodys_candidates(
    bench: Bench, shared: dict[str, object]
) -> None:
    apart, one, two = (bench.actor("db") for _ in range(3))
    live(bench, apart, guest=OTHER)
    assert alarms(live(bench, one, **shared)) == []
    assert chosen(bench) == {apart.iid, one.iid}
    assert Reason.SHARED_CVM in alarms(live(bench, two, **shared))
    assert chosen(bench) == {apart.iid}


def test_one_thing_shared_is_enough_whatever_else_is_their_own(bench: Bench) -> None:
    one, two = (bench.actor("db") for _ in range(2))
    live(bench, one, guest=GUEST, gpus=(GPU,))
    assert chosen(bench) == {one.iid}
    live(bench, two, guest=OTHER, gpus=(GPU,))
    assert chosen(bench) == set()


@pytest.mark.parametrize("shared", [{"guest": GUEST}, {"gpus": (GPU,)}], ids=["guest", "gpu"])
@pytest.mark.parametrize("dead_first", [True, False])
def test_P4_a_dead_boot_that_anybody_may_replay_costs_the_living_nothing(
    bench: Bench, shared: dict[str, object], dead_first: bool
) -> None:
    """Its introduction is genuine and was recorded; its PONG cannot be made without its key."""
    honest, dead = bench.actor("db"), bench.actor("db")
    steps = [(live, honest), (admit, dead)]
    for step, actor in reversed(steps) if dead_first else steps:
        step(bench, actor, **shared)
    assert chosen(bench) == {honest.iid}


def test_a_boot_that_was_live_a_moment_ago_gives_way_to_its_successor(bench: Bench) -> None:
    """A container that starts again in its guest: both count until the old one has missed its pings."""
    old, new = bench.actor("db"), bench.actor("db")
    live(bench, old, guest=GUEST)
    bench.now += 2 * PING_MS
    live(bench, new, guest=GUEST)
    assert chosen(bench) == set()
    bench.now += PING_MS + 1
    assert chosen(bench) == {new.iid}


def test_P4_the_alarm_says_that_it_may_be_a_dead_boot_that_is_replayed(bench: Bench) -> None:
    """Whoever is told cannot know yet which of the two it is: only a PONG that never comes will say."""
    honest, dead = bench.actor("db"), bench.actor("db")
    live(bench, honest, guest=GUEST)
    told = [alarm.mismatch for alarm in of(admit(bench, dead, guest=GUEST), Alarm)]
    assert [mismatch.reason for mismatch in told] == [Reason.SHARED_CVM]
    assert "a second pod" in told[0].found
    assert "an earlier boot, perhaps replayed" in told[0].found


def test_what_is_ours_can_be_nobody_elses() -> None:
    bench = Bench({"db": (1, 3), "web": (1, 3)}, ping_ms=PING_MS)
    judged(bench, bench.quote(bench.effects), guest=GUEST)
    bench.tick()
    ours, apart = bench.actor("db"), bench.actor("db")
    live(bench, apart, guest=OTHER)
    assert Reason.SHARED_CVM in alarms(live(bench, ours, guest=GUEST))
    assert chosen(bench) == {apart.iid}


@pytest.mark.parametrize("moved", [{"guest": OTHER}, {"platform": bytes([9]) * 16}, {"tee": "snp"}])
def test_E1_seal_evidence_from_elsewhere_than_join_evidence_is_refused(
    bench: Bench, moved: dict[str, object]
) -> None:
    actor = bench.actor("db")
    live(bench, actor, guest=GUEST)
    bench.tick(bench.signed.topology.timers.view_ms)
    manifest = bench.manifest(actor)
    bench.receive(actor.propose(manifest))
    bench.appraise(bench.quote(bench.last(Quote)))
    commit = bench.receive(actor.commit(manifest))
    effects = judged(bench, commit, **{"guest": GUEST, **moved})
    assert alarms(effects) == [Reason.IDENTITY_MISMATCH] and not of(effects, Fence)
    assert bench.phase == "committed"
    again = bench.receive(actor.commit(manifest))
    judged(bench, again, guest=GUEST)
    assert bench.phase == "sealed"


def test_E18_a_hello_names_the_devices_that_came_with_it(bench: Bench) -> None:
    actor = bench.actor("db")
    message = actor.introduction_message()
    message.join.gpus.add(report=b"r", chain=b"c")
    error = bench.refuse(encode(wire.Envelope(introduction=message)))
    assert (error.reason, error.mismatches[0].field) == (Reason.IDENTITY_MISMATCH, "hello.aux_digest")
    message.join.gpus[0].chain = bytes(MAX_GPU_CHAIN_SIZE + 1)
    assert bench.refuse(encode(wire.Envelope(introduction=message))).reason is Reason.TOO_LARGE
