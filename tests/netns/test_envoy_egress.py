"""Destinations outside the mesh: what the topology names is reached through Envoy alone, the rest is not."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from support.datapath import application, talk, tls_application
from support.envoy import Opened, mesh_member, pod_view, running_gate
from support.forge import DAY, NOW, TestMember, der, forge_ca, forge_leaf, key_pem, new_key, pem
from support.inside import lockdown
from support.shop import role, topology

from toposeal.dataplane.view import PodView
from toposeal.dataplane.vips import host_vip
from toposeal.gate.machine import State
from toposeal.host import netlink
from toposeal.topology.egress import Egress
from toposeal.topology.model import Topology
from toposeal_lab.pods import NODE_IPV4, NODE_IPV6, Node, Pod

API, LEDGER = "api.example.com", "ledger.example.com"
PLAIN, TLS, RANGE, SIX = 7001, 7002, 7003, 7004
WITHIN = ("10.77.0.0/24", "fd70:7365:616c::/64")
OWN = TestMember("web")
OTHER_ADDRESS = "10.77.0.99"  # a member's, where the host answers

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


def declared(ca_pem: str) -> Topology:
    egress = (
        Egress(PLAIN, host=API, within=WITHIN),
        Egress(TLS, host=LEDGER, within=WITHIN, tls_ca=ca_pem),
        Egress(RANGE, cidr="10.77.0.0/24"),
        Egress(SIX, cidr="fd70:7365:616c::/64"),
    )
    return topology(role("web", 1, egress=egress), role("db", 1))


class Outside:
    """A host outside with a CA of its own, and a pod whose role may call it."""

    def __init__(self, node: Node) -> None:
        self.ca_key: ec.EllipticCurvePrivateKey = new_key()
        self.ca = x509.load_der_x509_certificate(forge_ca(self.ca_key, names=None, start=NOW - DAY))
        self.ca_pem = pem(der(self.ca))
        self.topology = declared(self.ca_pem)
        self.host, self.pod = node.host(), node.pod("a")
        lockdown(self.pod)
        with self.pod.inside():
            asyncio.run(netlink.route_synthetic_addresses())

    def view(self, **resolved: str) -> PodView:
        own = mesh_member(OWN, *self.pod.addresses)
        made = pod_view(self.topology, own, [own, mesh_member(TestMember("db"), OTHER_ADDRESS)])
        hosts = {API: resolved.get("api"), LEDGER: resolved.get("ledger")}
        return replace(made, resolved={host: (where,) for host, where in hosts.items() if where})

    def dial(self, host: str, port: int) -> bytes:
        return talk(host_vip(self.topology, host), port, b"CANARY")

    def leaf(self, name: str, signer: ec.EllipticCurvePrivateKey | None = None) -> tuple[str, str]:
        leaf, key = forge_leaf(signer or self.ca_key, self.ca.subject, [x509.DNSName(name)])
        return pem(der(leaf)), key_pem(key)


@pytest.fixture
def outside(node: Node) -> Outside:
    return Outside(node)


def with_gate(pod: Pod, state: Path, test: Callable[[Opened], Awaitable[None]]) -> None:
    async def run() -> None:
        async with running_gate(state) as opened:
            await test(opened)

    with pod.inside():
        asyncio.run(run())


def in_thread(work: Callable[[], bytes]) -> Awaitable[bytes]:
    return asyncio.to_thread(work)


def test_D4_what_is_named_is_reached_while_the_gate_is_open_and_nothing_else(
    outside: Outside, state: Path
) -> None:
    """Host, range and both families; a port, a member and an address that are not named; then the fence."""

    async def attempts() -> dict[str, bytes]:
        return {
            "host": await in_thread(lambda: outside.dial(API, PLAIN)),
            "range": await in_thread(lambda: talk(NODE_IPV4, RANGE, b"CANARY")),
            "IPv6 range": await in_thread(lambda: talk(NODE_IPV6, SIX, b"CANARY")),
            "another port of the host": await in_thread(lambda: outside.dial(API, RANGE)),
            "another port of the range": await in_thread(lambda: talk(NODE_IPV4, PLAIN, b"CANARY")),
            "the other family": await in_thread(lambda: talk(NODE_IPV6, RANGE, b"CANARY")),
            "a member in the range": await in_thread(lambda: talk(OTHER_ADDRESS, RANGE, b"CANARY")),
        }

    async def test(opened: Opened) -> None:
        assert set((await attempts()).values()) == {b""}
        await opened.open(outside.view(api=NODE_IPV4), OWN)
        reached = await attempts()
        assert {name for name, answer in reached.items() if answer == b"outside"} == {
            "host",
            "range",
            "IPv6 range",
        }
        assert seen["member"] == []
        await opened.gate.fence()
        assert set((await attempts()).values()) == {b""}

    outside.host.run(["ip", "address", "add", f"{OTHER_ADDRESS}/32", "dev", "br0"])
    seen: dict[str, list[bytes]] = {}
    with contextlib.ExitStack() as stack:
        for port in (PLAIN, RANGE):
            stack.enter_context(application(outside.host, port, b"outside", NODE_IPV4))
        stack.enter_context(application(outside.host, SIX, b"outside", NODE_IPV6))
        stack.enter_context(application(outside.host, RANGE, b"outside", NODE_IPV6))
        seen["member"] = stack.enter_context(application(outside.host, RANGE, b"member", OTHER_ADDRESS))
        with_gate(outside.pod, state, test)


def test_another_answer_moves_new_connections_and_cuts_none(outside: Outside, state: Path) -> None:
    other = "10.77.0.98"
    outside.host.run(["ip", "address", "add", f"{other}/32", "dev", "br0"])

    async def test(opened: Opened) -> None:
        await opened.open(outside.view(), OWN)
        assert await in_thread(lambda: outside.dial(API, PLAIN)) == b""  # nobody has answered yet
        await opened.gate.update(replace(outside.view(api=NODE_IPV4), generation=2))
        assert await in_thread(lambda: outside.dial(API, PLAIN)) == b"first"
        reader, writer = await asyncio.open_connection(host_vip(outside.topology, API), PLAIN)
        for generation, where in enumerate((other, "127.0.0.1", OTHER_ADDRESS), 3):
            await opened.gate.update(replace(outside.view(api=where), generation=generation))
            answer = await in_thread(lambda: outside.dial(API, PLAIN))
            assert answer == (b"second" if where == other else b"")
        writer.write(b"still there")
        assert await reader.read(100) == b"first"
        writer.close()
        assert opened.gate.state is State.OPEN

    with (
        application(outside.host, PLAIN, b"first", NODE_IPV4),
        application(outside.host, PLAIN, b"second", other),
    ):
        with_gate(outside.pod, state, test)


def test_with_authorities_a_host_has_to_prove_its_name(outside: Outside, state: Path) -> None:
    """The application speaks in clear, Envoy TLS; whoever cannot prove the name gets no byte of it."""

    async def dial() -> bytes:
        return await in_thread(lambda: outside.dial(LEDGER, TLS))

    async def test(opened: Opened) -> None:
        await opened.open(outside.view(ledger=NODE_IPV4), OWN)
        for name in (LEDGER, "*.example.com"):
            with tls_application(outside.host, TLS, *outside.leaf(name), b"proven"):
                assert await dial() == b"proven"
        for chain, key in (outside.leaf(API), outside.leaf(LEDGER, new_key())):
            with tls_application(outside.host, TLS, chain, key, b"ROGUE"):
                assert await dial() == b""
        with application(outside.host, TLS, b"PLAIN") as seen:
            assert await dial() == b""
        assert all(b"CANARY" not in data for data in seen)

    with_gate(outside.pod, state, test)
