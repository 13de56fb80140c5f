"""Clusters: six kinds, and each says how it is protected. No IO.

role: TLS to each member of a role, with that member's own trust, and to nobody else;
application: the pod's own address, in clear, and only if the pod really has it;
host: a destination outside, in clear unless the topology gives CAs for it; original destination: the address
that the application dialled, in clear, for ranges that the topology names;
pipe: a socket of the daemon; blackhole: nothing (envoy_closed).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import timedelta

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterDiscoveryType,
    ClusterLbPolicy,
    ClusterTransportSocketMatch,
    UpstreamConnectionOptions,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    BindConfig,
    Metadata,
    Pipe,
    SocketAddress,
    TcpKeepalive,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.google.protobuf import Struct, Value

from toposeal._wire import xds_pb2 as wire
from toposeal.dataplane.envoy_form import Form
from toposeal.dataplane.envoy_plan import Inbound, Outbound, OutsideHost, OutsidePort, Peer, PodPlan
from toposeal.dataplane.envoy_routes import lead_requests
from toposeal.dataplane.envoy_tls import expects, expects_host, expects_nobody
from toposeal.dataplane.view import Layout
from toposeal.limits import (
    APPLICATION_POOL_IDLE,
    ATTESTATION_CONNECTIONS,
    CONNECT_TIMEOUT,
    CONNECTION_BUFFER,
    HTTP_POOL_IDLE,
    INBOUND_PORT,
    MAX_CLUSTER_CONNECTIONS,
    MAX_MEMBER_SHARES,
    PROBE_CONNECTIONS,
)

ATTESTATION = "attestation"
PROBE_ANSWER = "probe-answer"
PROBE_CALL = "probe-call"
ORIGINAL_DESTINATION = "egress|ranges"
_MATCH = "envoy.transport_socket_match"


def role_name(role: str, port: int) -> str:
    return f"out|{role}|{port}"


def host_name(host: str, port: int) -> str:
    return f"egress|{host}|{port}"


def application_name(port: int) -> str:
    """Of the pod's own calls to itself."""
    return f"app|{port}"


def member_name(edge: Inbound, domain: str) -> str:
    """Of one member's calls, or of a crowd's whose names fall there: always the same ones."""
    if not edge.is_crowd:
        return f"app|{edge.port}|{domain}"
    digest = hashlib.sha256(domain.encode("ascii")).digest()
    return _share_name(edge.port, int.from_bytes(digest[:8], "big") % MAX_MEMBER_SHARES)


def _share_name(port: int, number: int) -> str:
    return f"app|{port}|share-{number}"


def ingress_name(port: OutsidePort) -> str:
    return f"app|{port.target}|ingress|{port.port}"


def role_clusters(plan: PodPlan) -> dict[str, bytes]:
    """One per role and port that the pod may call, encoded."""
    return {
        role_name(edge.role, edge.port): _role_cluster(edge, plan.own)
        for edge in plan.outbound
        if edge.servers
    }


def clusters(plan: PodPlan, layout: Layout) -> Iterator[Cluster]:
    """Every other cluster of the opened state but the blackhole, which the closed state has already."""
    for outside in plan.hosts:
        yield _host_cluster(outside)
    if plan.ranges:
        yield _original_destination()
    yield from _application_clusters(plan)
    yield pipe_cluster(ATTESTATION, layout.attestation, ATTESTATION_CONNECTIONS)
    yield pipe_cluster(PROBE_ANSWER, layout.probe, PROBE_CONNECTIONS)
    yield _tls_cluster(PROBE_CALL, [_endpoint(plan.own, "127.0.0.1", INBOUND_PORT)], [plan.own], plan.own)


def _application_clusters(plan: PodPlan) -> Iterator[Cluster]:
    """The same address in each. Envoy counts by cluster, and only connections whose handshake is over: one
    cluster for each client is what bounds a client, and for a crowd as many as Envoy should hold. A limit of
    the filter chain would count strangers who show its name and no certificate.
    """
    for edge in plan.inbound:
        crowd = [_share_name(edge.port, number) for number in range(MAX_MEMBER_SHARES)]
        for name in crowd if edge.is_crowd else [member_name(edge, client.domain) for client in edge.clients]:
            yield _served(name, plan, edge.port, edge.connections, edge.http)
    for outside in plan.ingress:
        name = ingress_name(outside)
        yield _served(name, plan, outside.target, outside.connections, outside.http)
    for port, http in sorted({(edge.port, edge.http) for edge in plan.outbound if edge.includes_self}):
        yield _served(application_name(port), plan, port, MAX_CLUSTER_CONNECTIONS, http)


def _served(name: str, plan: PodPlan, port: int, connections: int, http: bool) -> Cluster:
    cluster = application_cluster(name, plan.application, port, connections)
    if http:
        lead_requests(cluster, APPLICATION_POOL_IDLE)
    return cluster


def _role_cluster(edge: Outbound, own: Peer) -> bytes:
    """`_tls_cluster` of all servers, put together from encoded parts: one endpoint for each address, and one
    trust for each member.
    """
    name = role_name(edge.role, edge.port)
    rest = _tls_cluster(name, [], [], own)
    rest.load_assignment = None
    if edge.http:
        lead_requests(rest, HTTP_POOL_IDLE)
    endpoint = Form(lambda server, address: bytes(_endpoint(server, address, edge.port)))
    trust = Form(lambda server, _: bytes(_trust(server, own)))
    endpoints = [endpoint.of(server, address) for server in edge.servers for address in server.addresses]
    members = wire.ClusterMembers(
        load_assignment=wire.LoadAssignment(
            cluster_name=name, endpoints=[wire.Locality(lb_endpoints=endpoints)]
        ),
        transport_socket_matches=[trust.of(server) for server in edge.servers],
    )
    return bytes(rest) + members.SerializeToString()


def _host_cluster(outside: OutsideHost) -> Cluster:
    endpoints = [LbEndpoint(endpoint=Endpoint(address=_tcp(a, outside.port))) for a in outside.addresses]
    cluster = _cluster(host_name(outside.host, outside.port), endpoints)
    if outside.tls_ca:
        cluster.transport_socket = expects_host(outside.host, outside.tls_ca)
    return cluster


def _original_destination() -> Cluster:
    """Only where the chain of a range leads to it; it has no endpoints but what was dialled."""
    cluster = _cluster(ORIGINAL_DESTINATION, [])
    cluster.type = ClusterDiscoveryType.ORIGINAL_DST
    cluster.lb_policy = ClusterLbPolicy.CLUSTER_PROVIDED
    cluster.load_assignment = None
    return cluster


def _tls_cluster(name: str, endpoints: Sequence[LbEndpoint], servers: Sequence[Peer], own: Peer) -> Cluster:
    """Each endpoint has the trust of its own member; an endpoint that matches none trusts nobody."""
    cluster = _cluster(name, endpoints)
    cluster.transport_socket_matches = [_trust(server, own) for server in servers]
    cluster.transport_socket = expects_nobody(own)
    return cluster


def _trust(server: Peer, own: Peer) -> ClusterTransportSocketMatch:
    return ClusterTransportSocketMatch(
        name=server.domain,
        match=Struct(fields={"member": Value(string_value=server.domain)}),
        transport_socket=expects(server, own),
    )


def _endpoint(peer: Peer, address: str, port: int) -> LbEndpoint:
    """Labelled with the member whose address it claims to be."""
    label = Struct(fields={"member": Value(string_value=peer.domain)})
    return LbEndpoint(
        endpoint=Endpoint(address=_tcp(address, port)), metadata=Metadata(filter_metadata={_MATCH: label})
    )


def application_cluster(name: str, address: str, port: int, connections: int) -> Cluster:
    """In clear, so it must never leave the pod: the source is bound to the same address, which fails
    unless the address is the pod's own, whatever routes the host has set up."""
    cluster = _cluster(name, [LbEndpoint(endpoint=Endpoint(address=_tcp(address, port)))], connections)
    cluster.upstream_bind_config = BindConfig(source_address=SocketAddress(address=address, port_value=0))
    return cluster


def pipe_cluster(name: str, path: str, connections: int) -> Cluster:
    endpoint = Endpoint(address=Address(pipe=Pipe(path=path)))
    return _cluster(name, [LbEndpoint(endpoint=endpoint)], connections)


def _cluster(
    name: str, endpoints: Sequence[LbEndpoint], connections: int = MAX_CLUSTER_CONNECTIONS
) -> Cluster:
    """Fixed endpoints, at most `connections` at once, and a keep-alive that does not show to the application.
    A connection that is one too many is closed and told (dataplane.refusals)."""
    limits = CircuitBreakersThresholds(max_connections=connections, max_pending_requests=connections)
    keepalive = TcpKeepalive(keepalive_probes=3, keepalive_time=60, keepalive_interval=10)
    return Cluster(
        name=name,
        type=ClusterDiscoveryType.STATIC,
        connect_timeout=timedelta(milliseconds=CONNECT_TIMEOUT),
        per_connection_buffer_limit_bytes=CONNECTION_BUFFER,
        load_assignment=ClusterLoadAssignment(
            cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=list(endpoints))]
        ),
        circuit_breakers=CircuitBreakers(thresholds=[limits]),
        upstream_connection_options=UpstreamConnectionOptions(tcp_keepalive=keepalive),
    )


def _tcp(address: str, port: int) -> Address:
    return Address(socket_address=SocketAddress(address=address, port_value=port))
