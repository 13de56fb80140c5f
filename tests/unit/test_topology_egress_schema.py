"""What a topology may say of destinations outside the mesh, and what is refused when it is checked."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from property.strategies import egress_ca
from support.forge import TestMember, forge_ca, pem, resigned
from support.topologies import document, payload, refusals, role

from toposeal.errors import Reason
from toposeal.limits import MAX_EGRESS_CA_SIZE, MAX_EGRESS_PER_ROLE
from toposeal.pki.mint import mint_ca
from toposeal.topology.author import compile_yaml
from toposeal.topology.egress import Egress
from toposeal.topology.model import Topology
from toposeal.topology.parse import parse_topology

API: dict[str, Any] = {"host": "api.example.com", "port": 443}
NET: dict[str, Any] = {"cidr": "192.0.2.0/24", "port": 25}


def declared(*egress: object, **more: object) -> dict[str, Any]:
    roles = {"web": role(1, egress=list(egress)), "db": role(2)}
    return document(roles=roles, **more)


def parsed(*egress: object, **more: object) -> Topology:
    return parse_topology(payload(declared(*egress, **more)))


def refused(*egress: object, **more: object) -> set[tuple[Reason, str]]:
    return refusals(lambda: parsed(*egress, **more))


def test_without_a_word_there_is_none() -> None:
    topology = parse_topology(payload(document()))
    assert {role.egress for role in topology.roles.values()} == {()}
    assert topology.resolver is None


def test_hosts_and_ranges_are_read_in_order() -> None:
    ca = egress_ca()
    inner = {
        "host": "ledger.corp.example",
        "port": 5432,
        "within": ["10.20.0.0/16", "10.10.0.0/16"],
        "tls_ca": ca,
    }
    topology = parsed(inner, NET, API, resolver="10.96.0.10")
    assert topology.roles["web"].egress == (
        Egress(25, cidr="192.0.2.0/24"),
        Egress(443, host="api.example.com"),
        Egress(5432, host="ledger.corp.example", within=("10.10.0.0/16", "10.20.0.0/16"), tls_ca=ca),
    )
    assert topology.resolver == "10.96.0.10"


@pytest.mark.parametrize(
    "entry",
    [
        {"port": 1},
        {**API, **NET},
        {**NET, "within": ["10.0.0.0/8"]},
        {**NET, "tls_ca": egress_ca()},
        {**API, "port": 53},
        {**API, "port": 15001},
        {**API, "port": 15443},
        {**API, "host": "shop"},
        {**API, "host": "api.shop"},
        {**API, "host": "x.db.shop"},
        {**API, "host": "db.example.com"},
        {**API, "host": "web.svc.cluster.local"},
    ],
)
def test_T8_a_destination_that_cannot_be_one_is_refused(entry: dict[str, Any]) -> None:
    found = refused(entry)
    assert (Reason.TOPOLOGY_INVALID, "roles.web.egress") in found or (
        entry["host"] == "shop" and found == {(Reason.TOPOLOGY_INVALID, "roles.web.egress[0].host")}
    )


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "API.example.com",
        "api.example.com.",
        "10.0.0.1",
        "1.2",
        "a..b",
        "-a.com",
        "a-.com",
        "a_b.com",
        "a" * 64 + ".com",
        "a." * 127 + "com",
        "2001:db8::1",
        "*.example.com",
        "é.com",
        "",
        7,
        None,
        "a.com\n",
    ],
)
def test_T8_what_is_no_absolute_name_is_refused(host: object) -> None:
    assert refused({**API, "host": host}) == {(Reason.TOPOLOGY_INVALID, "roles.web.egress[0].host")}


@pytest.mark.parametrize(
    "cidr",
    [
        "240.10.0.0/16",
        "240.10.0.7/32",
        "0.0.0.0/0",
        "::/0",
        "127.0.0.0/8",
        "127.0.0.1/32",
        "169.254.0.0/16",
        "169.254.169.254/32",
        "224.0.0.0/4",
        "255.255.255.255/32",
        "128.0.0.0/1",
        "fe80::/10",
        "fec0::/16",
        "ff02::/16",
        "::1/128",
        "::ffff:0:0/96",
        "64:ff9b::/96",
        "2002::/16",
        "10.0.0.1/8",
        "10.0.0.1",
        "10.0.0.0/33",
        "10.0.0.0/255.0.0.0",
        "2001:DB8::/32",
        "example.com",
        "",
        "any",
        4,
        None,
    ],
)
@pytest.mark.parametrize("field", ["cidr", "within"])
def test_T8_a_range_that_covers_the_mesh_or_the_host_is_refused(field: str, cidr: object) -> None:
    if field == "cidr":
        entry, path = {**NET, "cidr": cidr}, "roles.web.egress[0].cidr"
    else:
        entry, path = {**API, "within": [cidr]}, "roles.web.egress[0].within[0]"
    assert refused(entry) == {(Reason.TOPOLOGY_INVALID, path)}


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (NET, {**NET, "cidr": "192.0.2.128/25"}),
        (NET, {**NET, "cidr": "192.0.0.0/16"}),
        (API, {**API, "within": ["10.0.0.0/8"]}),
        (API, {"host": "api.example.com.cdn.net", "port": 80}),
    ],
    ids=["inside", "around", "one host twice", "with a search domain"],
)
def test_T8_one_address_and_port_is_one_destination(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert refused(one, two) == {(Reason.TOPOLOGY_INVALID, "roles.web.egress")}
    assert refused(one, one) == {(Reason.TOPOLOGY_INVALID, "roles.web.egress[1]")}


def test_destinations_that_are_told_apart_are_taken() -> None:
    beside = [{**NET, "port": 26}, {**NET, "cidr": "192.0.3.0/24"}, {**NET, "cidr": "2001:db8::/32"}]
    parsed(API, {**API, "port": 80}, {"host": "apix.example.com", "port": 443}, NET, *beside)


@pytest.mark.parametrize(
    "resolver", ["127.0.0.1", "240.10.0.1", "dns.example.com", "10.96.0.10:53", "", 5, "fe80::1"]
)
def test_T8_a_resolver_that_no_pod_can_ask_is_refused(resolver: object) -> None:
    assert refused(API, resolver=resolver) == {(Reason.TOPOLOGY_INVALID, "resolver")}


@pytest.mark.parametrize("resolver", ["10.96.0.10", "169.254.20.10", "8.8.8.8", "fd00::53"])
def test_a_resolver_may_be_near(resolver: str) -> None:
    assert parsed(API, resolver=resolver).resolver == resolver


def test_T8_a_resolver_that_nobody_needs_is_refused() -> None:
    assert refused(NET, resolver="10.96.0.10") == {(Reason.TOPOLOGY_INVALID, "resolver")}


def test_T8_there_are_not_too_many() -> None:
    many = [{**API, "port": 1 + port} for port in range(100, 101 + MAX_EGRESS_PER_ROLE)]
    assert refused(*many) == {(Reason.TOPOLOGY_INVALID, "roles.web.egress")}
    parsed(*many[1:])


LEAF = TestMember("web").chain_pem
NOT_SAID = pem(forge_ca(ec.generate_private_key(ec.SECP256R1()), basic=None))
X400 = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.18"), bytes.fromhex("3004a3020500"))
UNREADABLE = pem(forge_ca(ec.generate_private_key(ec.SECP256R1()), extra=(X400, False)))


def of_version(number: int) -> str:
    """A CA of a version of X.509 that there is none of: 0 is v1, 2 is v3."""
    key, version = ec.generate_private_key(ec.SECP256R1()), bytes.fromhex("a0030201")
    forged = resigned(forge_ca(key), key, version + b"\2", version + bytes([number]))
    return ssl.DER_cert_to_PEM_cert(forged)


OTHER = pem(mint_ca(ec.generate_private_key(ec.SECP256R1()), "x", 1, 1_767_225_600))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        NOT_SAID,
        UNREADABLE,
        of_version(1),
        of_version(5),
        LEAF,
        egress_ca() + LEAF,
        egress_ca() + "x",
        "x\n" + egress_ca(),
        egress_ca().rstrip(),
        egress_ca().replace("\n", "\r\n"),
        egress_ca() * 9,
        "A" * (MAX_EGRESS_CA_SIZE + 1),
        5,
        None,
    ],
    ids=[
        "empty",
        "text",
        "no CA",
        "unreadable",
        "version 2",
        "version 6",
        "leaf",
        "leaf too",
        "more",
        "before",
        "no end",
        "CRLF",
        "nine",
        "large",
        "int",
        "null",
    ],
)
def test_T8_what_is_not_CA_certificates_alone_is_refused(text: object) -> None:
    assert refused({**API, "tls_ca": text}) == {(Reason.TOPOLOGY_INVALID, "roles.web.egress[0].tls_ca")}
    parsed({**API, "tls_ca": egress_ca() + OTHER})


def test_certificates_can_be_written_in_yaml() -> None:
    """As a block, with the line ends that PEM has."""
    lines = "".join(f"          {line}\n" for line in egress_ca().splitlines())
    text = f"""
mesh: shop
version: 1
issued_at: 2026-01-31T12:00:00Z
attestation_port: 8443
tdx: {{tcb_status: [UpToDate], advisories: [], min_tcb_evaluation: 1}}
roles:
  web:
    replicas: {{min: 1, max: 1}}
    serves: []
    calls: []
    ingress: []
    platforms: any
    egress:
      - host: api.example.com
        port: 443
        tls_ca: |
{lines}    tdx:
      - {{mrtd: "{"aa" * 48}", rtmr0: any, rtmr1: any, rtmr2: any, rtmr3: any, mrconfigid: "{"bb" * 48}",
         mrowner: "{"00" * 48}", mrownerconfig: "{"00" * 48}", mrseam: any,
         td_attributes: "0000001000000000", xfam: "e702060000000000"}}
"""
    topology = parse_topology(compile_yaml(text.encode(), bytes(48)))
    assert topology.roles["web"].egress[0].tls_ca == egress_ca()
