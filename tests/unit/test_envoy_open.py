"""The opened state: golden files, Envoy's own validation, and each trap of its language refused (D6)."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.listener.v3 import Listener
from support.envoy import resources, validate
from support.envoy_header_oracle import IDENTITY, SOCKET, said
from support.envoy_oracle import DOWNSTREAM, UPSTREAM, addresses_of, violations, walk
from support.envoy_requests_oracle import MANAGER, targets
from support.golden import ROLES, golden_files
from support.shop import (
    ATTESTATION_PORT,
    MEMBERS,
    SHOP,
    headers_view,
    member,
    outside_view,
    requests_view,
    role,
    topology,
    view,
)

from toposeal.dataplane.discovery import Kind
from toposeal.dataplane.envoy_closed import closed
from toposeal.dataplane.envoy_open import render
from toposeal.dataplane.envoy_plan import plan
from toposeal.dataplane.envoy_readable import opened
from toposeal.dataplane.layout import ENVOY_LAYOUT, layout_under
from toposeal.dataplane.view import PodView
from toposeal.limits import (
    ATTESTATION_CONNECTIONS,
    INGRESS_CONNECTIONS,
    MEMBER_CONNECTIONS,
    PROBE_CONNECTIONS,
)
from toposeal.names import spiffe_id
from toposeal.topology.author import compile_yaml
from toposeal.topology.egress import Egress
from toposeal.topology.model import Call, Ingress, Topology
from toposeal.topology.parse import parse_topology

ENVOY_DIRECTORY = Path(__file__).resolve().parents[2] / "envoy"
Json = dict[str, Any]


@cache
def opened_shop(name: str) -> dict[str, bytes]:
    others = {"outside": outside_view, "requests": requests_view, "headers": headers_view}
    return opened(others[name]() if name in others else view(name), ENVOY_LAYOUT)


def chains(files: dict[str, bytes], listener: str) -> dict[str, Json]:
    found = next(item for item in resources(files["lds.json"]) if item["name"] == listener)
    return {chain["name"]: chain for chain in found["filter_chains"]}


def clusters(files: dict[str, bytes]) -> dict[str, Json]:
    return {cluster["name"]: cluster for cluster in resources(files["cds.json"])}


def target(chain: Json) -> str:
    return str(chain["filters"][0]["typed_config"]["cluster"])


def test_the_repositorys_files_are_what_the_renderer_writes() -> None:
    """After a change on purpose: python tests/support/golden.py, and read the difference."""
    found = {str(p.relative_to(ENVOY_DIRECTORY)): p.read_bytes() for p in ENVOY_DIRECTORY.rglob("*.json")}
    assert found == golden_files()


def test_the_example_topology_has_the_shape_of_the_golden_files() -> None:
    text = (ENVOY_DIRECTORY.parent / "docs/examples/shop/topology.yaml").read_bytes()
    assert shape(parse_topology(compile_yaml(text, bytes(48)))) == shape(SHOP)


def shape(found: Topology) -> object:
    roles = {
        n: (r.min_replicas, r.max_replicas, r.serves, r.calls, r.ingress) for n, r in found.roles.items()
    }
    return roles, found.attestation_port, found.mesh


@pytest.mark.parametrize("name", [*ROLES, "outside", "requests", "headers"])
def test_D6_envoy_validates_every_golden_configuration(name: str, tmp_path: Path) -> None:
    files = {**closed(ENVOY_LAYOUT), **opened_shop(name)}
    assert validate(files, tmp_path) == ""


def test_D6_envoys_validation_can_fail(tmp_path: Path) -> None:
    files = {**closed(ENVOY_LAYOUT), **opened_shop("web")}
    files["lds.json"] = files["lds.json"].replace(b'"sentinel"', b'"sentinel", "bogus": 1')
    assert "bogus" in validate(files, tmp_path)


@pytest.mark.parametrize("name", [*ROLES, "outside", "requests", "headers"])
def test_opening_changes_nothing_of_a_listener_but_its_chains(name: str) -> None:
    """Anything else would replace the listener and cut every connection."""
    before, after = resources(closed(ENVOY_LAYOUT)["lds.json"]), resources(opened_shop(name)["lds.json"])
    for shut, open_ in zip(before, after, strict=True):
        assert open_["filter_chains"][0] == shut["filter_chains"][0]
        for listener in (shut, open_):
            del listener["filter_chains"]
        assert open_ == shut


def test_the_blackhole_stays() -> None:
    assert clusters(opened_shop("db"))["blackhole"] == clusters(closed(ENVOY_LAYOUT))["blackhole"]


def test_one_inbound_chain_per_port_and_member() -> None:
    found = chains(opened_shop("db"), "in")
    api = sorted(m.domain for m in MEMBERS if m.role == "api")
    assert sorted(found) == sorted(
        ["sentinel", "probe", f"attestation|{ATTESTATION_PORT}", *(f"in|6379|{domain}" for domain in api)]
    )
    chain = found[f"in|6379|{api[0]}"]
    assert chain["filter_chain_match"] == {
        "destination_port": 6379,
        "server_names": [api[0]],
        "transport_protocol": "tls",
    }
    assert target(chain) == f"app|6379|{api[0]}"


def test_a_role_without_members_has_neither_chain_nor_cluster() -> None:
    own = view("web").own
    alone = opened(PodView(SHOP, own, (own,), 1), ENVOY_LAYOUT)
    assert "out|api|8080" in chains(opened_shop("web"), "out")
    assert sorted(chains(alone, "out")) == ["probe-call", "sentinel"]
    assert not [name for name in clusters(alone) if name.startswith("out|")]


def connections(files: dict[str, bytes], chain: str) -> int:
    """How many at once the cluster of an inbound chain takes."""
    (bound,) = clusters(files)[target(chains(files, "in")[chain])]["circuit_breakers"]["thresholds"]
    return int(bound["max_connections"])


def test_R1_every_client_has_a_share_of_its_own_whoever_else_is_there() -> None:
    """Equal parts of what the topology says can be, not of what is."""
    api, db = [m for m in MEMBERS if m.role == "api"], next(m for m in MEMBERS if m.role == "db")
    for members in ((*api, db), (api[0], db)):
        files = opened(PodView(SHOP, db, tuple(members), 1), ENVOY_LAYOUT)
        for one in members[:-1]:
            assert connections(files, f"in|6379|{one.domain}") == MEMBER_CONNECTIONS // 2


def test_R1_a_crowd_has_as_many_shares_as_there_are_whoever_is_there() -> None:
    crowd = topology(role("web", 65, calls=(Call("db", 1),)), role("db", 1, serves=(1,)))
    db, webs = member("db", 1), [member("web", seed, "10.0.0.9") for seed in range(2, 67)]
    few, all_ = (opened(PodView(crowd, db, (*some, db), 1), ENVOY_LAYOUT) for some in (webs[:2], webs))
    shares = {f"app|1|share-{number}" for number in range(64)}
    for files in (few, all_):
        assert {name for name in clusters(files) if name.startswith("app|1")} == shares
    used = {web.domain: target(chains(all_, "in")[f"in|1|{web.domain}"]) for web in webs}
    assert set(used.values()) <= shares and len(set(used.values())) > 32
    for web in webs[:2]:
        assert target(chains(few, "in")[f"in|1|{web.domain}"]) == used[web.domain]
        assert connections(few, f"in|1|{web.domain}") == MEMBER_CONNECTIONS // 64


def test_R1_outside_clients_verifiers_and_the_pod_itself_have_theirs() -> None:
    files = opened_shop("web")
    assert connections(files, "ingress|8443") == INGRESS_CONNECTIONS
    assert connections(files, f"attestation|{ATTESTATION_PORT}") == ATTESTATION_CONNECTIONS
    assert connections(files, "ingress|8443|attestation") == ATTESTATION_CONNECTIONS
    assert connections(files, "probe") == PROBE_CONNECTIONS


def test_outbound_chains_match_the_roles_own_address() -> None:
    found = chains(opened_shop("api"), "out")
    assert sorted(found) == ["out|db|6379", "probe-call", "sentinel"]
    assert found["out|db|6379"]["filter_chain_match"] == {
        "destination_port": 6379,
        "prefix_ranges": [{"address_prefix": "240.10.0.2", "prefix_len": 32}],
    }
    assert target(found["out|db|6379"]) == "out|db|6379"


def test_every_address_of_a_member_has_that_members_trust() -> None:
    cluster = clusters(opened_shop("web"))["out|api|8080"]
    labels = {
        e["metadata"]["filter_metadata"]["envoy.transport_socket_match"]["member"]: [
            address["socket_address"]["address"] for address in addresses_of(e)
        ]
        for e in cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    }
    assert labels == {m.domain: list(m.addresses) for m in MEMBERS if m.role == "api"}
    assert sorted(map(len, labels.values())) == [1, 2]  # one endpoint each, however many addresses


def test_ingress_serves_the_application_and_by_alpn_the_document() -> None:
    found = chains(opened_shop("web"), "in")
    assert target(found["ingress|8443"]) == "app|8080|ingress|8443"
    attest = found["ingress|8443|attestation"]
    assert attest["filter_chain_match"]["application_protocols"] == ["toposeal-attest/1"]
    assert target(attest) == target(found[f"attestation|{ATTESTATION_PORT}"]) == "attestation"
    pipe = clusters(opened_shop("web"))["attestation"]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]
    assert pipe["endpoint"]["address"] == {"pipe": {"path": "../sockets/attestation.sock"}}


def test_the_probe_goes_through_mutual_tls_with_oneself() -> None:
    files = opened_shop("db")
    own = view("db").own.domain
    assert chains(files, "in")["probe"]["filter_chain_match"]["server_names"] == [own]
    assert target(chains(files, "in")["probe"]) == "probe-answer"
    assert target(chains(files, "out")["probe-call"]) == "probe-call"
    assert [m["name"] for m in clusters(files)["probe-call"]["transport_socket_matches"]] == [own]


def self_calling(*seeds: int) -> dict[str, bytes]:
    crowd = topology(role("api", 3, serves=(8080,), calls=(Call("api", 8080),)))
    members = tuple(sorted((member("api", s) for s in seeds), key=lambda m: m.iid))
    return opened(PodView(crowd, members[0], members, 1), ENVOY_LAYOUT)


def test_a_role_that_calls_itself_reaches_the_others_in_their_share_and_the_pod_in_clear() -> None:
    files = self_calling(12, 13, 14)
    assert chains(files, "out") == chains(
        self_calling(12, 13), "out"
    )  # whoever comes or goes cuts nobody else
    proxy = chains(files, "out")["out|api|8080"]["filters"][0]["typed_config"]
    assert "cluster" not in proxy
    assert proxy["weighted_clusters"]["clusters"] == [
        {"name": "out|api|8080", "weight": 2},
        {"name": "app|8080", "weight": 1},
    ]
    assert violations(files) == []


def test_the_only_member_of_a_role_that_calls_itself_reaches_itself() -> None:
    files = self_calling(12)
    assert target(chains(files, "out")["out|api|8080"]) == "app|8080"
    assert "out|api|8080" not in clusters(files)
    assert violations(files) == []


def test_an_ingress_target_that_no_member_may_call_has_its_cluster() -> None:
    only = topology(role("web", 1, serves=(8080,), ingress=(Ingress(8443, 8080), Ingress(9443, 8080))))
    own = member("web", 11)
    files = opened(PodView(only, own, (own,), 1), ENVOY_LAYOUT)
    assert [name for name in clusters(files) if name.startswith("app|")] == [
        "app|8080|ingress|8443",
        "app|8080|ingress|9443",
    ]
    assert violations(files) == []


def test_egress_leads_to_what_was_answered_and_ranges_to_what_was_dialled() -> None:
    out, known = chains(opened_shop("outside"), "out"), clusters(opened_shop("outside"))
    found = {name: (chain["filter_chain_match"], target(chain)) for name, chain in out.items()}
    api, ledger = "egress|api.example.com|443", "egress|ledger.corp.example|5432"
    assert found[api] == (at("240.10.128.1", 32, 443), api)
    assert found[ledger] == (at("240.10.128.2", 32, 5432), ledger)
    assert found["egress|10.77.0.0/24|25"] == (at("10.77.0.0", 24, 25), "egress|ranges")
    for address in ("10.77.0.11", "10.77.0.14"):
        assert found[f"egress|10.77.0.0/24|25|{address}"] == (at(address, 32, 25), "blackhole")
    assert addresses(known[api]) == ["8.8.8.8", "2606:4700::1"]
    assert "transport_socket" not in known[api]
    assert known[ledger]["transport_socket"]["typed_config"]["sni"] == "ledger.corp.example"
    assert known["egress|ranges"]["type"] == "ORIGINAL_DST"


def at(address: str, size: int, port: int) -> Json:
    return {"destination_port": port, "prefix_ranges": [{"address_prefix": address, "prefix_len": size}]}


def addresses(cluster: Json) -> list[str]:
    return [
        item["socket_address"]["address"]
        for item in walk(cluster["load_assignment"])
        if "socket_address" in item
    ]


def test_a_host_without_an_answer_has_a_cluster_without_an_end() -> None:
    view_ = dataclasses.replace(outside_view(), resolved={})
    found = clusters(opened(view_, ENVOY_LAYOUT))
    assert addresses(found["egress|api.example.com|443"]) == []


def test_an_edge_has_one_chain_for_all_addresses_of_its_role() -> None:
    chain = chains(opened_shop("outside"), "out")["out|db|5432"]
    places = chain["filter_chain_match"]["prefix_ranges"]
    assert [(place["address_prefix"], place["prefix_len"]) for place in places] == [
        ("240.10.0.1", 32),
        ("10.96.3.7", 32),
        ("fd00:96::7", 128),
    ]
    assert target(chain) == "out|db|5432"


def test_probes_are_asked_by_envoy_and_lead_nowhere() -> None:
    files = opened_shop("outside")
    probed = {name: chain for name, chain in chains(files, "in").items() if name.startswith("probed|")}
    assert {name: chain["filter_chain_match"] for name, chain in probed.items()} == {
        f"probed|{port}": {"destination_port": port, "transport_protocol": "raw_buffer"}
        for port in (8080, 9090)
    }
    asked = {name: c["health_checks"] for name, c in clusters(files).items() if name.startswith("probed|")}
    assert sorted(asked) == ["probed|8080|/healthz", "probed|9000|/live", "probed|9000|/ready"]
    for name, (check,) in asked.items():
        assert check["http_health_check"]["path"] == name.rpartition("|")[2]


def test_figures_are_asked_of_the_daemon_alone_and_only_where_there_is_a_port_for_them() -> None:
    files = opened_shop("outside")
    chain = chains(files, "in")["metrics|9464"]
    assert chain["filter_chain_match"] == {"destination_port": 9464, "transport_protocol": "raw_buffer"}
    cluster = clusters(files)["metrics"]
    (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert endpoint["endpoint"]["address"] == {"pipe": {"path": "../sockets/metrics.sock"}}
    (few,) = cluster["circuit_breakers"]["thresholds"]
    assert set(few.values()) == {4}
    routes = chain["filters"][0]["typed_config"]["route_config"]
    assert routes["validate_clusters"] is False  # Envoy may read the listeners first
    for name in ROLES:
        assert "metrics" not in clusters(opened_shop(name))
        assert not any(chain.startswith("metrics|") for chain in chains(opened_shop(name), "in"))


HTTP_TRAPS: dict[str, Callable[[Json], None]] = {
    "another path": lambda item: put("path", "/")(item),
    "any path": lambda item: put("headers", [])(item),
    "another cluster": lambda item: put("cluster", "app|8080")(item),
    "no limit": lambda item: put("filter_enforced", {"default_value": {"numerator": 1}})(item),
    "a higher limit": lambda item: put("max_tokens", 500)(item),
    "HTTP/2 options": lambda item: add("codec_type", "http2_protocol_options", {})(item),
    "Envoy's admin": lambda item: put("pipe", {"path": "../envoy/admin.sock"})(item),
    "TLS too": lambda item: drop("", "transport_protocol")(item),
}


@pytest.mark.parametrize("trap", HTTP_TRAPS)
def test_D5_D6_each_trap_of_what_is_in_clear_breaks_a_rule(trap: str) -> None:
    files = {}
    for name, data in opened_shop("outside").items():
        content = json.loads(data)
        for resource in content["resources"]:
            for item in walk(resource):
                if str(item.get("name")).startswith("metrics"):
                    for inner in walk(item):
                        HTTP_TRAPS[trap](inner)
        files[name] = json.dumps(content).encode()
    assert violations(files) != []


def test_every_way_to_a_port_that_speaks_http_does_and_no_other() -> None:
    """Ingress too: from outside nobody can say who calls."""
    files, speaks = opened_shop("requests"), {}
    for listener in ("out", "in"):
        for name, chain in chains(files, listener).items():
            speaks[name] = chain["filters"][0]["typed_config"]["@type"] == MANAGER
    web, other = member("web", 11).domain, member("api", 13).domain
    http = {f"in|8080|{web}", f"in|8080|{other}", "ingress|8443", "out|api|8080"}
    assert {name for name, does in speaks.items() if does} == http
    assert {f"in|9000|{web}", "ingress|9443", "ingress|8443|attestation", "probe"} < speaks.keys() - http
    assert targets(chains(files, "in")["ingress|8443"]) == {"app|8080|ingress|8443"}
    assert targets(chains(files, "out")["out|api|8080"]) == {"out|api|8080", "app|8080"}


def test_a_role_that_is_called_by_others_alone_gets_requests_of_them() -> None:
    seen = requests_view()
    web = next(each for each in seen.members if each.role == "web")
    files = opened(dataclasses.replace(seen, own=web), ENVOY_LAYOUT)
    assert targets(chains(files, "out")["out|api|8080"]) == {"out|api|8080"}
    assert target(chains(files, "out")["out|api|9000"]) == "out|api|9000"
    assert violations(files) == []


def test_every_way_to_a_port_with_a_header_has_one_and_no_other() -> None:
    """Each chain says its own caller: one cluster does for all, and ingress names nobody."""
    files = opened_shop("headers")
    web, other, own = member("web", 11), member("api", 13), member("api", 12)
    begins = {f"app|5432|{web.domain}", f"app|5432|{other.domain}", "app|5432|ingress|8443", "app|5432"}
    found = clusters(files)
    assert {name for name, c in found.items() if c.get("transport_socket") == SOCKET} == begins
    assert {f"app|9000|{web.domain}", "app|9000|ingress|9443"} < found.keys() - begins
    told = {name: said(chain) for way in ("in", "out") for name, chain in chains(files, way).items()}
    assert {name: values for name, values in told.items() if values} == {
        f"in|5432|{web.domain}": [(IDENTITY, spiffe_id(web.domain, "web"))],
        f"in|5432|{other.domain}": [(IDENTITY, spiffe_id(other.domain, "api"))],
        "out|api|5432": [(IDENTITY, spiffe_id(own.domain, "api"))],
    }
    assert {f"in|9000|{web.domain}", "ingress|8443", "ingress|9443", "probe"} < told.keys()
    assert violations(files) == []


def test_a_crowd_is_told_apart_behind_the_clusters_that_it_has_together() -> None:
    crowd = topology(role("web", 65, calls=(Call("db", 1),)), role("db", 1, serves=(1,), proxy_protocol=(1,)))
    db, webs = member("db", 1), [member("web", seed, "10.0.0.9") for seed in range(2, 67)]
    files = opened(PodView(crowd, db, (*webs, db), 1), ENVOY_LAYOUT)
    assert len([name for name in clusters(files) if name.startswith("app|1")]) == 64
    for web in webs:
        assert said(chains(files, "in")[f"in|1|{web.domain}"]) == [(IDENTITY, spiffe_id(web.domain, "web"))]
    assert violations(files) == []


def _named(value: Json) -> Json:
    return {"proxy_protocol_tlvs": [value]}


HEADER_TRAPS: dict[str, Callable[[Json, Json], None]] = {
    "another caller": lambda chain, _: chain.update(_named({"type": IDENTITY, "value": "c3BpZmZlOi8veC95"})),
    "another type": lambda chain, _: chain["proxy_protocol_tlvs"][0].update(type=0xE1),
    "from the stream": lambda chain, _: chain.update(
        _named({"type": IDENTITY, "value": "", "format_string": {"text_format": "%REQUESTED_SERVER_NAME%"}})
    ),
    "one more": lambda chain, _: chain["proxy_protocol_tlvs"].append({"type": 5, "value": "eA=="}),
    "nobody": lambda chain, _: chain.update(proxy_protocol_tlvs=[]),
    "merged": lambda chain, _: chain.update(proxy_protocol_tlv_merge_policy="APPEND_IF_EXISTS_OR_ADD"),
    "no header": lambda _, cluster: cluster.pop("transport_socket"),
    "version 1": lambda _, cluster: cluster["transport_socket"]["typed_config"]["config"].update(
        version="V1"
    ),
    "whatever is said": lambda _, cluster: cluster["transport_socket"]["typed_config"]["config"].update(
        pass_through_tlvs={}
    ),
    "added to all": lambda _, cluster: cluster["transport_socket"]["typed_config"]["config"].update(
        added_tlvs=[{"type": IDENTITY, "value": "eA=="}]
    ),
    "elsewhere": lambda _, cluster: cluster.update(name="pipe"),
}


@pytest.mark.parametrize("trap", HEADER_TRAPS)
def test_D6_each_trap_of_a_header_breaks_a_rule(trap: str) -> None:
    files = opened_shop("headers")
    web = member("web", 11).domain
    content = {name: json.loads(data) for name, data in files.items()}
    (chain,) = (c for c in _chains_of(content) if c["name"] == f"in|5432|{web}")
    (cluster,) = (c for c in content["cds.json"]["resources"] if c["name"] == f"app|5432|{web}")
    HEADER_TRAPS[trap](chain["filters"][0]["typed_config"], cluster)
    assert violations({name: json.dumps(value).encode() for name, value in content.items()}) != []


def test_D6_an_ingress_that_names_a_caller_breaks_a_rule() -> None:
    content = {name: json.loads(data) for name, data in opened_shop("headers").items()}
    (outside,) = (c for c in _chains_of(content) if c["name"] == "ingress|8443")
    outside["filters"][0]["typed_config"] |= _named({"type": IDENTITY, "value": "c3BpZmZlOi8veC95"})
    assert violations({name: json.dumps(value).encode() for name, value in content.items()}) != []


def _chains_of(content: dict[str, Json]) -> list[Json]:
    return [chain for listener in content["lds.json"]["resources"] for chain in listener["filter_chains"]]


def test_a_request_has_the_share_that_a_connection_has() -> None:
    files = opened_shop("requests")
    web, found = member("web", 11).domain, clusters(files)
    shares = {
        f"app|8080|{web}": MEMBER_CONNECTIONS // 4,
        "app|8080|ingress|8443": INGRESS_CONNECTIONS // 2,
    }
    for name, share in shares.items():
        (bound,) = found[name]["circuit_breakers"]["thresholds"]
        assert set(bound.values()) == {share} and "max_requests" in bound
    (bound,) = found[f"app|9000|{web}"]["circuit_breakers"]["thresholds"]
    assert set(bound.values()) == {MEMBER_CONNECTIONS // 4} and "max_requests" not in bound


def test_of_what_both_sides_speak_the_oldest_is_chosen_unless_a_client_offers_http2_alone() -> None:
    found = chains(opened_shop("requests"), "in")
    offers = {
        name: chain["transport_socket"]["typed_config"]["common_tls_context"].get("alpn_protocols")
        for name, chain in found.items()
        if name.startswith("ingress|")
    }
    assert offers == {
        "ingress|8443": ["http/1.1", "h2"],
        "ingress|8443|attestation": ["toposeal-attest/1"],
        "ingress|9443": None,
        "ingress|9443|attestation": ["toposeal-attest/1"],
    }


def test_a_range_of_one_address_that_is_a_members_leads_nowhere() -> None:
    only = topology(role("web", 1, egress=(Egress(25, cidr="10.77.0.11/32"),)))
    own = member("web", 11)
    files = opened(PodView(only, own, (own,), 1), ENVOY_LAYOUT)
    assert [target(c) for n, c in chains(files, "out").items() if n.startswith("egress")] == ["blackhole"]
    assert violations(files) == []


def test_a_layout_moves_every_path() -> None:
    text = b"".join(opened(view("web"), layout_under("/run/pod")).values())
    assert set(re.findall(rb'"path": "([^"]*)"', text)) == {
        b"/run/pod/sockets/attestation.sock",
        b"/run/pod/sockets/probe.sock",
    }


@pytest.mark.parametrize("name", ROLES)
def test_what_is_put_together_from_parts_is_what_envoys_messages_say(name: str) -> None:
    """Each resource once more through the typed messages, which write it in one piece."""
    update = render(plan(view(name)), ENVOY_LAYOUT)
    for kind, message in ((Kind.CLUSTER, Cluster), (Kind.LISTENER, Listener)):
        for resource, data in update[kind].resources.items():
            parsed = message.parse(data)
            assert parsed.name == resource
            assert sorted(bytes(parsed)) == sorted(data)


def test_the_same_view_gives_the_same_bytes() -> None:
    assert opened(view("api"), ENVOY_LAYOUT) == opened_shop("api")
    assert opened(view("api", 2), ENVOY_LAYOUT) != opened_shop("api")


@pytest.mark.parametrize("name", [*ROLES, "outside", "requests", "headers"])
def test_D6_the_golden_configurations_hold_every_rule(name: str) -> None:
    assert violations(opened_shop(name)) == []


def drop(kind: str, key: str) -> Callable[[Json], None]:
    def mutate(item: Json) -> None:
        if item.get("@type") == kind or (kind == "" and key in item):
            item.pop(key, None)

    return mutate


def put(key: str, value: Any) -> Callable[[Json], None]:
    def mutate(item: Json) -> None:
        if key in item:
            item[key] = copy.deepcopy(value)

    return mutate


def add_trust(item: Json) -> None:
    if "trusted_ca" in item:
        item["trusted_ca"]["inline_string"] *= 2


def trust_somebody(item: Json) -> None:
    if str(item.get("@type")).endswith("SPIFFECertValidatorConfig"):
        item["trust_domains"] = [{"name": "m-9.shop", "trust_bundle": {"inline_string": "CA"}}]


def add(marker: str, key: str, value: Any) -> Callable[[Json], None]:
    def mutate(item: Json) -> None:
        if marker in item:
            item[key] = value

    return mutate


TRAPS: dict[str, Callable[[Json], None]] = {
    "no validator": drop("", "custom_validator_config"),
    "no CA": drop("", "trusted_ca"),
    "a fallback that trusts somebody": trust_somebody,
    "an empty validation context": put("validation_context", {}),
    "no fallback, so plaintext": drop("", "transport_socket"),
    "a CA of somebody else beside": add_trust,
    "expired certificates": add("trusted_ca", "allow_expired_certificate", True),
    "untrusted chains": add("trusted_ca", "trust_chain_verification", "ACCEPT_UNTRUSTED"),
    "no exact name": drop("", "match_typed_subject_alt_names"),
    "TLS 1.2": put("tls_minimum_protocol_version", "TLSv1_2"),
    "other signatures": drop("", "signature_algorithms"),
    "upstream sessions": drop(UPSTREAM, "max_session_keys"),
    "downstream tickets": drop(DOWNSTREAM, "disable_stateless_session_resumption"),
    "downstream session identifiers": drop(DOWNSTREAM, "disable_stateful_session_resumption"),
    "no client certificate": put("require_client_certificate", False),
    "no SNI": drop(UPSTREAM, "sni"),
    "any SNI": drop("", "server_names"),
    "any port": drop("", "destination_port"),
    "any address": put("prefix_ranges", [{"address_prefix": "0.0.0.0", "prefix_len": 0}]),
    "another range beside the address": put(
        "prefix_ranges",
        [{"address_prefix": "10.1.1.1", "prefix_len": 32}, {"address_prefix": "10.0.0.0", "prefix_len": 8}],
    ),
    "an extension nobody thought about": put("@type", "type.googleapis.com/envoy.extensions.X"),
    "a cluster of names": put("type", "ORIGINAL_DST"),
    "plaintext to another address": put("source_address", {"address": "192.0.2.1", "port_value": 0}),
    "a default chain": add("filter_chains", "default_filter_chain", {}),
    "an intermediate": put("max_verify_depth", 2),
    "a connection before the handshake": drop("", "upstream_connect_mode"),
    "an endpoint of nobody": put("envoy.transport_socket_match", {"member": "m-9.shop"}),
    "a chain that leads nowhere": put("cluster", "nowhere"),
    "Envoy's own buffers": drop("", "per_connection_buffer_limit_bytes"),
    "large buffers": put("per_connection_buffer_limit_bytes", 1 << 20),
    "no limit": drop("", "circuit_breakers"),
    "a limit for all together": put("max_connections", 100_000),
    "two clients with one share": put("cluster", "attestation"),
    "secrets inline": add("tls_params", "tls_certificates", []),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_D6_each_trap_breaks_a_rule(trap: str) -> None:
    """The rules can fail: otherwise the property test would prove nothing."""
    files = {}
    for name, data in opened_shop("web").items():
        content = json.loads(data)
        for item in walk(content["resources"]):
            if item.get("name") != "sentinel" and item.get("name") != "blackhole":
                TRAPS[trap](item)
        files[name] = json.dumps(content).encode()
    assert violations(files) != []


REQUEST_TRAPS: dict[str, Callable[[Json], None]] = {
    "an identity that a client brings": add("stat_prefix", "forward_client_cert_details", "FORWARD_ONLY"),
    "every name of a certificate": add("stat_prefix", "forward_client_cert_details", "SANITIZE_SET"),
    "no identity": drop("", "request_headers_to_add"),
    "somebody else's identity in the log": put("peer", "%DOWNSTREAM_PEER_URI_SAN%"),
    "an identity in another spelling": put("early_header_mutation_extensions", []),
    "somebody else's identity": put("value", "URI=spiffe://m-1.shop/web"),
    "a retry of what was sent": put("retry_on", "5xx"),
    "a timeout": put("timeout", "15s"),
    "an idle stream that ends": put("stream_idle_timeout", "300s"),
    "idle connections that stay": put("idle_timeout", "3600s"),
    "connections that stay between requests": put("max_connection_duration", "3600s"),
    "headers that never end": drop("", "request_headers_timeout"),
    "large headers": put("max_request_headers_kb", 8192),
    "chunks and a length": add("accept_http_10", "allow_chunked_length", True),
    "a window without end": put("initial_stream_window_size", 1 << 28),
    "addresses by header": add("stat_prefix", "use_remote_address", True),
    "a query in the log": put("path", "%REQ(:PATH)%"),
    "more requests than connections": put("max_requests", 100_000),
    "bytes to a cluster of requests": drop("", "typed_extension_protocol_options"),
    "another filter": put("http_filters", []),
    "any upgrade": put("upgrade_configs", [{"upgrade_type": "CONNECT"}]),
    "some paths": put("match", {"prefix": "/api"}),
}


@pytest.mark.parametrize("trap", REQUEST_TRAPS)
def test_D6_each_trap_of_requests_breaks_a_rule(trap: str) -> None:
    files = {}
    for name, data in opened_shop("requests").items():
        content = json.loads(data)
        for item in walk(content["resources"]):
            REQUEST_TRAPS[trap](item)
        files[name] = json.dumps(content).encode()
    assert files != opened_shop("requests")
    assert violations(files) != []
