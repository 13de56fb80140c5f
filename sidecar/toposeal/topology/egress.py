"""Destinations outside the mesh, and the addresses that nobody can make one, nor a peer's. No IO.

The daemon imports this before Envoy holds its ports: nothing heavier than addresses belongs here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Nothing there is a destination: this host, link-local (metadata services too), site-local, multicast, and
# 240.0.0.0/4, where the mesh's own synthetic addresses are; and IPv6 that a gateway may turn into any IPv4.
NOWHERE: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/96",
        "::ffff:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2002::/16",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)
# Instance metadata outside the link-local block: AWS, Google, Alibaba, Azure, Oracle.
METADATA: tuple[Address, ...] = tuple(
    ipaddress.ip_address(text)
    for text in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")
)


@dataclass(frozen=True)
class Egress:
    """`port` of either one `host` or every address of `cidr`."""

    port: int
    host: str | None = None  # absolute DNS name in lower case, two labels or more
    cidr: str | None = None  # canonical range
    within: tuple[str, ...] = ()  # canonical ranges that the host's addresses must be of; empty: public ones
    tls_ca: str | None = None  # PEM: Envoy speaks TLS and demands this host's certificate by one of these


def overlap(one: Network, other: Network) -> bool:
    """Of two families none do."""
    return one.version == other.version and one.overlaps(other)


def is_nowhere(address: Address) -> bool:
    """Whether nobody may have it dialled: no name outside, no peer and no role is there."""
    return address in METADATA or any(address in network for network in NOWHERE)


def is_destination(address: Address, within: Sequence[str]) -> bool:
    """Whether `address` may be dialled for a host with these ranges; without any, if it is public."""
    if is_nowhere(address):
        return False
    if within:
        return any(address in ipaddress.ip_network(network) for network in within)
    return address.is_global
