"""One synthetic address per role."""

from __future__ import annotations

import ipaddress

import pytest
from support.shop import role, topology

from toposeal.dataplane.vips import Places, host_vip, is_taken, vip
from toposeal.errors import LocalProtocolError, Reason
from toposeal.limits import MAX_EGRESS_PER_ROLE, MAX_ROLES, PROBE_ADDRESS, VIP_NETWORK
from toposeal.topology.egress import Egress


def test_addresses_follow_the_order_of_names() -> None:
    shop = topology(role("web", 1), role("db", 1), role("api", 2))
    assert [vip(shop, name) for name in ("api", "db", "web")] == ["240.10.0.1", "240.10.0.2", "240.10.0.3"]


def test_N5_the_largest_topology_has_one_address_each_and_none_is_the_probes() -> None:
    names = [f"role-{n}" for n in range(MAX_ROLES)]
    large = topology(*(role(name, 1) for name in names))
    found = {ipaddress.ip_address(vip(large, name)) for name in names}
    assert len(found) == MAX_ROLES
    assert all(address in ipaddress.ip_network(VIP_NETWORK) for address in found)
    assert all(address.packed[3] not in (0, 255) for address in found)
    assert ipaddress.ip_address(PROBE_ADDRESS) not in found
    assert vip(large, sorted(names)[250]) == "240.10.1.1"


def test_hosts_outside_have_addresses_of_their_own() -> None:
    both = (Egress(443, host="b.example"), Egress(80, host="b.example"), Egress(25, cidr="192.0.2.0/24"))
    shop = topology(role("web", 1, egress=both), role("db", 1, egress=(Egress(1, host="a.example"),)))
    assert [host_vip(shop, host) for host in ("a.example", "b.example")] == ["240.10.128.1", "240.10.128.2"]
    with pytest.raises(ValueError, match="not in tuple"):
        host_vip(shop, "c.example")


def test_N5_the_largest_topology_has_room_for_its_hosts() -> None:
    last = MAX_ROLES * MAX_EGRESS_PER_ROLE - 1
    hosts = tuple(Egress(1, host=f"h{n:05}.example") for n in range(last + 1))
    found = ipaddress.IPv4Address(host_vip(topology(role("web", 1, egress=hosts)), f"h{last:05}.example"))
    assert ipaddress.IPv4Address("240.10.128.0") < found < ipaddress.IPv4Address("240.10.255.0")


def test_a_role_that_does_not_exist_has_none() -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        vip(topology(role("web", 1)), "db")


@pytest.mark.parametrize("address", ["240.10.0.1", "240.10.128.1", "240.10.200.7", "10.96.3.7", "fd00:96::7"])
def test_D3_what_stands_for_somebody_else_is_taken(address: str) -> None:
    called = topology(role("db", 1, serves=(5432,), addresses=("10.96.3.7", "fd00:96::7")), role("web", 1))
    assert is_taken(called, address)
    assert is_taken(topology(role("db", 1)), address) == address.startswith("240.")


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "10.96.3.8", "fd00:96::8", "240.11.0.1", "10.77.0.2"]
)
def test_a_pods_own_addresses_are_not_taken(address: str) -> None:
    called = topology(role("db", 1, serves=(5432,), addresses=("10.96.3.7", "fd00:96::7")))
    assert not is_taken(called, address)


def test_N5_a_name_keeps_its_address_whatever_later_topologies_say() -> None:
    first = Places.of(topology(role("web", 1, egress=(Egress(1, host="b.example"),)), role("db", 1)))
    both = (Egress(1, host="b.example"), Egress(1, host="a.example"))
    second = first.extended(topology(role("web", 1, egress=both), role("api", 1)))
    assert [second.role(name) for name in ("db", "web", "api")] == ["240.10.0.1", "240.10.0.2", "240.10.0.3"]
    assert [second.host(name) for name in ("b.example", "a.example")] == ["240.10.128.1", "240.10.128.2"]
    assert second.extended(topology(role("web", 1))) == second


def test_N5_a_pod_that_has_heard_too_many_names_stops_rather_than_reuse_one() -> None:
    full = Places(tuple(f"role-{n}" for n in range(127 * 250)), ())
    assert full.extended(topology(role("role-0", 1))) == full
    with pytest.raises(LocalProtocolError) as error:
        full.extended(topology(role("web", 1)))
    assert error.value.reason is Reason.TOO_LARGE
