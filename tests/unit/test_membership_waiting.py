"""What a member says that it waits for, phase by phase."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.actors import Bench, of

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.errors import Mismatch, Reason
from toposeal.limits import DECLINED_MEMORY, MAX_DECLINED, MAX_MISMATCHES
from toposeal.membership.events import Quote, Refused, Subject, Ticket
from toposeal.membership.state import Committed
from toposeal.membership.waiting import waits
from toposeal_lab.simulation.symbolic import signed_topology

ROLES = {"db": (2, 2), "web": (1, 1)}


@pytest.fixture
def bench() -> Bench:
    return Bench(ROLES)


def said(bench: Bench) -> list[tuple[Reason, str]]:
    return [(m.reason, m.field) for m in waits(bench.member, bench.now)]


def test_before_its_evidence_is_verified_it_waits_for_that_alone(bench: Bench) -> None:
    assert said(bench) == [(Reason.NOT_ACTIVE, "join")]


def test_gathering_it_waits_for_members_of_a_role(bench: Bench) -> None:
    bench.gathering()
    bench.meet(bench.actor("db"))
    bench.appraise(bench.receive(bench.actor("db").introduction()))  # admitted, and silent
    (mismatch,) = waits(bench.member, bench.now)
    assert (mismatch.reason, mismatch.field) == (Reason.MANIFEST_BOUNDS, "roles.db")
    assert (mismatch.found, mismatch.expected) == ("1 within reach", "at least 2")


def test_it_waits_for_a_choice_that_could_follow(bench: Bench) -> None:
    """Two that share a nonce are neither."""
    bench.gathering()
    one, other = bench.actor("db"), bench.actor("db")
    other.new_hello(1, nonce=one.hello.nonce)
    bench.meet(one, other)
    assert said(bench) == [(Reason.NO_MAJORITY, "members")]


def test_a_selection_that_only_has_to_stand_is_no_want() -> None:
    bench = Bench({"db": (1, 2), "web": (1, 1)}).gathering()
    bench.meet(bench.actor("db"))
    assert bench.phase == "gathering" and said(bench) == []


def test_proposed_committed_and_sealed_it_names_who_is_missing(bench: Bench) -> None:
    bench.gathering()
    one, other = bench.actor("db"), bench.actor("db")
    manifest = bench.proposed(one, other)
    assert said(bench) == [(Reason.NOT_ACTIVE, "PROPOSE of db")] * 2
    bench.receive(one.propose(manifest))
    (lacking,) = waits(bench.member, bench.now)
    assert lacking.found == f"none of {other.own.identity.ca.domain}"
    bench.receive(other.propose(manifest))
    assert said(bench) == [(Reason.NOT_ACTIVE, f"COMMIT of {role}") for role in ("db", "db", "web")]
    assert waits(bench.member, bench.now)[-1].found == "none of ourselves"
    bench.appraise(bench.quote(of(bench.effects, Quote)[-1:]))
    for actor in (one, other):
        bench.appraise(bench.receive(actor.commit(manifest)))
    assert bench.phase == "sealed"
    bench.receive(one.sealed(manifest))
    (mismatch,) = waits(bench.member, bench.now)
    assert mismatch.field == "SEALED of db" and mismatch.found == f"none of {other.own.identity.ca.domain}"
    bench.receive(other.sealed(manifest))
    assert bench.phase == "active" and said(bench) == []


def test_that_attempts_failed_is_no_matter_once_one_gets_further(bench: Bench) -> None:
    bench.gathering()
    one, other = bench.actor("db"), bench.actor("db")
    bench.proposed(one, other)
    bench.member = replace(bench.member, failures=2)
    assert said(bench) == [(Reason.NOT_ACTIVE, "PROPOSE of db")] * 2


def test_what_stops_it_comes_first(bench: Bench) -> None:
    bench.gathering()
    contradicted = signed_topology(ROLES, version=7, issued_at=1)
    bench.receive(encode(wire.Envelope(topology=contradicted.envelope)))
    bench.member = replace(bench.member, accepted=bytes(48))
    first, second = said(bench)[:2]
    assert first == (Reason.TOPOLOGY_EQUIVOCATION, "topology.version")
    assert second == (Reason.ROLE_MISMATCH, "topology")


def test_a_suspended_member_says_why() -> None:
    bench = Bench({"db": (1, 1), "web": (1, 1)}).gathering()
    bench.active(bench.actor("db"))
    bench.member = replace(bench.member, suspended_at=bench.now)
    assert said(bench) == [(Reason.NO_MAJORITY, "leases")]


def test_the_list_is_bounded() -> None:
    many = {f"role-{n:02}": (1, 1) for n in range(MAX_MISMATCHES + 5)}
    bench = Bench({**many, "web": (1, 1)}).gathering()
    assert len(waits(bench.member, bench.now)) == MAX_MISMATCHES


def refuse(bench: Bench, role: str, mismatch: Mismatch) -> None:
    """One who comes as `role`, and whose evidence is refused."""
    actor = bench.actor(role)
    bench.receive(actor.introduction())
    own, topology = actor.own.identity, bench.signed.topology.digest
    bench.event(Refused(Ticket(Subject.JOIN, actor.iid, own.id_digest, topology), mismatch))


def test_it_says_why_those_who_came_are_not_counted(bench: Bench) -> None:
    bench.now += 10 * DECLINED_MEMORY
    bench.gathering()
    mismatch = Mismatch(Reason.MEASUREMENT, "mrtd", "aa", "bb")
    refuse(bench, "db", mismatch)
    refuse(bench, "web", replace(mismatch, found="cc"))  # of which there is enough
    bounds, why = waits(bench.member, bench.now)
    assert bounds.reason is Reason.MANIFEST_BOUNDS
    assert why == replace(mismatch, field="JOIN evidence of a db: mrtd")
    bench.now += DECLINED_MEMORY
    assert said(bench) == [(Reason.MANIFEST_BOUNDS, "roles.db")]


def test_P12_strangers_crowd_out_no_other_reason(bench: Bench) -> None:
    """A flood of one kind takes one place, and all kinds together have few."""
    bench.gathering()
    reasons = [reason for reason in Reason if reason.value.startswith(("t", "g", "p"))]
    assert len(reasons) > MAX_DECLINED
    for number in range(3):
        refuse(bench, "db", Mismatch(Reason.MEASUREMENT, "mrtd", str(number), "bb"))
    assert [d.mismatch.found for d in bench.member.declined] == ["2"]
    for reason in reasons:
        refuse(bench, "db", Mismatch(reason, "field", "found", "expected"))
    assert len(bench.member.declined) == MAX_DECLINED


def test_it_counts_the_attempts_that_failed_and_names_whose_commit_was_lacking() -> None:
    bench = Bench({"db": (1, 1), "web": (1, 1)}).gathering()
    actor = bench.actor("db")
    manifest = bench.committed(actor)
    bench.appraise(bench.quote(bench.last(Quote)))
    own = bench.member.phase
    assert isinstance(own, Committed) and manifest.epoch == 1
    bench.tick(own.deadline - bench.now)
    assert bench.phase == "waiting"
    attempts, lacking = waits(bench.member, bench.now)
    assert (attempts.field, attempts.found) == ("attempts", "1 failed in a row")
    assert lacking.field == "COMMIT of db" and actor.own.identity.ca.domain in lacking.found
