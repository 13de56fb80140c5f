"""Schema and checks of the addresses that a role is called by beside its own, such as ClusterIPs. No IO."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from toposeal import limits
from toposeal.errors import Mismatch, TopologyError
from toposeal.topology.egress import Network, is_nowhere
from toposeal.topology.model import Role, Topology
from toposeal.topology.schema import ListOf, mismatch


@dataclass(frozen=True)
class RoleAddress:
    """An address that a Service could have, spelled one way only."""

    @property
    def expected(self) -> str:
        return "an IP address; no loopback, link-local, metadata, multicast or reserved one"

    def read(self, value: object, path: str) -> str:
        try:
            address = ipaddress.ip_address(value if isinstance(value, str) and "%" not in value else "")
        except ValueError:
            raise TopologyError(mismatch(path, value, self.expected)) from None
        if str(address) != value:
            raise TopologyError(mismatch(path, value, f"{address}, which is the same"))
        if is_nowhere(address):
            raise TopologyError(mismatch(path, value, self.expected))
        return value


ADDRESSES = ListOf(RoleAddress(), 0, limits.MAX_ADDRESSES_PER_ROLE, "addresses")


def ordered_addresses(addresses: Collection[str]) -> tuple[str, ...]:
    """IPv4 first, ascending."""
    found = map(ipaddress.ip_address, addresses)
    return tuple(str(address) for address in sorted(found, key=lambda each: (each.version, int(each))))


def all_addresses(topology: Topology) -> frozenset[str]:
    """Every address that stands for a role: nothing else may have one."""
    return frozenset(address for role in topology.roles.values() for address in role.addresses)


def check_addresses(topology: Topology) -> Iterator[Mismatch]:
    """Every mismatch of the addresses of all roles: each leads to one role, and nowhere else."""
    owners: dict[str, str] = {}
    for role in topology.roles.values():
        path = f"roles.{role.name}.addresses"
        if role.addresses and not role.serves:
            yield mismatch(path, ", ".join(role.addresses), "nothing: the role serves no port")
        for address in role.addresses:
            if owners.setdefault(address, role.name) != role.name:
                yield mismatch(path, f"{address}, as roles.{owners[address]}", "an address of one role")
            if address == topology.resolver:
                yield mismatch(path, f"{address}, the resolver", "an address of the role alone")
        yield from _in_ranges(path, role, topology)


def _in_ranges(path: str, role: Role, topology: Topology) -> Iterator[Mismatch]:
    """For one pod an address is a role or outside: at a port that is no edge the role would else be called
    in clear.
    """
    for caller in topology.roles.values():
        if not any(call.role == role.name for call in caller.calls):
            continue
        for network in _ranges(caller):
            for address in role.addresses:
                if ipaddress.ip_address(address) in network:
                    expected = f"none of {network}: egress of {caller.name}, which calls the role"
                    yield mismatch(path, address, expected)


def _ranges(role: Role) -> list[Network]:
    """Once each, whatever their ports."""
    return [ipaddress.ip_network(cidr) for cidr in sorted({e.cidr for e in role.egress if e.cidr})]
