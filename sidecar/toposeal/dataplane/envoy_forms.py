"""What the topology alone decides of a pod's configuration, and all of it for the members of a plan. No IO.

The renderer's child makes `Forms` once for a topology; the daemon fills them in for every manifest.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from toposeal._wire import xds_pb2 as wire
from toposeal.dataplane.discovery import Kind, Offer, Update
from toposeal.dataplane.envoy_closed import CLOSED
from toposeal.dataplane.envoy_form import Form, filled_in
from toposeal.dataplane.envoy_names import host_name, member_name, role_name
from toposeal.dataplane.envoy_plan import Inbound, Outbound, OutsideHost, OutsideRange, Peer, PodPlan
from toposeal.errors import LocalProtocolError, Reason

_NOBODY = Peer("", "", "", ())


@dataclass(frozen=True)
class Named:
    name: str
    value: bytes


@dataclass(frozen=True)
class ServedPort:
    chain: Form  # of a client, and the name of the cluster for its share
    cluster: Form  # of that name; for a crowd, whose clusters are always there, of no use


@dataclass(frozen=True)
class CalledRole:
    cluster: bytes  # but for endpoints and trust
    label: Form  # of a server: what its endpoint says that it is
    address: Form  # of nobody, and one address
    trust: Form  # of a server
    chain: bytes
    alone: bytes  # the chain while nobody else has the role: empty, or the pod's calls to itself


@dataclass(frozen=True)
class Destination:
    """A host outside."""

    cluster: bytes  # but for endpoints
    address: Form  # of nobody, and one address


@dataclass(frozen=True)
class Range:
    chain: bytes
    withheld: Form  # a chain, of nobody, and an address that is not to be reached


@dataclass(frozen=True)
class Forms:
    """One for each edge, host and range of the plan; the last three are the same whoever is there."""

    inbound: tuple[ServedPort, ...]
    outbound: tuple[CalledRole, ...]
    hosts: tuple[Destination, ...]
    ranges: tuple[Range, ...]
    clusters: tuple[Named, ...]
    chains_in: tuple[bytes, ...]
    chains_out: tuple[bytes, ...]


def filled(forms: Forms, plan: PodPlan) -> Update:
    """The closed listeners, unchanged but for further chains: Envoy updates them in place.

    Raises LocalProtocolError for forms of another frame than the plan's.
    """
    try:
        clusters = dict(_clusters(forms, plan))
        chains = {"in": [*_chains_in(forms, plan)], "out": [*_chains_out(forms, plan)]}
    except ValueError as error:
        raise LocalProtocolError.of(Reason.INTERNAL, "forms", str(error), "one for each edge") from None
    listeners = {
        name: closed + wire.ListenerChains(filter_chains=chains[name]).SerializeToString()
        for name, closed in CLOSED[Kind.LISTENER].resources.items()
    }
    found = {**CLOSED[Kind.CLUSTER].resources, **clusters}
    return {Kind.CLUSTER: Offer(plan.version, found), Kind.LISTENER: Offer(plan.version, listeners)}


def _chains_in(forms: Forms, plan: PodPlan) -> Iterator[bytes]:
    """A port has one for each admitted client: its SNI leads to the chain that trusts its CA and no other."""
    for served, edge in zip(forms.inbound, plan.inbound, strict=True):
        yield from filled_in(served.chain, ((c, member_name(edge, c.domain)) for c in edge.clients))
    yield from forms.chains_in


def _chains_out(forms: Forms, plan: PodPlan) -> Iterator[bytes]:
    for called, edge in zip(forms.outbound, plan.outbound, strict=True):
        chain = called.chain if edge.servers else called.alone
        if chain:
            yield chain
    for form, part in zip(forms.ranges, plan.ranges, strict=True):
        yield from _range_chains(form, part)
    yield from forms.chains_out


def _range_chains(form: Range, part: OutsideRange) -> Iterator[bytes]:
    """Envoy takes the chain with the most specific address: what is withheld goes nowhere. A range that is
    one address may be withheld whole.
    """
    network = ipaddress.ip_network(part.cidr)
    if network not in map(ipaddress.ip_network, part.withheld):
        yield form.chain
    yield from filled_in(form.withheld, ((_NOBODY, address) for address in part.withheld))


def _clusters(forms: Forms, plan: PodPlan) -> Iterator[tuple[str, bytes]]:
    for called, calls in zip(forms.outbound, plan.outbound, strict=True):
        if calls.servers:
            yield role_name(calls.role, calls.port), _role_cluster(called, calls)
    for host, outside in zip(forms.hosts, plan.hosts, strict=True):
        yield host_name(outside.host, outside.port), _host_cluster(host, outside)
    for served, serves in zip(forms.inbound, plan.inbound, strict=True):
        yield from _share_clusters(served, serves)
    for cluster in forms.clusters:
        yield cluster.name, cluster.value


def _role_cluster(form: CalledRole, edge: Outbound) -> bytes:
    """One endpoint and one trust for each member: who has two addresses is not called twice as often, and
    where the first does not answer the next is tried.
    """
    servers = [(server, "") for server in edge.servers]
    labels = filled_in(form.label, servers)
    endpoints = [
        wire.LbEndpoint(endpoint=_endpoint(form.address, server.addresses), metadata=label)
        for (server, _), label in zip(servers, labels, strict=True)
    ]
    members = wire.ClusterMembers(
        load_assignment=_assigned(role_name(edge.role, edge.port), endpoints),
        transport_socket_matches=filled_in(form.trust, servers),
    )
    return form.cluster + members.SerializeToString()


def _endpoint(form: Form, addresses: Sequence[str]) -> wire.Endpoint:
    first, *more = filled_in(form, ((_NOBODY, address) for address in addresses))
    return wire.Endpoint(
        address=first, additional_addresses=[wire.AdditionalAddress(address=a) for a in more]
    )


def _host_cluster(form: Destination, outside: OutsideHost) -> bytes:
    """One endpoint for each address: they are of different machines."""
    addresses = filled_in(form.address, ((_NOBODY, address) for address in outside.addresses))
    endpoints = [wire.LbEndpoint(endpoint=wire.Endpoint(address=address)) for address in addresses]
    assigned = _assigned(host_name(outside.host, outside.port), endpoints)
    return form.cluster + wire.ClusterMembers(load_assignment=assigned).SerializeToString()


def _assigned(name: str, endpoints: Sequence[wire.LbEndpoint]) -> wire.LoadAssignment:
    return wire.LoadAssignment(cluster_name=name, endpoints=[wire.Locality(lb_endpoints=endpoints)])


def _share_clusters(form: ServedPort, edge: Inbound) -> Iterator[tuple[str, bytes]]:
    if not edge.is_crowd:
        names = [member_name(edge, client.domain) for client in edge.clients]
        yield from zip(names, filled_in(form.cluster, ((_NOBODY, name) for name in names)), strict=True)
