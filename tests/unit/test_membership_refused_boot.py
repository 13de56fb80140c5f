"""Whose own evidence the topology does not accept waits, closed and silent, for one that does (4.7)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.actors import Bench, kinds, of

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.errors import Mismatch, Reason
from toposeal.limits import MAX_ENVELOPE_SIZE
from toposeal.membership import outbox
from toposeal.membership.events import (
    Alarm,
    Announce,
    Appraise,
    Appraised,
    Fence,
    Refused,
    Send,
    Subject,
    Ticket,
    Timer,
)
from toposeal.membership.machine import deadline
from toposeal.membership.sealed import join_of
from toposeal.membership.state import Boot, Gathering, Waiting
from toposeal.membership.waiting import waits
from toposeal.topology.accept import SignedTopology
from toposeal.verification.model import VerifiedEvidence
from toposeal_lab.simulation.symbolic import signed_topology

ROLES = {"db": (1, 1), "web": (1, 1)}
QUORUM, ATTEMPT = 20_000, 5_000
TIMERS: dict[str, Any] = {
    "view_ms": 50,
    "ping_ms": 1_000,
    "quote_ms": ATTEMPT,
    "attempt_ms": ATTEMPT,
    "quorum_ms": QUORUM,
}


def version(number: int, *wrong: str) -> SignedTopology:
    return signed_topology(ROLES, version=number, wrong=wrong, **TIMERS)


def message(signed: SignedTopology) -> bytes:
    return encode(wire.Envelope(topology=signed.envelope))


@pytest.fixture
def refused() -> Bench:
    """`web`, by a topology in which its own reference value is wrong."""
    bench = Bench(ROLES, wrong=("web",), **TIMERS)
    bench.appraise(bench.quote(bench.effects))
    return bench


def test_it_is_told_to_the_operator_and_to_nobody_else(refused: Bench) -> None:
    (alarm,) = of(refused.effects, Alarm)
    assert alarm.mismatch.reason is Reason.MEASUREMENT
    assert of(refused.effects, Fence) == [] and kinds(refused.effects) == []
    assert refused.member.phase == Boot(alarm.mismatch, refused.now)
    assert waits(refused.member, refused.now) == (alarm.mismatch,)


def test_T4_a_newer_topology_that_admits_it_makes_it_a_member(refused: Bench) -> None:
    refused.appraise(refused.receive(message(version(8))))
    assert refused.member.phase == Waiting(1, refused.now)
    refused.tick()
    assert isinstance(refused.member.phase, Gathering)


def test_one_that_does_not_changes_the_reason_and_gives_no_more_time(refused: Bench) -> None:
    since = refused.now
    refused.now += 5_000
    refused.appraise(refused.receive(message(version(8, "web"))))
    phase = refused.member.phase
    assert isinstance(phase, Boot) and phase.refused is not None and phase.since == since
    assert of(refused.tick(since + QUORUM - refused.now), Fence)


def test_it_looks_at_its_evidence_again_when_it_is_time_however_long_its_guest_is_up(refused: Bench) -> None:
    phase, ago = refused.member.phase, 10 * QUORUM
    assert isinstance(phase, Boot)
    refused.now += ago
    again = replace(refused.member, phase=replace(phase, since=refused.now))
    refused.member = replace(again, resend_at=refused.member.resend_at + ago)
    assert refused.tick(ATTEMPT - 1) == []
    assert len(of(refused.tick(1), Appraise)) == 1


def test_T3_only_the_owners_counts_and_none_that_is_older(refused: Bench) -> None:
    before = refused.member
    foreign = signed_topology(ROLES, version=9, owner_seed=2, **TIMERS)
    assert refused.refuse(message(foreign)).reason in (
        Reason.TOPOLOGY_THRESHOLD,
        Reason.TOPOLOGY_SIGNATURE,
    )
    assert refused.refuse(message(version(6))).reason is Reason.TOPOLOGY_ROLLBACK
    assert refused.member is before


def test_when_none_has_come_it_fences_with_the_reason(refused: Bench) -> None:
    (alarm,) = of(refused.effects, Alarm)
    assert of(refused.tick(QUORUM - 1), Fence) == []
    assert refused.tick(1) == [Fence(alarm.mismatch)]


def test_it_is_looked_at_again_and_what_is_known_is_not_told_twice(refused: Bench) -> None:
    since = refused.now
    for number in (1, 2):
        assert deadline(refused.member) == since + number * ATTEMPT
        assert refused.tick(ATTEMPT - 1) == []
        looked = refused.tick(1)
        assert [a.ticket.iid for a in of(looked, Appraise)] == [refused.own.iid]
        refused.appraise(looked)
    assert len(of(refused.effects, Alarm)) == 1
    (looked_at,) = of(refused.tick(ATTEMPT), Appraise)
    own = refused.own.identity
    verified = VerifiedEvidence("tdx", "web", join_of(own), "UpToDate", (), bytes(16), 1 << 40)
    refused.event(Appraised(looked_at.ticket, verified))
    assert refused.phase == "waiting"


def test_the_last_look_is_when_its_time_is_over(refused: Bench) -> None:
    refused.member = replace(refused.member, resend_at=1 << 40)
    assert deadline(refused.member) == refused.now + QUORUM


def test_who_waits_for_its_first_verdict_has_no_deadline() -> None:
    bench = Bench(ROLES, **TIMERS)
    assert deadline(bench.member) is None
    bench.now += QUORUM
    assert bench.event(Timer(bytes(range(64)))) == [] and isinstance(bench.member.phase, Boot)


@pytest.mark.parametrize(
    "reason", [Reason.TD_DEBUG, Reason.REPORT_DATA, Reason.COLLATERAL_MISSING, Reason.RTMR3_INSTANCE]
)
def test_what_no_topology_can_change_fences_at_once(reason: Reason) -> None:
    bench = Bench(ROLES, **TIMERS)
    bench.quote(bench.effects)
    mismatch = Mismatch(reason, "field", "found", "expected")
    ticket = Ticket(Subject.JOIN, bench.own.iid, bench.own.identity.id_digest, bench.signed.topology.digest)
    assert bench.event(Refused(ticket, mismatch)) == [Fence(mismatch)]


# How it comes to those that are silent.


def test_a_newer_topology_is_announced_until_something_is_served_under_it() -> None:
    bench = Bench(ROLES, wrong=("db",), **TIMERS).gathering()
    actor = bench.actor("db")
    (before,) = of(bench.tick(1_000), Announce)
    assert len(before.messages) == 1
    effects = bench.receive(message(version(8)))
    bench.appraise(effects)
    (announced,) = of(bench.tick(), Announce)
    assert announced.messages[1:] == (message(version(8)),)
    bench.signed = version(8)
    actor.own = replace(actor.own, topology=version(8))
    actor.new_hello(bench.member.last_epoch)
    bench.active(actor)
    assert bench.member.adopted == ()
    assert [len(a.messages) for a in outbox.announce(bench.member, b"x") if isinstance(a, Announce)] == [1]


def test_one_that_fits_into_no_envelope_is_not() -> None:
    bench = Bench(ROLES, **TIMERS).gathering()
    bench.receive(message(version(8)))
    large = replace(version(8), envelope=bytes(MAX_ENVELOPE_SIZE))
    bench.member = replace(bench.member, own=replace(bench.member.own, topology=large))
    (announced,) = of(bench.tick(), Announce)
    assert len(announced.messages) == 1


def test_who_was_told_directly_tells_a_member_that_refused_it() -> None:
    """Version 7 refuses db; db was given version 8 and introduces itself to web, which is shown it."""
    bench = Bench(ROLES, role="db", wrong=("db",), **TIMERS)
    bench.appraise(bench.quote(bench.effects))
    bench.appraise(bench.receive(message(version(8))))
    bench.tick()
    web = bench.actor("web")
    effects = bench.appraise(bench.receive(web.introduction()))
    assert "topology" in kinds(effects, web.iid)
    assert of(effects, Send) and of(effects, Appraise) == []
