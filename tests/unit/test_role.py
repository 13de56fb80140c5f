"""The measured role: one that fits, and the one that is expected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from support.shop import role, topology

from toposeal.errors import Mismatch, PolicyError, Reason
from toposeal.topology.model import Role
from toposeal.verification.role import Differences, measured_role

TOPOLOGY = topology(role("a", 1), role("b", 1), role("c", 1))


def wrong(count: int) -> list[Mismatch]:
    return [Mismatch(Reason.MEASUREMENT, f"field{index}", "found", "expected") for index in range(count)]


def differing(**counts: list[int]) -> Differences:
    """By role, how much differs from each of its references."""
    by_role: Mapping[str, list[int]] = counts

    def differences(given: Role) -> Iterator[list[Mismatch]]:
        return (wrong(count) for count in by_role.get(given.name, []))

    return differences


def refused(expected: str, differences: Differences) -> tuple[Mismatch, ...]:
    with pytest.raises(PolicyError) as caught:
        measured_role(TOPOLOGY, expected, "snp", differences)
    return tuple(caught.value.mismatches)


def test_the_one_role_of_which_a_reference_fits() -> None:
    for counts in ([0], [3, 0], [0, 3], [0, 0]):
        assert measured_role(TOPOLOGY, "b", "tdx", differing(a=[1], b=counts)).name == "b"


def test_E6_the_role_that_fits_has_to_be_the_expected_one() -> None:
    (found,) = refused("a", differing(a=[1], b=[0]))
    assert (found.reason, found.found, found.expected) == (Reason.ROLE_MISMATCH, "b", "a")


def test_a_role_that_the_topology_does_not_know_is_refused_before_anything_is_compared() -> None:
    def never(_: Role) -> Iterator[list[Mismatch]]:
        raise AssertionError("compared")

    (found,) = refused("d", never)
    assert (found.reason, found.found) == (Reason.ROLE_UNKNOWN, "d")


def test_E6_a_guest_that_two_roles_claim_has_none() -> None:
    for expected in ("a", "b", "c"):
        (found,) = refused(expected, differing(a=[0], b=[2, 0], c=[1]))
        assert found.reason is Reason.ROLES_INDISTINGUISHABLE


def test_E5_all_that_differs_from_the_closest_reference_of_the_expected_role_is_reported() -> None:
    assert len(refused("a", differing(a=[4, 2, 3], b=[1]))) == 2


def test_a_role_without_references_of_the_kind_has_no_such_member() -> None:
    (found,) = refused("a", differing(b=[1]))
    assert (found.reason, found.field) == (Reason.EVIDENCE_KIND, "roles.a.snp")
    (found,) = refused("a", differing(b=[0]))
    assert found.reason is Reason.ROLE_MISMATCH
