"""A synthetic address for each role and each host outside: what DNS answers and Envoy listens for. No IO."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from toposeal.errors import LocalProtocolError, Reason
from toposeal.limits import VIP_NETWORK
from toposeal.topology.addresses import all_addresses
from toposeal.topology.model import Topology

_OUTSIDE = 128  # the first block of hosts outside the mesh
_PER_BLOCK = 250  # host parts 1 to 250: no network, no broadcast address, room for the probe's
_MOST = 127 * _PER_BLOCK  # of each kind: 240.10.255.0/24 has the probe's


@dataclass(frozen=True)
class Places:
    """Names in the order of their addresses. They are one pod's own: nobody else goes by them. A program may
    remember what a name meant, so for as long as the pod lives an address never means another one.
    """

    roles: tuple[str, ...]
    hosts: tuple[str, ...]

    @classmethod
    def of(cls, topology: Topology) -> Places:
        """Those of a pod that begins with `topology`, in the order of their names."""
        return cls((), ()).extended(topology)

    def extended(self, topology: Topology) -> Places:
        """With what a later topology adds; what it removes keeps its place. Raises LocalProtocolError when
        none is left, after tens of thousands of names in one boot.
        """
        return Places(
            _extended("roles", self.roles, topology.roles), _extended("hosts", self.hosts, _hosts(topology))
        )

    def role(self, name: str) -> str:
        """240.10.0.1, 240.10.0.2 and so on. Raises ValueError for a role that no topology had."""
        return _address(0, self.roles.index(name))

    def host(self, name: str) -> str:
        """240.10.128.1 and so on. Raises ValueError for a host that no role ever named."""
        return _address(_OUTSIDE, self.hosts.index(name))


def vip(topology: Topology, role: str) -> str:
    """The address of `role` in a pod that began with `topology`. Raises ValueError as `Places.role`."""
    return Places.of(topology).role(role)


def host_vip(topology: Topology, host: str) -> str:
    """The address of an egress host in a pod that began with `topology`. Raises as `Places.host`."""
    return Places.of(topology).host(host)


def is_taken(topology: Topology, address: str) -> bool:
    """Whether connections to `address` (an IP literal) are meant for a role or a host outside: a pod that had
    it would be given them by its own kernel, before any redirect.
    """
    found = ipaddress.ip_address(address)
    return found in ipaddress.ip_network(VIP_NETWORK) or str(found) in all_addresses(topology)


def _hosts(topology: Topology) -> set[str]:
    return {entry.host for role in topology.roles.values() for entry in role.egress if entry.host}


def _extended(field: str, known: tuple[str, ...], names: Iterable[str]) -> tuple[str, ...]:
    found = (*known, *sorted(set(names).difference(known)))
    if len(found) > _MOST:
        raise LocalProtocolError.of(Reason.TOO_LARGE, f"places.{field}", len(found), f"at most {_MOST}")
    return found


def _address(block: int, index: int) -> str:
    return f"240.10.{block + index // _PER_BLOCK}.{index % _PER_BLOCK + 1}"
