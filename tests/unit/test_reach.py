"""What a later view takes away, and where whoever has gone may still be connected."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest
from support.shop import MEMBERS, SHOP, member, outside_view, view

from toposeal.dataplane.reach import Reach, grants
from toposeal.dataplane.view import MeshMember, PodView
from toposeal.topology.model import Role, Topology

BEFORE = view("api")
RUNS = Reach().widened(BEFORE)
WEB = next(m for m in MEMBERS if m.role == "web")
OTHER = next(m for m in MEMBERS if m.role == "api" and m != BEFORE.own)
NEW = member("db", 15)


def with_members(*members: MeshMember) -> PodView:
    return replace(BEFORE, members=members, generation=2)


def without(*gone: MeshMember) -> PodView:
    return with_members(*(m for m in MEMBERS if m not in gone))


def with_role(topology: Topology, role: Role) -> Topology:
    return replace(topology, roles=MappingProxyType({**topology.roles, role.name: role}))


def test_a_closed_envoy_loses_nothing() -> None:
    assert not Reach().loses(BEFORE)
    assert Reach().gone(BEFORE) == frozenset()


@pytest.mark.parametrize("after", [BEFORE, with_members(*MEMBERS, NEW)], ids=["same", "joined"])
def test_D8_who_joins_takes_nothing_away(after: PodView) -> None:
    assert not RUNS.loses(after)
    assert RUNS.gone(after) == frozenset()


@pytest.mark.parametrize("gone", [WEB, OTHER], ids=["of an edge", "of none"])
def test_M5_whoever_is_not_in_it_any_more_is_lost_with_all_addresses(gone: MeshMember) -> None:
    assert RUNS.loses(without(gone))
    assert RUNS.gone(without(gone)) == set(gone.addresses)


def test_L2_a_restarted_member_is_another_one_at_the_same_address() -> None:
    again = replace(NEW, role="web", addresses=WEB.addresses)
    after = with_members(*(m for m in MEMBERS if m != WEB), again)
    assert RUNS.loses(after)
    assert RUNS.gone(after) == set(WEB.addresses)


def test_M5_an_address_that_two_members_name_keeps_nobody_connected() -> None:
    """Whoever is to be removed may have named everybody's."""
    liar = replace(NEW, addresses=("10.77.0.15", *WEB.addresses))
    assert Reach().widened(with_members(*MEMBERS, liar)).gone(BEFORE) == {"10.77.0.15", *WEB.addresses}


def test_M5_an_address_of_an_earlier_manifest_is_remembered_as_long_as_the_member_stays() -> None:
    moved = with_members(*(replace(m, addresses=("10.77.9.9",)) if m == WEB else m for m in MEMBERS))
    after = RUNS.widened(moved).narrowed(moved)
    assert after.gone(moved) == frozenset()
    assert after.gone(without(WEB)) == {"10.77.9.9", *WEB.addresses}
    assert after.narrowed(without(WEB)).gone(with_members(BEFORE.own)) == {*OTHER.addresses, "10.77.0.14"}


def test_M5_what_was_offered_and_never_acknowledged_counts_as_run() -> None:
    offered = RUNS.widened(with_members(*MEMBERS, NEW))
    assert offered.loses(BEFORE)
    assert offered.gone(BEFORE) == set(NEW.addresses)
    assert not offered.narrowed(BEFORE).loses(BEFORE)


ROLE = SHOP.roles["api"]


@pytest.mark.parametrize(
    "role",
    [replace(ROLE, calls=()), replace(ROLE, serves=()), replace(SHOP.roles["web"], calls=())],
    ids=["a call of ours", "a port of ours", "a call of theirs"],
)
def test_D4_M8_an_edge_that_is_removed_takes_trust_away_from_members_that_stay(role: Role) -> None:
    after = replace(BEFORE, topology=with_role(SHOP, role))
    assert RUNS.loses(after)
    assert RUNS.gone(after) == frozenset()
    assert not Reach().widened(after).loses(BEFORE)  # the way back adds


OUTSIDE = outside_view().topology.roles["web"]


@pytest.mark.parametrize(
    "role",
    [
        replace(OUTSIDE, egress=OUTSIDE.egress[1:]),
        replace(OUTSIDE, egress=OUTSIDE.egress[:-1]),
        replace(OUTSIDE, probes=OUTSIDE.probes[1:]),
        replace(OUTSIDE, metrics=None),
    ],
    ids=["a host", "a range", "a probe", "figures"],
)
def test_what_is_open_to_the_outside_counts_too(role: Role) -> None:
    before = outside_view()
    after = replace(before, topology=with_role(before.topology, role))
    assert Reach().widened(before).loses(after)


def test_a_host_that_has_to_prove_itself_from_now_on_is_less_than_one_that_had_not() -> None:
    before = outside_view()
    free = tuple(replace(entry, tls_ca=None) for entry in OUTSIDE.egress)
    trusting = replace(before, topology=with_role(before.topology, replace(OUTSIDE, egress=free)))
    assert Reach().widened(trusting).loses(before)


def test_other_addresses_of_hosts_outside_take_nothing_away() -> None:
    before = outside_view()
    assert grants(replace(before, resolved={})) == grants(before)
