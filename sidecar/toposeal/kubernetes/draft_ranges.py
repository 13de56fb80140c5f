"""The address ranges that NetworkPolicies let pods reach, as entries of `egress`. No IO."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

from toposeal.kubernetes.draft_pods import TCP, Blank, Pods, port_number
from toposeal.kubernetes.fields import Field
from toposeal.limits import MAX_EGRESS_PER_ROLE, POD_DNS_PORT
from toposeal.topology.egress import NOWHERE, Network, overlap

_PORT = "a port, an entry for each"


class Ranges:
    """What is found of each role: ranges under their ports, under 0 where no single port is said."""

    def __init__(self) -> None:
        self._found: defaultdict[Pods, defaultdict[int, list[Network]]]
        self._found = defaultdict(lambda: defaultdict(list))

    def take(self, rule: Field, about: Sequence[Pods], notes: dict[str, None]) -> None:
        """The ipBlocks of an egress rule of the policy about these pods. Raises UsageError."""
        blocks = [peer.at("ipBlock") for peer in rule.at("to").items() if "ipBlock" in peer.mapping()]
        for networks in [_networks(block) for block in blocks]:
            for port in _ports(rule, notes):
                for pods in about:
                    self._found[pods][port] += networks

    def put(self) -> None:
        """Into the roles."""
        for pods, found in self._found.items():
            for port in sorted(found, key=lambda number: number or 65_536):
                pods.egress += [_entry(network, port) for network in _collapsed(found[port])]


def _ports(rule: Field, notes: dict[str, None]) -> Iterator[int]:
    entries = rule.at("ports").items()
    if not entries:
        yield 0
    for entry in entries:
        port = entry.at("port")
        if port.value == POD_DNS_PORT:
            notes.setdefault(f"{rule.document.name()}: port 53 is left out, DNS is the sidecar's to ask.")
        elif (entry.at("protocol").text() or TCP) == TCP:
            single = port.value is not None and entry.at("endPort").value is None
            if isinstance(port.value, str):
                raise port.refused("a number: a name means nothing of addresses")
            yield port_number(port) if single else 0


def _entry(network: Network, port: int) -> dict[str, Any]:
    nowhere = next((other for other in NOWHERE if overlap(network, other)), None)
    cidr = (
        str(network) if nowhere is None else Blank(f"ranges of {network}, or hosts: it has {nowhere} in it")
    )
    return {"cidr": cidr, "port": port or Blank(_PORT)}


def _networks(block: Field) -> list[Network]:
    """The range without its exceptions."""
    block.only("cidr", "except")
    networks = [_network(block.at("cidr"))]
    for out in map(_network, block.at("except").items()):
        networks = [part for network in networks for part in _without(network, out)]
        if len(networks) > MAX_EGRESS_PER_ROLE:
            raise block.at("except").refused(f"exceptions that leave at most {MAX_EGRESS_PER_ROLE} ranges")
    return networks


def _without(network: Network, out: Network) -> Iterable[Network]:
    if not overlap(network, out):
        return [network]
    if out.version == network.version and out.prefixlen <= network.prefixlen:
        return []
    return cast("Iterable[Network]", network.address_exclude(cast("Any", out)))


def _collapsed(networks: Sequence[Network]) -> Iterator[Network]:
    """Each address once, IPv4 first."""
    for version in (4, 6):
        same = cast("Any", [network for network in networks if network.version == version])
        yield from ipaddress.collapse_addresses(same)


def _network(field: Field) -> Network:
    try:
        return ipaddress.ip_network(field.text() or "", strict=False)
    except ValueError:
        raise field.refused("an address range") from None
