"""A synthetic address for each role and each host outside: what DNS answers and Envoy listens for. No IO."""

from __future__ import annotations

import ipaddress

from toposeal.limits import VIP_NETWORK
from toposeal.topology.addresses import all_addresses
from toposeal.topology.model import Topology

_OUTSIDE = 128  # the first block of hosts outside the mesh; roles need two
_PER_BLOCK = 250  # host parts 1 to 250: no network, no broadcast address, room for the probe's


def vip(topology: Topology, role: str) -> str:
    """The address of `role`, by its place among the role names: 240.10.0.1, 240.10.0.2 and so on.

    Raises ValueError for a role that the topology does not have.
    """
    return _address(0, sorted(topology.roles).index(role))


def host_vip(topology: Topology, host: str) -> str:
    """The address of an egress host, by its place among those of all roles: 240.10.128.1 and so on.

    Raises ValueError for a host that no role names.
    """
    hosts = {entry.host for role in topology.roles.values() for entry in role.egress if entry.host}
    return _address(_OUTSIDE, sorted(hosts).index(host))


def is_taken(topology: Topology, address: str) -> bool:
    """Whether connections to `address` (an IP literal) are meant for a role or a host outside: a pod that had
    it would be given them by its own kernel, before any redirect.
    """
    found = ipaddress.ip_address(address)
    return found in ipaddress.ip_network(VIP_NETWORK) or str(found) in all_addresses(topology)


def _address(block: int, index: int) -> str:
    return f"240.10.{block + index // _PER_BLOCK}.{index % _PER_BLOCK + 1}"
