"""Who may have how many connections at once, and that it all fits."""

from __future__ import annotations

import pytest
from support.shop import SHOP, role, topology

from toposeal.dataplane.shares import callers, ingress_share, is_crowd, member_share
from toposeal.limits import (
    ATTESTATION_CONNECTIONS,
    INGRESS_CONNECTIONS,
    MAX_ENVOY_CONNECTIONS,
    MAX_INBOUND_CONNECTIONS,
    MAX_OUTBOUND_CONNECTIONS,
    MEMBER_CONNECTIONS,
    MIN_MEMBER_CONNECTIONS,
    PROBE_CONNECTIONS,
)
from toposeal.topology.model import Call, Ingress, Role, Topology


def test_R1_all_shares_fit_with_room_for_handshakes() -> None:
    assert MAX_OUTBOUND_CONNECTIONS + MAX_INBOUND_CONNECTIONS == MAX_ENVOY_CONNECTIONS
    shares = MEMBER_CONNECTIONS + INGRESS_CONNECTIONS + ATTESTATION_CONNECTIONS + PROBE_CONNECTIONS
    assert MAX_INBOUND_CONNECTIONS - shares > 3_700


def crowd(web: int, batch: int, ports: tuple[int, ...] = (1,)) -> Topology:
    calls = tuple(Call("db", port) for port in ports)
    return topology(
        role("web", web, calls=calls), role("batch", batch, calls=calls[:1]), role("db", 1, serves=ports)
    )


@pytest.mark.parametrize(
    ("found", "share"),
    [
        (crowd(1, 1), MEMBER_CONNECTIONS // 2),
        (crowd(3, 1), MEMBER_CONNECTIONS // 4),
        (crowd(3, 1, (1, 2)), MEMBER_CONNECTIONS // 7),
        (crowd(63, 1), MEMBER_CONNECTIONS // 64),
        (crowd(900, 90), MEMBER_CONNECTIONS // 64),
        (crowd(900, 90, tuple(range(1, 65))), MIN_MEMBER_CONNECTIONS),
    ],
)
def test_R1_each_member_that_can_be_has_an_equal_share_at_each_port(found: Topology, share: int) -> None:
    assert member_share(found, found.roles["db"]) == share


def test_R1_a_single_member_is_far_from_all_that_there_is_even_where_shares_exceed_it() -> None:
    ports = tuple(range(1, 65))
    found = crowd(900, 90, ports)
    assert member_share(found, found.roles["db"]) * len(ports) < MEMBER_CONNECTIONS


def test_R1_the_only_client_of_many_ports_has_more_at_each_than_envoys_own_1024() -> None:
    found = topology(
        role("web", 1, calls=tuple(Call("db", port) for port in range(1, 15))),
        role("db", 1, serves=tuple(range(1, 15))),
    )
    assert member_share(found, found.roles["db"]) > 1_200


@pytest.mark.parametrize(("web", "batch", "expected"), [(63, 1, False), (64, 1, True), (900, 90, True)])
def test_R1_where_more_may_call_than_there_are_shares_they_are_a_crowd(
    web: int, batch: int, expected: bool
) -> None:
    found = crowd(web, batch)
    assert is_crowd(found, found.roles["db"], 1) == expected


def test_a_role_that_nobody_calls_has_nothing_to_divide() -> None:
    assert member_share(SHOP, SHOP.roles["web"]) == MEMBER_CONNECTIONS
    assert [found.name for found in callers(SHOP, SHOP.roles["db"], 6379)] == ["api"]
    assert callers(SHOP, SHOP.roles["db"], 6380) == ()


def outside(ports: int) -> Role:
    return role("web", 1, serves=(80,), ingress=tuple(Ingress(8000 + n, 80) for n in range(ports)))


def test_R1_outside_clients_share_what_is_theirs_by_port() -> None:
    assert [ingress_share(outside(n)) for n in (0, 1, 3)] == [10_000, 10_000, 3_333]
