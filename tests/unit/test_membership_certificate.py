"""Certificates and how they hang together: paths to what is proven active, majorities, descent (5.4)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from support.actors import Actor, Bench
from support.certificates import link

from toposeal.evidence.binding import ZERO_DIGEST
from toposeal.limits import MAX_TRAIL
from toposeal.membership.certificate import Certificate, descends, majority, missing, trail

BENCH = Bench({"db": (1, 8)}, role="db")
ACTORS = [BENCH.actor("db") for _ in range(5)]
THREE = ACTORS[:3]
STRANGER = bytes([1]) * 48


def line(length: int, proven: Sequence[int] = (0,), actors: Sequence[Actor] = THREE) -> list[Certificate]:
    """A genesis and its descendants, oldest first; those whose numbers are in `proven` were active."""
    found: list[Certificate] = []
    for number in range(length):
        sealed = actors if number in proven else ()
        found.append(link(found[-1] if found else None, number + 1, actors, sealed))
    return found


def chain(*links: Certificate) -> dict[bytes, Certificate]:
    return {held.digest: held for held in links}


# One certificate.


def test_only_the_seals_of_all_members_prove_that_a_manifest_was_active() -> None:
    held = link(None, 1, THREE)
    for number, actor in enumerate(THREE):
        assert not held.proven and len(held.seals) == number
        held = held.with_seal(actor.iid, bytes(64))
    assert held.proven


def test_the_first_seal_of_a_member_stays() -> None:
    held = link(None, 1, THREE, THREE[:1])
    assert held.with_seal(THREE[0].iid, bytes(64)) is held


def test_a_lineage_is_named_by_its_genesis() -> None:
    genesis, child, grandchild = line(3)
    assert genesis.lineage == child.lineage == grandchild.lineage == genesis.digest
    assert link(None, 1, THREE).lineage != genesis.lineage


# The way back.


def test_a_trail_ends_at_the_last_one_that_is_proven_active() -> None:
    links = line(4, proven=(0, 1))
    assert trail(chain(*links), links[3].digest) == (links[3], links[2], links[1])
    assert trail(chain(*links[1:]), links[3].digest) == (links[3], links[2], links[1])
    assert trail(chain(*links), links[1].digest) == (links[1],)


def test_a_trail_ends_at_the_genesis_where_nothing_is_proven() -> None:
    links = line(3, proven=())
    assert trail(chain(*links), links[2].digest) == tuple(reversed(links))


def test_nothing_has_a_trail_of_nothing() -> None:
    assert trail({}, ZERO_DIGEST) == ()


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_there_is_no_trail_while_a_link_is_not_held(lost: int) -> None:
    links = line(3, proven=())
    held = chain(*(each for number, each in enumerate(links) if number != lost))
    assert trail(held, links[2].digest) is None
    assert missing(held, links[2].digest) == links[lost].digest


def test_a_trail_may_be_so_long_and_no_longer() -> None:
    links = line(MAX_TRAIL + 1, proven=(0,))
    held = chain(*links)
    assert len(trail(held, links[-2].digest) or ()) == MAX_TRAIL
    assert trail(held, links[-1].digest) is None


def test_nothing_is_missing_before_what_is_proven_active_or_a_genesis() -> None:
    links = line(3, proven=(1,))
    assert missing(chain(*links[1:]), links[2].digest) is None
    genesis = link(None, 1, THREE)
    assert missing(chain(genesis), genesis.digest) is None
    assert missing({}, ZERO_DIGEST) is None


def test_what_is_not_held_at_all_is_missing_itself() -> None:
    assert missing(chain(*line(2)), STRANGER) == STRANGER


def test_L4_nobody_is_asked_for_more_than_a_trail_may_have() -> None:
    links = line(MAX_TRAIL + 1, proven=())
    assert missing(chain(*links[1:]), links[-1].digest) is None
    assert missing(chain(*links[1:]), links[-2].digest) == links[0].digest


# Check 9.


@pytest.mark.parametrize(("members", "enough"), [(0, False), (1, False), (2, False), (3, True), (4, True)])
def test_9_a_majority_is_more_than_half(members: int, enough: bool) -> None:
    held = link(None, 1, ACTORS[:4])
    assert majority([held], [actor.iid for actor in ACTORS[:members]]) is enough


def test_9_whoever_is_no_member_counts_for_nothing_and_nobody_counts_twice() -> None:
    held = link(None, 1, THREE)
    assert not majority([held], [THREE[0].iid, THREE[0].iid, ACTORS[3].iid, ACTORS[4].iid])


def test_9_every_manifest_of_the_trail_is_asked_for_its_own_majority() -> None:
    genesis = link(None, 1, ACTORS)
    child = link(genesis, 2, ACTORS[:3])
    both = [actor.iid for actor in ACTORS[:2]]
    assert majority([child], both) and not majority([child, genesis], both)
    assert majority([child, genesis], [actor.iid for actor in ACTORS[:3]])


def test_9_a_genesis_needs_no_majority_of_anything() -> None:
    assert majority((), ())


# Descent.


def test_everything_comes_after_nothing_and_after_itself() -> None:
    (genesis,) = line(1)
    assert descends(chain(genesis), genesis.digest, ZERO_DIGEST) is True
    assert descends({}, STRANGER, ZERO_DIGEST) is True
    assert descends(chain(genesis), genesis.digest, genesis.digest) is True


def test_a_descendant_comes_after_its_ancestors_and_never_the_reverse() -> None:
    links = line(3, proven=())
    held = chain(*links)
    assert descends(held, links[2].digest, links[0].digest) is True
    assert descends(held, links[0].digest, links[2].digest) is False
    assert descends(held, ZERO_DIGEST, links[0].digest) is False


def test_siblings_do_not_descend_from_each_other() -> None:
    (genesis,) = line(1)
    one, two = link(genesis, 2, THREE), link(genesis, 3, THREE)
    held = chain(genesis, one, two)
    assert descends(held, two.digest, one.digest) is False
    assert descends(held, one.digest, two.digest) is False


def test_S6_no_lineage_descends_from_another() -> None:
    """Not even where both are proven active, so that between two of one lineage nothing is looked at."""
    (ours,), theirs = line(1), line(3, proven=(0, 2))
    assert descends(chain(ours, *theirs), theirs[1].digest, ours.digest) is False
    assert descends(chain(ours, *theirs), theirs[2].digest, ours.digest) is False


def test_descent_is_unknown_while_a_link_is_missing() -> None:
    links = line(4, proven=())
    held = chain(links[0], links[1], links[3])
    assert descends(held, links[3].digest, links[1].digest) is None
    assert descends(held, STRANGER, links[1].digest) is None


def test_of_two_that_are_proven_active_the_higher_comes_after_the_lower_whatever_lies_between() -> None:
    """Active manifests of one lineage form one chain: its links need not be at hand."""
    links = line(4, proven=(1, 3))
    assert descends(chain(links[1], links[3]), links[3].digest, links[1].digest) is True
    assert descends(chain(links[1], links[3]), links[1].digest, links[3].digest) is False


@pytest.mark.parametrize("proven", [(), (0, 1)])
def test_one_of_the_same_epoch_is_no_descendant_and_no_link_is_asked_for(proven: Sequence[int]) -> None:
    parents = line(2)
    for parent in parents:  # of one lineage, neither of them held
        sealed = THREE if proven else ()
        one, two = link(parent, 3, THREE, sealed), link(parent, 3, THREE, sealed)
        assert one.digest != two.digest
        assert descends(chain(one, two), two.digest, one.digest) is False
