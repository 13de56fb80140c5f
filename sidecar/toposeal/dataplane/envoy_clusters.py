"""Clusters: six kinds, and each says how it is protected. No IO.

role: TLS to each member of a role, with that member's own trust, and to nobody else;
application: the pod's own address, in clear, maybe after a PROXY header, and only if the pod really has it;
host: a destination outside, in clear unless the topology gives CAs for it; original destination: the address
that the application dialled, in clear, for ranges that the topology names;
pipe: a socket of the daemon; blackhole: nothing (envoy_closed).
"""

from __future__ import annotations

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

from toposeal.dataplane.envoy_names import application_name, host_name, ingress_name, role_name, share_name
from toposeal.dataplane.envoy_plan import Inbound, Outbound, OutsideHost, OutsidePort, Peer, PodPlan
from toposeal.dataplane.envoy_proxy_protocol import begins_with_header
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


def called_role(edge: Outbound, own: Peer) -> bytes:
    """The cluster of a role and port that the pod may call, encoded, but for endpoints and trust."""
    name = role_name(edge.role, edge.port)
    rest = _tls_cluster(name, [], [], own)
    rest.load_assignment = None
    if edge.http:
        lead_requests(rest, HTTP_POOL_IDLE)
    return bytes(rest)


def destination(outside: OutsideHost) -> bytes:
    """The cluster of a host outside, encoded, but for its endpoints."""
    cluster = _cluster(host_name(outside.host, outside.port), [])
    cluster.load_assignment = None
    if outside.tls_ca:
        cluster.transport_socket = expects_host(outside.host, outside.tls_ca)
    return bytes(cluster)


def clusters(plan: PodPlan, layout: Layout) -> Iterator[Cluster]:
    """Those that are the same whoever is there, but for the blackhole, which the closed state has already."""
    if plan.ranges:
        yield _original_destination()
    yield from _application_clusters(plan)
    yield pipe_cluster(ATTESTATION, layout.attestation, ATTESTATION_CONNECTIONS)
    yield pipe_cluster(PROBE_ANSWER, layout.probe, PROBE_CONNECTIONS)
    yield _tls_cluster(PROBE_CALL, [_own_endpoint(plan.own)], [plan.own], plan.own)


def _application_clusters(plan: PodPlan) -> Iterator[Cluster]:
    """The same address in each. Envoy counts by cluster, and only connections whose handshake is over: one
    cluster for each client is what bounds a client, and for a crowd as many as Envoy should hold. A limit of
    the filter chain would count strangers who show its name and no certificate.
    """
    for edge in plan.inbound:
        shares = MAX_MEMBER_SHARES if edge.is_crowd else 0
        for number in range(shares):
            yield share_cluster(plan, edge, share_name(edge.port, number))
    for outside in plan.ingress:
        name = ingress_name(outside)
        yield _served(name, plan, outside.target, outside.connections, outside)
    for call in plan.outbound:
        if call.includes_self:
            yield _served(application_name(call.port), plan, call.port, MAX_CLUSTER_CONNECTIONS, call)


def share_cluster(plan: PodPlan, edge: Inbound, name: str) -> Cluster:
    """Of one member's calls, or of a part of a crowd's."""
    return _served(name, plan, edge.port, edge.connections, edge)


def _served(
    name: str, plan: PodPlan, port: int, connections: int, way: Inbound | Outbound | OutsidePort
) -> Cluster:
    cluster = application_cluster(name, plan.application, port, connections)
    if way.http:
        lead_requests(cluster, APPLICATION_POOL_IDLE)
    elif way.proxy_protocol:
        cluster.transport_socket = begins_with_header()
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
    cluster.transport_socket_matches = [trust(server, own) for server in servers]
    cluster.transport_socket = expects_nobody(own)
    return cluster


def trust(server: Peer, own: Peer) -> ClusterTransportSocketMatch:
    return ClusterTransportSocketMatch(
        name=server.domain,
        match=Struct(fields={"member": Value(string_value=server.domain)}),
        transport_socket=expects(server, own),
    )


def _own_endpoint(own: Peer) -> LbEndpoint:
    return LbEndpoint(endpoint=Endpoint(address=place("127.0.0.1", INBOUND_PORT)), metadata=label(own))


def label(peer: Peer) -> Metadata:
    """Of an endpoint: the member whose addresses it claims to have."""
    return Metadata(filter_metadata={_MATCH: Struct(fields={"member": Value(string_value=peer.domain)})})


def place(address: str, port: int) -> Address:
    return Address(socket_address=SocketAddress(address=address, port_value=port))


def application_cluster(name: str, address: str, port: int, connections: int) -> Cluster:
    """In clear, so it must never leave the pod: the source is bound to the same address, which fails
    unless the address is the pod's own, whatever routes the host has set up."""
    endpoint = LbEndpoint(endpoint=Endpoint(address=place(address, port)))
    cluster = _cluster(name, [endpoint], connections)
    cluster.upstream_bind_config = BindConfig(source_address=SocketAddress(address=address, port_value=0))
    return cluster


def pipe_cluster(name: str, path: str, connections: int) -> Cluster:
    pipe = Endpoint(address=Address(pipe=Pipe(path=path)))
    return _cluster(name, [LbEndpoint(endpoint=pipe)], connections)


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
