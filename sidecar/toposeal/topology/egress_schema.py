"""Schema and checks of destinations outside the mesh: what a topology may say of them. No IO."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from toposeal import limits
from toposeal.errors import Mismatch, TopologyError
from toposeal.topology.egress import NOWHERE, Egress, overlap
from toposeal.topology.schema import Integer, ListOf, Object, Text, mismatch
from toposeal.x509_errors import X509_ERRORS


@dataclass(frozen=True)
class Range:
    """An address range, spelled one way only, and not of what is nowhere."""

    @property
    def expected(self) -> str:
        return "an address range such as 192.0.2.0/24 or 2001:db8::/32"

    def read(self, value: object, path: str) -> str:
        try:
            network = ipaddress.ip_network(value if isinstance(value, str) and "/" in value else "")
        except ValueError:
            raise TopologyError(mismatch(path, value, self.expected)) from None
        if str(network) != value:
            raise TopologyError(mismatch(path, value, f"{network}, which is the same"))
        for other in NOWHERE:
            if overlap(network, other):
                raise TopologyError(mismatch(path, value, f"a range without any of {other}"))
        return value


@dataclass(frozen=True)
class ServerAddress:
    """The address of a DNS server that a pod can ask: its own loopback is none. 169.254.0.0/16 may be, where
    clouds and node-local caches have theirs.
    """

    @property
    def expected(self) -> str:
        return "an IP address of a DNS server"

    def read(self, value: object, path: str) -> str:
        try:
            address = ipaddress.ip_address(value if isinstance(value, str) else "")
        except ValueError:
            raise TopologyError(mismatch(path, value, self.expected)) from None
        here = address.version == 4 and address.is_link_local
        if str(address) != value or (not here and any(address in network for network in NOWHERE)):
            raise TopologyError(mismatch(path, value, self.expected))
        return value


@dataclass(frozen=True)
class Authorities:
    """CA certificates as PEM and nothing else, so that what is signed can be read in one way."""

    @property
    def expected(self) -> str:
        return f"1 to {limits.MAX_EGRESS_CAS} CA certificates as PEM"

    def read(self, value: object, path: str) -> str:
        if not isinstance(value, str) or not 0 < len(value) <= limits.MAX_EGRESS_CA_SIZE:
            raise TopologyError(mismatch(path, value, self.expected))
        try:
            found = x509.load_pem_x509_certificates(value.encode())
            whole = "".join(each.public_bytes(Encoding.PEM).decode() for each in found) == value
            fit = whole and len(found) <= limits.MAX_EGRESS_CAS and all(_is_ca(each) for each in found)
        except X509_ERRORS:
            fit = False
        if not fit:
            raise TopologyError(mismatch(path, "other text", self.expected))
        return value


_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST = Text(
    re.compile(rf"(?=.{{3,253}}\Z)({_LABEL}\.)+(?=[^.]*[a-z]){_LABEL}", re.ASCII),
    "an absolute DNS name of two labels or more, in lower case, without a final dot",
)
_RANGE = Range()


def _entry(within: Sequence[str] = (), **fields: Any) -> Egress:
    return Egress(within=tuple(sorted(within)), **fields)


EGRESS = ListOf(
    Object(
        {
            "port": Integer(1, 65_535),
            "host": _HOST,
            "cidr": _RANGE,
            "within": ListOf(_RANGE, 1, limits.MAX_EGRESS_RANGES, "ranges"),
            "tls_ca": Authorities(),
        },
        _entry,
        optional=frozenset({"host", "cidr", "within", "tls_ca"}),
    ),
    0,
    limits.MAX_EGRESS_PER_ROLE,
    "destinations",
)


def ordered(entries: Collection[Egress]) -> tuple[Egress, ...]:
    return tuple(sorted(entries, key=lambda entry: (entry.host or "", entry.cidr or "", entry.port)))


def check_egress(
    path: str, entries: Sequence[Egress], mesh: str, roles: Collection[str]
) -> Iterator[Mismatch]:
    """Every mismatch of one role's destinations, of which `path` is the field."""
    for entry in entries:
        if (entry.host is None) == (entry.cidr is None):
            yield mismatch(path, f"port {entry.port} of both or neither", "either host or cidr")
        if entry.host is None and (entry.within or entry.tls_ca is not None):
            yield mismatch(path, f"{entry.cidr} with within or tls_ca", "them with a host alone")
        if entry.port in limits.RESERVED_PORTS or entry.port == limits.POD_DNS_PORT:
            yield mismatch(path, entry.port, "a port outside the sidecar's own, and not that of DNS")
        if entry.host is not None:
            yield from _host(path, entry.host, mesh, roles)
    hosts = sorted({entry.host for entry in entries if entry.host is not None})
    for one, other in combinations(hosts, 2):
        if other.startswith(f"{one}."):
            yield mismatch(path, other, f"no name that {one} becomes with a search domain")
    yield from _overlaps(path, entries)


def _host(path: str, host: str, mesh: str, roles: Collection[str]) -> Iterator[Mismatch]:
    """A search domain is the host's to choose: with one, the name of a role must lead nowhere else."""
    first, _, _ = host.partition(".")
    if host == mesh or host.endswith(f".{mesh}"):
        yield mismatch(path, host, f"a name outside {mesh}, the domain of the mesh")
    elif first in roles:
        yield mismatch(path, host, f"no name that the role {first} becomes with a search domain")


def _overlaps(path: str, entries: Sequence[Egress]) -> Iterator[Mismatch]:
    """One address and port is one destination."""
    for one, other in combinations(entries, 2):
        if one.port != other.port:
            continue
        if one.host is not None and one.host == other.host:
            yield mismatch(path, f"{one.host}:{one.port} twice", "every destination once")
        ranges = [ipaddress.ip_network(entry.cidr) for entry in (one, other) if entry.cidr is not None]
        if len(ranges) == 2 and overlap(*ranges):
            found = f"{one.cidr} and {other.cidr} at {one.port}"
            yield mismatch(path, found, "ranges that do not overlap")


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except x509.ExtensionNotFound:
        return False
