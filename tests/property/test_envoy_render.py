"""The renderer over random topologies and memberships: the oracle's rules, and exact edges (D4, D6)."""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.endpoint.v3 import Endpoint, EndpointAdditionalAddress, LbEndpoint
from envoy_data_plane.envoy.config.listener.v3 import Listener
from hypothesis import strategies as st
from property.strategies import topologies
from support.envoy import resources, validate
from support.envoy_header_oracle import IDENTITY, said
from support.envoy_oracle import addresses_of, violations, walk
from support.envoy_requests_oracle import targets
from support.shop import member as shop_member

from toposeal.dataplane.discovery import Kind
from toposeal.dataplane.envoy_chains import inbound_chains, member_chain
from toposeal.dataplane.envoy_closed import closed
from toposeal.dataplane.envoy_clusters import _tls_cluster, label, place
from toposeal.dataplane.envoy_metrics import metrics_chains
from toposeal.dataplane.envoy_names import member_name, role_name
from toposeal.dataplane.envoy_open import render
from toposeal.dataplane.envoy_plan import Peer, PodPlan, plan
from toposeal.dataplane.envoy_probes import probe_chains
from toposeal.dataplane.envoy_readable import opened
from toposeal.dataplane.envoy_request import decode, encode
from toposeal.dataplane.envoy_routes import lead_requests
from toposeal.dataplane.layout import ENVOY_LAYOUT
from toposeal.dataplane.view import MeshMember, PodView
from toposeal.dataplane.vips import vip
from toposeal.limits import HTTP_POOL_IDLE
from toposeal.names import member_domain
from toposeal.topology.model import Topology


@cache
def ca_pem(seed: int) -> str:
    """Real certificates, few of them: making one is slow, and Envoy's validation reads them."""
    return shop_member("any", seed, "192.0.2.1").ca_pem


def mesh_member(topology: Topology, role: str, seed: int, addresses: tuple[str, ...]) -> MeshMember:
    digest = hashlib.sha384(f"{role}/{seed}".encode()).digest()
    return MeshMember(digest, role, member_domain(digest, topology.mesh), ca_pem(seed), addresses)


addresses = st.lists(
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str), min_size=1, max_size=3, unique=True
).map(tuple)


# What an answer must not lead to.
HOSTILE = (
    "127.0.0.1",
    "169.254.169.254",
    "240.10.0.1",
    "::1",
    "fe80::1",
    "::ffff:10.0.0.1",
    "100.100.100.200",
)


@st.composite
def views(draw: st.DrawFn) -> PodView:
    """A sealed mesh within its bounds, as one of its members sees it."""
    topology = draw(topologies())
    members: list[MeshMember] = []
    for role in topology.roles.values():
        for _ in range(draw(st.integers(max(role.min_replicas, not members), role.max_replicas))):
            members.append(mesh_member(topology, role.name, len(members), draw(addresses)))
    members.sort(key=lambda m: (m.role, m.iid))
    own = draw(st.sampled_from(members))
    anything = st.one_of(addresses, st.just(members[0].addresses), st.just(HOSTILE))
    hosts = [entry.host for entry in topology.roles[own.role].egress if entry.host]
    resolved = {host: draw(anything) for host in hosts if draw(st.booleans())}
    return PodView(topology, own, tuple(members), draw(st.integers(1, 1 << 40)), resolved)


def edges_in(view: PodView) -> set[tuple[int, str]]:
    """(port, member) that the topology lets in, said without the plan."""
    roles = view.topology.roles
    return {
        (call.port, member.domain)
        for member in view.members
        for call in roles[member.role].calls
        if call.role == view.own.role and member.iid != view.own.iid
    }


def callers_in(view: PodView) -> dict[tuple[int, str], list[tuple[int, str]]]:
    """(port, member) that a header says the caller of, and as whom."""
    served = view.topology.roles[view.own.role].proxy_protocol
    roles = {member.domain: member.role for member in view.members}
    return {
        (port, domain): [(IDENTITY, f"spiffe://{domain}/{roles[domain]}")]
        for port, domain in edges_in(view)
        if port in served
    }


def named_in(files: dict[str, bytes]) -> dict[tuple[int, str], list[tuple[int, str]]]:
    found = {chain["name"]: said(chain) for chain in resources(files["lds.json"])[1]["filter_chains"]}
    return {(int(name.split("|")[1]), name.split("|")[2]): told for name, told in found.items() if told}


def edges_out(view: PodView) -> set[tuple[int, str, str]]:
    """(port, member, address) that the topology lets out to."""
    return {
        (call.port, member.domain, address)
        for call in view.topology.roles[view.own.role].calls
        for member in view.members
        for address in member.addresses
        if member.role == call.role and member.iid != view.own.iid
    }


def ports_in_clear(view: PodView) -> set[tuple[str, int]]:
    """What answers strangers who speak no TLS."""
    role = view.topology.roles[view.own.role]
    figures = set() if role.metrics is None else {("metrics", role.metrics)}
    return figures | {("probed", probe.port) for probe in role.probes}


def in_clear(files: dict[str, bytes]) -> set[tuple[str, int]]:
    return {
        (chain["name"].partition("|")[0], chain["filter_chain_match"]["destination_port"])
        for chain in resources(files["lds.json"])[1]["filter_chains"]
        if "transport_socket" not in chain and chain["name"] != "sentinel"
    }


def rendered_in(files: dict[str, bytes]) -> set[tuple[int, str]]:
    return {
        (chain["filter_chain_match"]["destination_port"], chain["filter_chain_match"]["server_names"][0])
        for listener in resources(files["lds.json"])
        for chain in listener["filter_chains"]
        if chain["name"].startswith("in|")
    }


def rendered_out(files: dict[str, bytes]) -> set[tuple[int, str, str]]:
    return {
        (
            address["socket_address"]["port_value"],
            endpoint["metadata"]["filter_metadata"]["envoy.transport_socket_match"]["member"],
            address["socket_address"]["address"],
        )
        for cluster in resources(files["cds.json"])
        if cluster["name"].startswith("out|")
        for endpoint in walk(cluster)
        if "endpoint" in endpoint
        for address in addresses_of(endpoint)
    }


@hypothesis.given(views())
@hypothesis.settings(max_examples=60, suppress_health_check=list(hypothesis.HealthCheck))
def test_D4_D6_every_configuration_holds_every_rule(view: PodView) -> None:
    """All that is said of one is said of the same ones: rendering is what takes the time."""
    files = opened(view, ENVOY_LAYOUT)
    assert violations(files) == []
    assert rendered_in(files) == edges_in(view)  # D4: no edge in either direction but the topology's
    assert rendered_out(files) == edges_out(view)
    assert in_clear(files) == ports_in_clear(view)
    assert named_in(files) == callers_in(view)
    out = resources(files["lds.json"])[0]["filter_chains"]
    outside = [c for c in resources(files["cds.json"]) if c["name"].startswith("egress|")]
    assert_nothing_in_clear_leads_to_a_member_or_to_what_no_destination_is(view, out, outside)
    assert_an_address_of_a_role_leads_where_its_own_does_and_nowhere_else(view, out)


def assert_nothing_in_clear_leads_to_a_member_or_to_what_no_destination_is(
    view: PodView, out: list[dict[str, Any]], outside: list[dict[str, Any]]
) -> None:
    """D6: whatever DNS answers and whatever range is named: said without the plan."""
    called = {address for role in view.topology.roles.values() for address in role.addresses}
    withheld = {address for member in view.members for address in member.addresses} | called | set(HOSTILE)
    declared = view.topology.roles[view.own.role].egress
    hosts = {
        f"egress|{entry.host}|{entry.port}": entry.tls_ca is not None for entry in declared if entry.host
    }
    ranges = {"egress|ranges": False} if any(entry.cidr for entry in declared) else {}
    assert {c["name"]: "transport_socket" in c for c in outside} == hosts | ranges
    for cluster in outside:
        if cluster["name"] in hosts:
            dialled = {e["socket_address"]["address"] for e in walk(cluster) if "socket_address" in e}
            assert not dialled & withheld
    ports = {entry.port: entry.cidr for entry in declared if entry.cidr}
    for address, (port, cidr) in itertools.product(withheld, ports.items()):
        if ipaddress.ip_address(address) in ipaddress.ip_network(cidr):
            assert leads(out, address, port) == {"blackhole"}


def assert_an_address_of_a_role_leads_where_its_own_does_and_nowhere_else(
    view: PodView, out: list[dict[str, Any]]
) -> None:
    """D4"""
    roles = view.topology.roles
    calls = {(call.role, call.port) for call in roles[view.own.role].calls}
    ports = {chain["filter_chain_match"]["destination_port"] for chain in out}
    for name, port in itertools.product(roles, ports):
        own = leads(out, vip(view.topology, name), port)
        assert bool(own) == ((name, port) in calls and any(m.role == name for m in view.members))
        for address in roles[name].addresses:
            assert leads(out, address, port) - {"blackhole"} == own


def leads(chains: list[dict[str, Any]], address: str, port: int) -> set[str]:
    """Where Envoy takes a connection: the most specific range wins. Nothing where no chain matches."""
    found: dict[int, set[str]] = {}
    for chain in chains:
        match = chain["filter_chain_match"]
        for part in match.get("prefix_ranges", []):
            network = ipaddress.ip_network(f"{part['address_prefix']}/{part['prefix_len']}")
            if match["destination_port"] == port and ipaddress.ip_address(address) in network:
                found.setdefault(part["prefix_len"], set()).update(targets(chain["filters"]))
    return found[max(found)] if found else set()


@hypothesis.given(views())
@hypothesis.settings(max_examples=30, suppress_health_check=list(hypothesis.HealthCheck))
def test_D6_what_is_put_together_is_what_envoys_messages_say_one_by_one(view: PodView) -> None:
    """Chains, endpoints and trusts of members, made without any form."""
    made = plan(view)
    update = render(made, ENVOY_LAYOUT)
    inbound = Listener.parse(update[Kind.LISTENER].resources["in"])
    chains = [bytes(chain) for chain in inbound.filter_chains]
    expected = [
        bytes(member_chain(edge, peer, member_name(edge, peer.domain)))
        for edge in made.inbound
        for peer in edge.clients
    ]
    assert chains[1 : 1 + len(expected)] == expected
    others = [*inbound_chains(made), *probe_chains(made), *metrics_chains(made)]
    assert chains[1 + len(expected) :] == [bytes(chain) for chain in others]
    for edge in made.outbound:
        if edge.servers:
            name = role_name(edge.role, edge.port)
            endpoints = [one_endpoint(peer, edge.port) for peer in edge.servers]
            whole = _tls_cluster(name, endpoints, edge.servers, made.own)
            if edge.http:
                lead_requests(whole, HTTP_POOL_IDLE)
            assert Cluster.parse(update[Kind.CLUSTER].resources[name]) == Cluster.parse(bytes(whole))


def one_endpoint(peer: Peer, port: int) -> LbEndpoint:
    first, *more = [place(address, port) for address in peer.addresses]
    others = [EndpointAdditionalAddress(address=address) for address in more]
    return LbEndpoint(endpoint=Endpoint(address=first, additional_addresses=others), metadata=label(peer))


@hypothesis.given(views())
@hypothesis.settings(max_examples=50, suppress_health_check=list(hypothesis.HealthCheck))
def test_a_plan_survives_the_way_to_the_child(view: PodView) -> None:
    assert decode(PodPlan, encode(plan(view))) == plan(view)


@pytest.mark.parametrize("batch", range(4))
def test_D6_envoy_validates_random_topologies(batch: int) -> None:
    @hypothesis.given(views())
    @hypothesis.seed(batch)
    @hypothesis.settings(
        max_examples=5,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    def check(view: PodView) -> None:
        files = {**closed(ENVOY_LAYOUT), **opened(view, ENVOY_LAYOUT)}
        with tempfile.TemporaryDirectory() as directory:
            assert validate(files, Path(directory)) == ""

    check()
