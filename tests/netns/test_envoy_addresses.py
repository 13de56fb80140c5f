"""Addresses that mean a role: an application that does not ask our DNS reaches it like one that does."""

from __future__ import annotations

import os
from contextlib import ExitStack

import pytest
from support.datapath import application, sealed_mesh, talk
from support.shop import role, topology

from toposeal.topology.egress import Egress
from toposeal.topology.model import Call
from toposeal_lab.pods import NODE_IPV4

PORT, OTHER = 5432, 6379
SERVICE = ("10.96.3.7", "fd70:7365:616c:96::7")
CALL = (Call("db", PORT),)
SHOP = topology(
    role("web", 1, calls=CALL),
    role("db", 1, serves=(PORT,), calls=CALL, addresses=SERVICE),
    role("log", 1, egress=(Egress(PORT, cidr="10.0.0.0/8"),)),
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


def test_D3_D4_an_address_of_a_role_leads_to_its_members_and_at_no_other_port() -> None:
    """Whoever really has the address, as kube-proxy would lead to, hears nothing of it."""
    with sealed_mesh(SHOP) as world, ExitStack() as stack:
        for address, length in zip(SERVICE, (32, 128), strict=True):
            world.outside.run(["ip", "address", "add", f"{address}/{length}", "dev", "br0"])
        rogues = [
            stack.enter_context(application(world.outside, port, b"ROGUE", address))
            for address in SERVICE
            for port in (PORT, OTHER)
        ]
        near = stack.enter_context(application(world.outside, PORT, b"outside", NODE_IPV4))
        served = stack.enter_context(application(world["db"].pod, PORT, b"db"))
        stack.enter_context(application(world["db"].pod, OTHER, b"db"))

        def dial(name: str, address: str, port: int = PORT) -> bytes:
            with world[name].pod.inside():
                return talk(address, port, name.encode())

        assert world["web"].call("db", PORT, b"by name") == b"db"
        assert [dial("web", address) for address in SERVICE] == [b"db", b"db"]
        assert [dial("web", address, OTHER) for address in SERVICE] == [b"", b""]
        assert dial("db", SERVICE[0]) == b"db"  # the only member of a role that calls itself
        assert dial("log", NODE_IPV4) == b"outside"
        assert [dial("log", address) for address in SERVICE] == [b"", b""]
        assert served == [b"by name", b"web", b"web", b"db"]
        assert near == [b"log"]
        assert rogues == [[], [], [], []]
        with world.outside.inside():
            assert talk(SERVICE[0], PORT) == b"ROGUE"  # it is there
