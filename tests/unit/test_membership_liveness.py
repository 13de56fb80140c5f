"""PING and PONG: proof of life for this attempt, and silence where nobody should count on us (4.3)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.actors import Actor, Bench, kinds, of

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.errors import Reason
from toposeal.membership.events import Send
from toposeal_lab.simulation.symbolic import signed_topology

ROLES = {"db": (1, 2), "web": (1, 2)}


@pytest.fixture
def bench() -> Bench:
    return Bench(ROLES, ping_ms=1_000).gathering()


def test_only_the_answer_to_a_ping_of_this_attempt_counts(bench: Bench) -> None:
    actor = bench.actor("db")
    effects = bench.appraise(bench.receive(actor.introduction()))
    ping = next(s.data for s in of(effects, Send) if kinds([s]) == ["ping"])
    for wrong in (
        actor.pong(bench.own.iid, bytes([1]) * 32),
        actor.pong(bench.own.iid, wire.Ping.FromString(wire.Envelope.FromString(ping).ping.body).nonce, 2),
    ):
        assert bench.refuse(wrong).reason is Reason.STALE_ATTEMPT
    bench.receive(bench.answer(actor, ping))
    assert bench.member.peers[actor.iid].pong_at == bench.now


def test_P4_an_answer_of_an_earlier_attempt_is_stale_although_the_epoch_fits(bench: Bench) -> None:
    actor = bench.actor("db")
    bench.meet(actor)
    old = _ping_to(bench, actor)
    actor.new_hello(2)
    bench.receive(actor.hello_message())
    bench.tick()
    assert bench.refuse(bench.answer(actor, old)).reason is Reason.STALE_ATTEMPT
    bench.receive(bench.answer(actor, _ping_to(bench, actor)))


def test_the_answer_to_the_first_ping_counts_after_the_second(bench: Bench) -> None:
    actor = bench.actor("db")
    bench.appraise(bench.receive(actor.introduction()))
    first = _ping_to(bench, actor)
    bench.tick()
    assert _ping_to(bench, actor) != first
    bench.receive(bench.answer(actor, first))
    assert bench.member.peers[actor.iid].pong_at == bench.now


def test_a_slow_answer_counts_for_three_pings(bench: Bench) -> None:
    actor = bench.actor("db")
    bench.meet(actor)
    old = _ping_to(bench, actor)
    for _ in range(2):
        bench.tick()
    bench.receive(bench.answer(actor, old))
    bench.tick()
    assert bench.refuse(bench.answer(actor, old)).reason is Reason.STALE_ATTEMPT


@pytest.mark.parametrize("kind", ["ping", "pong"])
def test_P7_liveness_of_ourselves_of_strangers_and_for_others(bench: Bench, kind: str) -> None:
    a, b, stranger = bench.actor("db"), bench.actor("db"), bench.actor("db")
    bench.meet(a, b)
    own = Actor(bench.own, bench.entropy)
    nonce = bytes([3]) * 32

    def message(actor: Actor, receiver: bytes) -> bytes:
        return actor.ping(receiver, nonce) if kind == "ping" else actor.pong(receiver, nonce)

    assert bench.refuse(message(own, a.iid)).reason is Reason.REFLECTED
    assert bench.refuse(message(stranger, bench.own.iid)).reason is Reason.UNKNOWN_MEMBER
    assert bench.refuse(message(a, b.iid)).reason is Reason.IDENTITY_MISMATCH
    envelope = wire.Envelope.FromString(message(a, bench.own.iid))
    signed = getattr(envelope, kind)
    signed.signature = getattr(wire.Envelope.FromString(message(b, bench.own.iid)), kind).signature
    assert bench.refuse(encode(envelope)).reason is Reason.SIGNATURE_INVALID


def test_a_ping_is_answered_and_asks_back_until_we_know(bench: Bench) -> None:
    actor = bench.actor("db")
    bench.appraise(bench.receive(actor.introduction()))
    assert kinds(bench.receive(actor.ping(bench.own.iid))) == ["pong", "ping"]
    assert kinds(bench.receive(actor.ping(bench.own.iid))) == ["pong"]
    bench.receive(bench.answer(actor, _ping_to(bench, actor)))
    assert kinds(bench.receive(actor.ping(bench.own.iid))) == ["pong"]


def test_who_has_answered_once_is_not_asked_back(bench: Bench) -> None:
    actor = bench.actor("db")
    bench.meet(actor)
    assert bench.member.peers[actor.iid].pings == 1
    assert kinds(bench.receive(actor.ping(bench.own.iid))) == ["pong"]


def test_who_has_committed_asks_nobody_back(bench: Bench) -> None:
    """An answer would be stale: that everybody lived was decided before."""
    actor = bench.actor("db")
    bench.committed(actor)
    peer = bench.member.peers[actor.iid]
    bench.member = bench.member.with_peer(replace(peer, pings=0, pong_at=None))
    assert kinds(bench.receive(actor.ping(bench.own.iid))) == ["pong"]


def test_a_ping_from_another_epoch_is_answered_but_not_asked_back(bench: Bench) -> None:
    ahead, behind = bench.actor("db"), bench.actor("db")
    ahead.new_hello(4)
    bench.meet(ahead)
    bench.tick()
    bench.appraise(bench.receive(behind.introduction()))
    assert kinds(bench.receive(behind.ping(bench.own.iid))) == ["pong"]


def test_after_a_commitment_only_its_members_may_count_on_us(bench: Bench) -> None:
    member, outsider = bench.actor("db"), bench.actor("web")
    bench.committed(member)
    bench.appraise(bench.receive(outsider.introduction()))
    assert kinds(bench.receive(member.ping(bench.own.iid))) == ["pong"]
    assert bench.receive(outsider.ping(bench.own.iid)) == []


def test_whoever_may_not_commit_is_silent(bench: Bench) -> None:
    actor = bench.actor("db")
    bench.meet(actor)
    other = signed_topology(ROLES, version=7, issued_at=1)
    bench.receive(encode(wire.Envelope(topology=other.envelope)))
    assert bench.receive(actor.ping(bench.own.iid)) == []


def test_P5_nothing_is_sent_to_a_stranger(bench: Bench) -> None:
    """Not even PONG: before its evidence is verified its addresses are an attacker's."""
    stranger = bench.actor("db")
    bench.receive(stranger.introduction())
    assert bench.receive(stranger.ping(bench.own.iid)) == []
    stranger.new_hello(2)
    assert bench.receive(stranger.hello_message()) == []
    for _ in range(3):
        assert kinds(bench.tick(), stranger.iid) == []
    for data in (
        stranger.pong(bench.own.iid, bytes([1]) * 32),
        stranger.propose(bench.manifest(stranger)),
        stranger.commit(bench.manifest(stranger)),
    ):
        assert bench.refuse(data).reason is Reason.UNKNOWN_MEMBER


def test_a_ping_before_admission_is_answered_at_admission(bench: Bench) -> None:
    actor = bench.actor("db")
    first = bench.receive(actor.introduction())
    bench.receive(actor.ping(bench.own.iid, bytes([5]) * 32))
    admitted = bench.appraise(first)
    assert kinds(admitted) == ["introduction", "pong", "ping"]
    pong = next(s for s in of(admitted, Send) if wire.Envelope.FromString(s.data).HasField("pong"))
    body = wire.Pong.FromString(wire.Envelope.FromString(pong.data).pong.body)
    assert (body.nonce, body.receiver) == (bytes([5]) * 32, actor.iid)


def _ping_to(bench: Bench, actor: Actor) -> bytes:
    sends = [s for s in of(bench.effects, Send) if s.iid == actor.iid and kinds([s]) == ["ping"]]
    return sends[-1].data
