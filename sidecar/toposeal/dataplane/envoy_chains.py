"""Filter chains: which connection is let in, and to which cluster it goes. No IO.

A connection that no chain matches is closed; there is no default chain.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from datetime import timedelta

from envoy_data_plane.envoy.config.core.v3 import CidrRange, TransportSocket
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, FilterChainMatch
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import (
    TcpProxy,
    TcpProxyWeightedCluster,
    TcpProxyWeightedClusterClusterWeight,
    UpstreamConnectMode,
)
from envoy_data_plane.google.protobuf import Any

from toposeal.dataplane.envoy_closed import BLACKHOLE
from toposeal.dataplane.envoy_clusters import (
    ATTESTATION,
    ORIGINAL_DESTINATION,
    PROBE_ANSWER,
    PROBE_CALL,
)
from toposeal.dataplane.envoy_names import application_name, host_name, ingress_name, role_name
from toposeal.dataplane.envoy_plan import Inbound, Outbound, OutsidePort, OutsideRange, Peer, PodPlan
from toposeal.dataplane.envoy_proxy_protocol import said_of
from toposeal.dataplane.envoy_routes import calls, serves_member, serves_outside
from toposeal.dataplane.envoy_tls import ATTESTATION_ALPN, HTTP_ALPN, accepts, serves_anyone
from toposeal.limits import CONNECT_ATTEMPTS, INBOUND_PORT, PROBE_ADDRESS, PROBE_PORT, TLS_HANDSHAKE_TIMEOUT


def outbound_chains(plan: PodPlan) -> Iterator[FilterChain]:
    """All but those of roles and ranges."""
    for outside in plan.hosts:
        name = host_name(outside.host, outside.port)
        yield _clear_chain(name, outside.port, _proxy(_to(name)), outside.vip)
    yield _clear_chain(PROBE_CALL, PROBE_PORT, _proxy(_to(PROBE_CALL)), PROBE_ADDRESS)


def role_chain(edge: Outbound, own: Peer) -> FilterChain:
    """For a role and port that the pod may call, at the role's own addresses alone."""
    name, own_name = role_name(edge.role, edge.port), application_name(edge.port)
    led = calls(edge, name, own_name, own) if edge.http else _proxy(_calls(name, own_name, edge, own))
    return _clear_chain(name, edge.port, led, edge.vip, *edge.addresses)


def range_chain(part: OutsideRange) -> FilterChain:
    return _clear_chain(_range_name(part), part.port, _proxy(_to(ORIGINAL_DESTINATION)), part.cidr)


def withheld_chain(part: OutsideRange, address: str) -> FilterChain:
    """Of `address` alone, one of the range: it leads nowhere."""
    bits = ipaddress.ip_network(part.cidr).max_prefixlen
    match = FilterChainMatch(
        destination_port=part.port, prefix_ranges=[CidrRange(address_prefix=address, prefix_len=bits)]
    )
    name = f"{_range_name(part)}|{address}"
    return FilterChain(filter_chain_match=match, filters=[_proxy(_to(BLACKHOLE))], name=name)


def _range_name(part: OutsideRange) -> str:
    return f"egress|{part.cidr}|{part.port}"


def member_chain(edge: Inbound, client: Peer, cluster: str) -> FilterChain:
    """The SNI of an admitted client leads to the chain that trusts its CA and no other."""
    match = FilterChainMatch(
        destination_port=edge.port, server_names=[client.domain], transport_protocol="tls"
    )
    if edge.http:
        led = serves_member(edge, client, cluster)
    else:
        led = _after_handshake(cluster, client if edge.proxy_protocol else None)
    return _tls_chain(f"in|{edge.port}|{client.domain}", match, accepts(client), led)


def inbound_chains(plan: PodPlan) -> Iterator[FilterChain]:
    """All but those of members."""
    for port in plan.ingress:
        yield from _outside_chains(port)
    yield _attestation_chain(plan.attestation_port)
    yield _probe_chain(plan)


def _outside_chains(port: OutsidePort) -> Iterator[FilterChain]:
    """The application for outside clients, and on the same port the document for verifiers."""
    plain = FilterChainMatch(destination_port=port.port, transport_protocol="tls")
    name = f"ingress|{port.port}"
    if port.http:
        led = serves_outside(port, ingress_name(port))
        yield _tls_chain(name, plain, serves_anyone(HTTP_ALPN), led)
    else:
        yield _tls_chain(name, plain, serves_anyone(), _after_handshake(ingress_name(port)))
    attest = FilterChainMatch(
        destination_port=port.port, transport_protocol="tls", application_protocols=[ATTESTATION_ALPN]
    )
    socket = serves_anyone([ATTESTATION_ALPN])
    yield _tls_chain(f"{name}|attestation", attest, socket, _after_handshake(ATTESTATION))


def _attestation_chain(port: int) -> FilterChain:
    match = FilterChainMatch(destination_port=port, transport_protocol="tls")
    socket = serves_anyone([ATTESTATION_ALPN, "http/1.1"])
    return _tls_chain(f"attestation|{port}", match, socket, _after_handshake(ATTESTATION))


def _probe_chain(plan: PodPlan) -> FilterChain:
    """The pod's own Envoy calls itself: only it has a leaf of the pod's own CA."""
    match = FilterChainMatch(
        destination_port=INBOUND_PORT, server_names=[plan.own.domain], transport_protocol="tls"
    )
    return _tls_chain("probe", match, accepts(plan.own), _after_handshake(PROBE_ANSWER))


def _tls_chain(name: str, match: FilterChainMatch, socket: TransportSocket, led: Filter) -> FilterChain:
    """The only chain of the inbound listener: nothing is let in without a transport socket."""
    return FilterChain(
        filter_chain_match=match,
        filters=[led],
        transport_socket=socket,
        transport_socket_connect_timeout=timedelta(milliseconds=TLS_HANDSHAKE_TIMEOUT),
        name=name,
    )


def _after_handshake(cluster: str, caller: Peer | None = None) -> Filter:
    """What is behind is not even connected to before the handshake is over; then it may hear of `caller`."""
    proxy = _to(cluster)
    if caller is not None:
        proxy.proxy_protocol_tlvs = [said_of(caller)]
    proxy.upstream_connect_mode = UpstreamConnectMode.ON_DOWNSTREAM_TLS_HANDSHAKE
    proxy.max_early_data_bytes = 0
    return _proxy(proxy)


def _clear_chain(name: str, port: int, led: Filter, *places: str) -> FilterChain:
    """The only chain of the outbound listener, which the pod's own processes alone can reach; each of
    `places` is an address or a range.
    """
    match = FilterChainMatch(destination_port=port, prefix_ranges=[_range(place) for place in places])
    return FilterChain(filter_chain_match=match, filters=[led], name=name)


def _range(place: str) -> CidrRange:
    network = ipaddress.ip_network(place)
    return CidrRange(address_prefix=str(network.network_address), prefix_len=network.prefixlen)


def _calls(name: str, own_name: str, edge: Outbound, own: Peer) -> TcpProxy:
    """A role that calls itself reaches its other members in the share that they have when all are there, and
    the pod directly: the chain does not change, and so cuts nobody, when one of several others comes or goes.
    What the pod calls of itself passes no other Envoy: here it is said who calls.
    """
    if not edge.includes_self:
        return _to(name)
    proxy = _to(name if edge.servers else own_name)
    if edge.servers:
        proxy.cluster = None
        weights = [_weight(name, edge.most), _weight(own_name, 1)]
        proxy.weighted_clusters = TcpProxyWeightedCluster(clusters=weights)
    if edge.proxy_protocol:
        proxy.proxy_protocol_tlvs = [said_of(own)]
    return proxy


def _weight(name: str, weight: int) -> TcpProxyWeightedClusterClusterWeight:
    return TcpProxyWeightedClusterClusterWeight(name=name, weight=weight)


def _to(cluster: str) -> TcpProxy:
    """Without an idle timeout: a silent connection is the application's own affair."""
    return TcpProxy(
        stat_prefix=cluster,
        cluster=cluster,
        idle_timeout=timedelta(0),
        max_connect_attempts=CONNECT_ATTEMPTS,
    )


def _proxy(proxy: TcpProxy) -> Filter:
    return Filter(name="envoy.filters.network.tcp_proxy", typed_config=Any.pack(proxy))
