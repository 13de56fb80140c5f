"""One synthetic address per role."""

from __future__ import annotations

import ipaddress

import pytest
from support.shop import role, topology

from toposeal.dataplane.vips import vip
from toposeal.limits import MAX_ROLES, PROBE_ADDRESS, VIP_NETWORK


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


def test_a_role_that_does_not_exist_has_none() -> None:
    with pytest.raises(ValueError, match="not in list"):
        vip(topology(role("web", 1)), "db")
