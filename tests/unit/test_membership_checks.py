"""Checks before a commitment (5.2): each fails alone, and without any of them the manifest passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from support.actors import Actor, Bench
from support.certificates import link

from toposeal.errors import Mismatch, Reason
from toposeal.membership.checks import commit_mismatches
from toposeal.membership.manifest import Manifest
from toposeal.membership.state import Attempt, Member, attempt_of

ROLES = {"db": (1, 2), "web": (1, 1)}


class Case:
    """A member with a peer, and the manifest that it would commit to."""

    def __init__(self) -> None:
        self.bench = Bench(ROLES).gathering()
        self.actor: Actor = self.bench.actor("db")
        self.bench.meet(self.actor)
        attempt = attempt_of(self.bench.member.phase)
        assert attempt is not None
        self.attempt: Attempt = attempt
        self.manifest: Manifest = self.bench.manifest(self.actor)

    def reasons(self, manifest: Manifest | None = None, member: Member | None = None) -> list[Reason]:
        found = commit_mismatches(
            member or self.bench.member, self.attempt, manifest or self.manifest, self.bench.now
        )
        return [m.reason for m in found]


@pytest.fixture
def case() -> Case:
    return Case()


def entries(manifest: Manifest, of: str, **changes: object) -> Manifest:
    members = tuple(
        replace(e, **changes) if e.role == of else e  # type: ignore[arg-type]
        for e in manifest.members
    )
    return replace(manifest, members=members)


def test_nothing_speaks_against_an_honest_manifest(case: Case) -> None:
    assert case.reasons() == []


ZERO = bytes(48)
ONE = bytes([1]) * 48


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        # (1)
        (lambda m: replace(m, topology_digest=ONE), [Reason.TOPOLOGY_MISMATCH]),
        (lambda m: replace(m, topology_version=8), [Reason.TOPOLOGY_MISMATCH]),
        (lambda m: replace(m, mesh_id=ONE), [Reason.MESH_MISMATCH]),
        # (2)
        (lambda m: entries(m, "web", hello_digest=ONE), [Reason.MANIFEST_OWN_ENTRY]),
        (lambda m: entries(m, "web", nonce=bytes([1]) * 32), [Reason.MANIFEST_OWN_ENTRY]),
        (lambda m: entries(m, "web", ca_digest=ONE), [Reason.MANIFEST_OWN_ENTRY]),
        (lambda m: entries(m, "web", aux_digest=ONE), [Reason.MANIFEST_OWN_ENTRY]),
        (lambda m: entries(m, "web", id_digest=ONE), [Reason.MANIFEST_OWN_ENTRY]),
        # (4)
        (lambda m: replace(m, epoch=2), [Reason.STALE_ATTEMPT]),
        (lambda m: entries(m, "db", iid=ONE), [Reason.UNKNOWN_MEMBER]),
        (lambda m: entries(m, "db", hello_digest=ONE), [Reason.MANIFEST_MISMATCH]),
        (lambda m: entries(m, "db", ca_digest=ONE), [Reason.MANIFEST_MISMATCH]),
        (lambda m: entries(m, "db", nonce=bytes([1]) * 32), [Reason.MANIFEST_MISMATCH]),
        (lambda m: entries(m, "db", id_digest=ONE), [Reason.MANIFEST_MISMATCH]),
        # (7): no manifest but ours is followed, and one that we do not hold satisfies no check 9
        (lambda m: replace(m, previous=ONE), [Reason.MANIFEST_LINEAGE, Reason.CERTIFICATE_UNKNOWN]),
    ],
)
def test_each_check_fails_alone(
    case: Case, change: Callable[[Manifest], Manifest], reasons: list[Reason]
) -> None:
    assert case.reasons() == []
    assert case.reasons(change(case.manifest)) == reasons


def test_2_a_manifest_without_us_is_not_ours(case: Case) -> None:
    without = replace(case.manifest, members=case.manifest.members[:1])
    assert case.reasons(without) == [Reason.MANIFEST_OWN_ENTRY, Reason.MANIFEST_BOUNDS]


def test_4_a_role_other_than_the_measured_one_is_another_entry(case: Case) -> None:
    """E6: the entry of an admitted peer carries the role of its verified evidence or is refused."""
    renamed = entries(case.manifest, "db", role="web")
    assert case.reasons(renamed) == [
        Reason.MANIFEST_MISMATCH,
        Reason.MANIFEST_BOUNDS,
        Reason.MANIFEST_BOUNDS,
    ]


def test_4_a_member_that_stopped_answering_is_no_candidate(case: Case) -> None:
    case.bench.now += 60_000
    assert case.reasons() == [Reason.UNKNOWN_MEMBER]


def test_5_counts_within_bounds(case: Case) -> None:
    only_us = replace(case.manifest, members=case.manifest.members[1:])
    assert case.reasons(only_us) == [Reason.MANIFEST_BOUNDS]


def test_8_one_commitment_per_epoch_and_numbers_only_rise(case: Case) -> None:
    for last in (1, 2):
        committed = replace(case.bench.member, last_commitment=last)
        assert case.reasons(member=committed) == [Reason.COMMIT_REPEATED]


def test_T4_T5_a_topology_alarm_stops_commitments(case: Case) -> None:
    alarm = Mismatch(Reason.TOPOLOGY_EQUIVOCATION, "topology.version", "7", "one content per version")
    assert case.reasons(member=replace(case.bench.member, blocked=alarm)) == [Reason.TOPOLOGY_EQUIVOCATION]


def test_all_mismatches_are_reported_at_once(case: Case) -> None:
    wrong = entries(replace(case.manifest, epoch=9, mesh_id=ONE, previous=ONE), "db", iid=ZERO)
    assert case.reasons(wrong) == [
        Reason.MESH_MISMATCH,
        Reason.STALE_ATTEMPT,
        Reason.UNKNOWN_MEMBER,
        Reason.MANIFEST_LINEAGE,
        Reason.CERTIFICATE_UNKNOWN,
    ]


# After a genesis.


class Later(Case):
    """The same members, active, before their second manifest."""

    def __init__(self) -> None:
        self.bench = Bench({"db": (1, 3), "web": (1, 1)}, view_ms=100).gathering()
        self.actors = [self.bench.actor("db") for _ in range(3)]
        self.actor = self.actors[0]
        self.bench.active(*self.actors)
        self.genesis = self.bench.member.chain[self.bench.member.sealed]
        self.bench.again(*self.actors)
        attempt = attempt_of(self.bench.member.phase)
        assert attempt is not None
        self.attempt = attempt
        self.manifest = self.bench.manifest(*self.actors)


@pytest.fixture
def later() -> Later:
    return Later()


def test_nothing_speaks_against_a_manifest_that_follows_what_we_sealed(later: Later) -> None:
    assert later.manifest.previous == later.bench.member.sealed
    assert later.reasons() == []


def test_7_a_manifest_of_another_predecessor_or_lineage_is_refused(later: Later) -> None:
    other = replace(later.manifest, previous=ONE)
    assert later.reasons(other) == [Reason.MANIFEST_LINEAGE, Reason.CERTIFICATE_UNKNOWN]
    assert later.reasons(replace(later.manifest, lineage=ONE)) == [Reason.MANIFEST_LINEAGE]


def test_S6_7_no_genesis_follows_what_was_sealed(later: Later) -> None:
    genesis = replace(later.manifest, previous=ZERO, lineage=ZERO)
    assert later.reasons(genesis) == [Reason.MANIFEST_LINEAGE]


def test_7_what_we_sealed_is_never_left_for_a_branch_beside_it(later: Later) -> None:
    beside = link(later.genesis, 2, [later.bench.ourselves(), *later.actors[:2]])
    later.bench.hold(beside)
    moved = replace(later.bench.member, sealed=beside.digest)
    assert later.reasons(member=moved) == [Reason.MANIFEST_LINEAGE]


def test_8_an_epoch_rises_above_that_of_the_predecessor(later: Later) -> None:
    low = replace(later.manifest, epoch=1)
    found = later.reasons(low, replace(later.bench.member, last_commitment=0))
    assert found == [Reason.STALE_ATTEMPT, Reason.COMMIT_REPEATED]


def test_9_half_of_the_predecessor_is_no_majority(later: Later) -> None:
    by_iid = {e.iid: e for e in later.manifest.members}
    ours, *theirs = (by_iid[iid] for iid in (later.bench.own.iid, *(a.iid for a in later.actors)))
    three = replace(later.manifest, members=tuple(sorted([ours, *theirs[:2]])))
    two = replace(later.manifest, members=tuple(sorted([ours, theirs[0]])))
    assert later.reasons(three) == []
    assert later.reasons(two) == [Reason.NO_MAJORITY]


def test_9_every_ancestor_back_to_the_last_active_one_is_asked_for_a_majority(later: Later) -> None:
    """A child that two of four made alone: who follows it needs three of the four, unless it is active."""
    two = [later.bench.ourselves(), later.actor]
    child = link(later.genesis, 2, two)
    attempt = replace(later.attempt, hello=replace(later.attempt.hello, previous=child.digest))
    manifest = link(child, 3, two).manifest
    found = []
    for seals in (child.seals, {actor.iid: bytes(64) for actor in two}):
        later.bench.hold(replace(child, seals=seals))
        mismatches = commit_mismatches(later.bench.member, attempt, manifest, later.bench.now)
        found.append(Reason.NO_MAJORITY in [m.reason for m in mismatches])
    assert found == [True, False]
