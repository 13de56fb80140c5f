"""Who may connect to whom through one pod's Envoy, decided before a byte of configuration. No IO.

A plan is the whole input of the renderer: it names every admitted peer, once per edge of the
topology, and says nothing about Envoy.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, replace

from toposeal.dataplane.shares import callers, ingress_share, is_crowd, member_share
from toposeal.dataplane.view import MeshMember, PodView
from toposeal.errors import LocalProtocolError, Reason
from toposeal.names import spiffe_id
from toposeal.topology.addresses import all_addresses
from toposeal.topology.egress import METADATA, is_destination
from toposeal.topology.model import Role

_CERTIFICATE = "-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True)
class Peer:
    """One member as the other end of an edge: the only name and the only CA that count there."""

    domain: str  # SNI and trust domain
    spiffe: str  # the exact URI of its leaf
    ca_pem: str
    addresses: tuple[str, ...]  # IP literals


@dataclass(frozen=True)
class Inbound:
    """The served `port` is open to these members and to nobody else."""

    port: int
    clients: tuple[Peer, ...]
    connections: int  # at once, of each share
    is_crowd: bool  # several clients have a share together, else each its own
    http: bool  # what comes in is requests, and each says who calls
    proxy_protocol: bool  # what comes in is bytes, and a header before them says who calls
    logs_requests: bool


@dataclass(frozen=True)
class Outbound:
    """Connections to `port` of `vip`, or of one of `addresses`, go to one of these members, or to the pod
    itself; nowhere while there is nobody.
    """

    role: str
    port: int
    vip: str
    addresses: tuple[str, ...]  # IP literals that mean the role too, by the topology; and no other role
    servers: tuple[Peer, ...]  # never the pod itself
    includes_self: bool
    most: int  # servers that there may be, by the topology
    http: bool  # each request goes to one of them, else each connection
    proxy_protocol: bool  # at the called application, also where that is the pod's own


@dataclass(frozen=True)
class OutsidePort:
    """`port` is open to anyone, with the ingress leaf, and leads to the application's `target`."""

    port: int
    target: int
    connections: int  # at once, of all clients
    http: bool  # what comes in is requests, and none says who calls
    proxy_protocol: bool  # what comes in is bytes, and the header before them names nobody
    logs_requests: bool


@dataclass(frozen=True)
class Probed:
    """GET `path` at `port`, in clear, says whether the application answers it well at `target`; no more."""

    port: int
    path: str
    target: int


@dataclass(frozen=True)
class OutsideHost:
    """Connections to `vip`:`port` go to one of `addresses`, none of which is a member's or a role's.

    In clear, as the application sends it; with `tls_ca` over TLS to whoever shows a certificate for `host`.
    """

    host: str
    port: int
    vip: str
    addresses: tuple[str, ...]  # IP literals; none while nobody has answered for the host
    tls_ca: str  # PEM, or empty


@dataclass(frozen=True)
class OutsideRange:
    """Connections to `port` of any address of `cidr` go there in clear, but for those `withheld`."""

    cidr: str
    port: int
    withheld: tuple[str, ...]  # IP literals of `cidr`: members', roles' and metadata services'


@dataclass(frozen=True)
class PodPlan:
    generation: int  # positive; names the update
    own: Peer
    application: str  # the pod's own address: where its application is reached, in clear
    inbound: tuple[Inbound, ...]  # ascending port
    outbound: tuple[Outbound, ...]  # ascending (role, port)
    ingress: tuple[OutsidePort, ...]  # ascending port
    attestation_port: int
    hosts: tuple[OutsideHost, ...]  # ascending (host, port)
    ranges: tuple[OutsideRange, ...]  # ascending (cidr, port)
    probes: tuple[Probed, ...]  # ascending (port, path)
    metrics: int  # port at which figures are read in clear; 0 where the role has none

    @property
    def version(self) -> str:
        """What Envoy acknowledges for this update."""
        return f"generation-{self.generation}"

    @property
    def frame(self) -> PodPlan:
        """What the topology alone decides: the same whoever is there, and wherever hosts outside are."""
        return replace(
            self,
            generation=1,
            inbound=tuple(replace(edge, clients=()) for edge in self.inbound),
            outbound=tuple(replace(edge, servers=()) for edge in self.outbound),
            hosts=tuple(replace(host, addresses=()) for host in self.hosts),
            ranges=tuple(replace(part, withheld=()) for part in self.ranges),
        )


def plan(view: PodView) -> PodPlan:
    """Raises LocalProtocolError for a view that no sealed manifest gives."""
    _check_view(view)
    role = view.topology.roles[view.own.role]
    return PodPlan(
        generation=view.generation,
        own=_peer(view.own),
        application=_application_address(view.own),
        inbound=tuple(_inbound(view, role)),
        outbound=tuple(_outbound(view, role)),
        ingress=tuple(_ingress(role)),
        attestation_port=view.topology.attestation_port,
        hosts=tuple(_hosts(view, role)),
        ranges=tuple(_ranges(view, role)),
        probes=tuple(Probed(p.port, p.path, p.target) for p in role.probes),
        metrics=role.metrics or 0,
    )


def _inbound(view: PodView, own: Role) -> Iterator[Inbound]:
    share = member_share(view.topology, own)
    for port in own.serves:
        roles = {role.name for role in callers(view.topology, own, port)}
        clients = tuple(_peer(m) for m in _others(view) if m.role in roles)
        crowd = is_crowd(view.topology, own, port)
        yield Inbound(
            port=port,
            clients=clients,
            connections=share,
            is_crowd=crowd,
            http=own.speaks_http(port),
            proxy_protocol=port in own.proxy_protocol,
            logs_requests=own.logs_requests(port),
        )


def _ingress(own: Role) -> Iterator[OutsidePort]:
    share = ingress_share(own)
    for port, target in ((entry.port, entry.target) for entry in own.ingress):
        yield OutsidePort(
            port=port,
            target=target,
            connections=share,
            http=own.speaks_http(target),
            proxy_protocol=target in own.proxy_protocol,
            logs_requests=own.logs_requests(target),
        )


def _outbound(view: PodView, own: Role) -> Iterator[Outbound]:
    places = view.places
    for call in own.calls:
        called = view.topology.roles[call.role]
        servers = tuple(_peer(m) for m in _others(view) if m.role == call.role)
        includes_self = call.role == own.name
        yield Outbound(
            role=call.role,
            port=call.port,
            vip=places.role(call.role),
            addresses=called.addresses,
            servers=servers,
            includes_self=includes_self,
            most=called.max_replicas - includes_self,
            http=called.speaks_http(call.port),
            proxy_protocol=call.port in called.proxy_protocol,
        )


def _hosts(view: PodView, own: Role) -> Iterator[OutsideHost]:
    """A name that leads to a member is no way around its identity: neither its addresses count nor those
    of its role.
    """
    taken, places = _mesh_addresses(view), view.places
    for entry in own.egress:
        if entry.host is not None:
            addresses = tuple(
                address
                for address in view.resolved.get(entry.host, ())
                if address not in taken and is_destination(ipaddress.ip_address(address), entry.within)
            )
            address = places.host(entry.host)
            yield OutsideHost(entry.host, entry.port, address, addresses, entry.tls_ca or "")


def _ranges(view: PodView, own: Role) -> Iterator[OutsideRange]:
    """A member is called as its role, or not at all."""
    taken = {*map(ipaddress.ip_address, _mesh_addresses(view)), *METADATA}
    for entry in own.egress:
        if entry.cidr is not None:
            network = ipaddress.ip_network(entry.cidr)
            withheld = sorted(str(address) for address in taken if address in network)
            yield OutsideRange(entry.cidr, entry.port, tuple(withheld))


def _mesh_addresses(view: PodView) -> set[str]:
    """Members', and those that stand for a role, also for one that this pod may not call."""
    members = {address for member in view.members for address in member.addresses}
    return members | all_addresses(view.topology)


def _others(view: PodView) -> Iterator[MeshMember]:
    return (member for member in view.members if member.iid != view.own.iid)


def _peer(member: MeshMember) -> Peer:
    return Peer(member.domain, spiffe_id(member.domain, member.role), member.ca_pem, member.addresses)


def _application_address(own: MeshMember) -> str:
    """The first IPv4 address, else the first: applications that bind one family bind that one."""
    return min(own.addresses, key=lambda address: ipaddress.ip_address(address).version)


def _check_view(view: PodView) -> None:
    """The manifest checks hold already; what would make a plan unsafe if they did not is checked again."""
    if view.generation < 1:
        raise _refusal("generation", view.generation, "a positive number")
    if view.own not in view.members:
        raise _refusal("own", view.own.iid, "one of the members")
    if not view.own.addresses:
        raise _refusal("own.addresses", "none", "at least one")
    for name in ("iid", "domain", "ca_pem"):
        values = [getattr(member, name) for member in view.members]
        if len(set(values)) != len(values) or not all(values):
            raise _refusal(f"members.{name}", "one twice or empty", "one of its own each")
    for member in view.members:
        if member.role not in view.topology.roles:
            raise _refusal("members.role", member.role, "a role of the topology")
        if member.ca_pem.count(_CERTIFICATE) != 1:
            raise _refusal("members.ca_pem", f"{member.ca_pem.count(_CERTIFICATE)} CAs", "exactly one")
        _check_addresses(member.addresses)


def _check_addresses(addresses: tuple[str, ...]) -> None:
    for address in addresses:
        try:
            scoped = "%" in str(ipaddress.ip_address(address))
        except ValueError:
            scoped = True
        if scoped:
            raise _refusal("members.addresses", address, "an IP literal without a scope")


def _refusal(field: str, found: object, expected: str) -> LocalProtocolError:
    return LocalProtocolError.of(Reason.INTERNAL, f"view.{field}", found, expected)
