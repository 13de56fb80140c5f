"""Addresses that mean a role: what an owner can declare, and what is refused when the topology is checked."""

from __future__ import annotations

from typing import Any

import pytest
from support.topologies import document, payload, refusals, role

from toposeal.errors import Reason, TopologyError
from toposeal.limits import MAX_ADDRESSES_PER_ROLE
from toposeal.topology.addresses import all_addresses
from toposeal.topology.author import compile_yaml
from toposeal.topology.model import Topology
from toposeal.topology.parse import parse_topology

CLUSTER_IP = "10.96.3.7"
FIELD = "roles.db.addresses"


def declared(*addresses: object, web: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    calls = [{"role": "db", "port": 6379}]
    roles = {
        "web": role(1, **{"calls": calls, **(web or {})}),
        "db": role(2, serves=[6379], addresses=list(addresses)),
        "other": role(3, serves=[80]),
    }
    return document(roles=roles, **more)


def parsed(*addresses: object, **more: Any) -> Topology:
    return parse_topology(payload(declared(*addresses, **more)))


def refused(*addresses: object, **more: Any) -> set[str]:
    found = refusals(lambda: parsed(*addresses, **more))
    assert {reason for reason, _ in found} <= {Reason.TOPOLOGY_INVALID}
    return {field for _, field in found}


def test_without_a_word_there_is_none() -> None:
    topology = parse_topology(payload(document()))
    assert {role.addresses for role in topology.roles.values()} == {()}
    assert all_addresses(topology) == frozenset()


def test_addresses_are_read_in_order() -> None:
    topology = parsed("fd00:96::7", "10.96.3.7", "10.96.3.10", "9.1.1.1")
    assert topology.roles["db"].addresses == ("9.1.1.1", "10.96.3.7", "10.96.3.10", "fd00:96::7")
    assert all_addresses(topology) == {"9.1.1.1", "10.96.3.7", "10.96.3.10", "fd00:96::7"}


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "0.0.0.0",
        "169.254.169.254",
        "169.254.20.10",
        "224.0.0.1",
        "240.10.0.1",
        "240.10.255.254",
        "255.255.255.255",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd20:ce::254",
        "::",
        "::1",
        "::10.96.3.7",
        "::ffff:10.96.3.7",
        "64:ff9b::a60:307",
        "2002:a60:307::1",
        "fe80::1",
        "fe80::1%eth0",
        "fd00::7%eth0",
        "ff02::1",
        "FD00::7",
        "fd00:0::7",
        "10.96.3.07",
        "10.96.3",
        "10.96.3.7/32",
        "10.96.3.7:5432",
        "db.shop",
        "any",
        "",
        7,
        None,
    ],
)
def test_T8_what_no_service_can_have_is_refused(address: object) -> None:
    assert refused(CLUSTER_IP, address) == {f"{FIELD}[1]"}


def test_T8_an_address_means_one_role() -> None:
    both = declared(CLUSTER_IP)
    both["roles"]["other"]["addresses"] = ["10.96.3.8", CLUSTER_IP]
    found = refusals(lambda: parse_topology(payload(both)))
    assert found == {(Reason.TOPOLOGY_INVALID, "roles.other.addresses")}
    assert refused(CLUSTER_IP, CLUSTER_IP) == {f"{FIELD}[1]"}


@pytest.mark.parametrize("port", [6379, 25], ids=["at the edge's port", "at another"])
def test_T8_for_a_caller_an_address_is_a_role_or_outside(port: int) -> None:
    """At a port that is no edge, bytes for the role would leave in clear."""
    around: dict[str, Any] = {"egress": [{"cidr": "10.96.0.0/16", "port": port}]}
    assert refused(CLUSTER_IP, web=around) == {FIELD}
    assert refused("10.97.0.1", "10.96.255.255", web=around) == {FIELD}
    parsed("10.97.0.1", "fd00::7", web=around)
    parsed(CLUSTER_IP, web={**around, "calls": [{"role": "other", "port": 80}]})


def test_T8_a_range_is_named_once_for_all_its_ports() -> None:
    ranges = [{"cidr": "10.96.0.0/16", "port": port} for port in (25, 26)]
    with pytest.raises(TopologyError) as caught:
        parsed(CLUSTER_IP, web={"egress": ranges})
    (mismatch,) = caught.value.mismatches
    assert mismatch.expected == "none of 10.96.0.0/16: egress of web, which calls the role"


def test_T8_a_resolver_is_no_role() -> None:
    host = {"egress": [{"host": "api.example.com", "port": 443}]}
    assert refused(CLUSTER_IP, web=host, resolver=CLUSTER_IP) == {FIELD}
    parsed(CLUSTER_IP, web=host, resolver="10.96.0.10")


def test_T8_an_address_that_nobody_can_call_is_refused() -> None:
    value = declared()
    value["roles"]["web"]["addresses"] = [CLUSTER_IP]
    found = refusals(lambda: parse_topology(payload(value)))
    assert found == {(Reason.TOPOLOGY_INVALID, "roles.web.addresses")}


def test_T8_there_are_not_too_many() -> None:
    many = [f"10.96.3.{number}" for number in range(MAX_ADDRESSES_PER_ROLE + 1)]
    assert refused(*many) == {FIELD}
    parsed(*many[1:])


def test_the_line_of_a_mistake_is_named() -> None:
    text = f"""
mesh: shop
version: 1
issued_at: 2026-01-31T12:00:00Z
attestation_port: 8443
tdx: {{tcb_status: [UpToDate], advisories: [], min_tcb_evaluation: 1}}
roles:
  db:
    replicas: {{min: 1, max: 1}}
    serves: [6379]
    addresses:
      - 10.96.3.7
      - 127.0.0.1
    calls: [{{role: db, port: 6379}}]
    ingress: []
    platforms: any
    tdx:
      - {{mrtd: "{"aa" * 48}", rtmr0: any, rtmr1: any, rtmr2: any, rtmr3: any, mrconfigid: "{"bb" * 48}",
         mrowner: "{"00" * 48}", mrownerconfig: "{"00" * 48}", mrseam: any,
         td_attributes: "0000001000000000", xfam: "e702060000000000"}}
"""
    with pytest.raises(TopologyError) as caught:
        compile_yaml(text.encode(), bytes(48))
    (mismatch,) = caught.value.mismatches
    assert (mismatch.field, mismatch.found) == ("roles.db.addresses[1]", "127.0.0.1 (line 13)")
    both = text.replace("127.0.0.1", "10.96.3.8")
    both = both.replace("    ingress", "    egress: [{cidr: 10.96.0.0/16, port: 25}]\n    ingress")
    with pytest.raises(TopologyError) as caught:
        compile_yaml(both.encode(), bytes(48))
    assert {(m.field, m.found) for m in caught.value.mismatches} == {
        ("roles.db.addresses", f"{address} (line 12)") for address in ("10.96.3.7", "10.96.3.8")
    }
