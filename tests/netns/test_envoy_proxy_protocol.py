"""Ports that begin with a PROXY header: the application hears who calls, from its own Envoy alone."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from support.daemons import eventually
from support.datapath import TIMEOUT, Hand, World, application, sealed_mesh, talk
from support.forge import TestMember
from support.proxied_application import IDENTITY, Header, Seen, made, proxied_application
from support.shop import role, topology

from toposeal.topology.model import Call, Ingress
from toposeal_lab.nginx import nginx
from toposeal_lab.pods import NODE_IPV4

PORT, BYTES, INGRESS = 5432, 9000, 8443
SHOP = topology(
    role("web", 1, calls=(Call("api", PORT), Call("api", BYTES))),
    role(
        "api",
        2,
        serves=(PORT, BYTES),
        calls=(Call("api", PORT),),
        ingress=(Ingress(INGRESS, PORT),),
        proxy_protocol=(PORT,),
    ),
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@pytest.fixture(scope="module")
def mesh() -> Iterator[World]:
    members = {"web": TestMember("web"), "api": TestMember("api"), "other": TestMember("api")}
    with sealed_mesh(SHOP, members=members) as world:
        yield world


def only(seen: list[Seen | str]) -> Seen:
    (found,) = seen
    assert isinstance(found, Seen), found
    return found


def identity(mesh: World, name: str) -> dict[int, bytes]:
    return {IDENTITY: mesh[name].member.uri.encode()}


def called(mesh: World, name: str, port: int = PORT) -> tuple[str, int]:
    return (mesh[name].pod.ipv4, port)


def test_the_application_hears_who_called_and_from_where(mesh: World) -> None:
    """Connections go to both members in turn; the other port of the role is bytes from the first on."""
    with (
        proxied_application(mesh["api"].pod, PORT, b"api") as one,
        proxied_application(mesh["other"].pod, PORT, b"other") as two,
        application(mesh["api"].pod, BYTES, b"bytes") as plain,
        application(mesh["other"].pod, BYTES, b"bytes"),
    ):
        assert {mesh["web"].call("api", PORT, b"SELECT 1") for _ in range(6)} == {b"api", b"other"}
        while not plain:
            assert mesh["web"].call("api", BYTES, b"SELECT 1") == b"bytes"
    for name, seen in (("api", one), ("other", two)):
        expected = Header(mesh["web"].pod.ipv4, called(mesh, name), identity(mesh, "web"))
        assert seen == [Seen(expected, b"SELECT 1")] * len(seen)
        assert len(seen) >= 1
    assert plain == [b"SELECT 1"]


def test_a_server_that_speaks_first_has_heard_it_before(mesh: World) -> None:
    with proxied_application(mesh["api"].pod, PORT, b"220 ready", first=True) as seen:
        web = mesh["web"].member
        hand = Hand(mesh.outside, web.chain_pem, web.key_pem, web.domain)
        context = hand.context()
        with hand.place.inside():
            raw = socket.create_connection(called(mesh, "api"), TIMEOUT)
            with context.wrap_socket(raw, server_hostname=hand.sni) as connection:
                assert connection.recv(100) == b"220 ready"
                connection.sendall(b"HELO")
                assert connection.recv(100) == b""
    assert only(seen) == Seen(Header(NODE_IPV4, called(mesh, "api"), identity(mesh, "web")), b"HELO")


@pytest.mark.parametrize("caller", ["application", "own hand"])
def test_D1_a_header_that_a_member_sends_is_data_after_ours(mesh: World, caller: str) -> None:
    """Its program's, or that of whoever has its credential, without its Envoy."""
    forged = made(mesh["other"].pod.ipv4, mesh["api"].pod.ipv4, PORT, identity(mesh, "other"))
    web = mesh["web"].member
    hand = Hand(mesh.outside, web.chain_pem, web.key_pem, web.domain)
    with (
        proxied_application(mesh["api"].pod, PORT, b"api") as seen,
        proxied_application(mesh["other"].pod, PORT, b"api") as more,
    ):
        if caller == "application":
            assert mesh["web"].call("api", PORT, forged) == b"api"
        else:
            assert hand.call(mesh["api"].pod.ipv4, PORT, forged) == b"api"
    found = only([*seen, *more])
    assert found.data == forged
    assert found.header.said == identity(mesh, "web")
    assert found.header.source == (mesh["web"].pod.ipv4 if caller == "application" else NODE_IPV4)


def test_D1_nobody_outside_is_named_whatever_it_sends(mesh: World) -> None:
    forged = made(mesh["web"].pod.ipv4, mesh["api"].pod.ipv4, PORT, identity(mesh, "web"))
    web = mesh["web"].member
    hands = [Hand(mesh.outside), Hand(mesh.outside, web.chain_pem, web.key_pem, web.domain)]
    for hand in hands:
        with proxied_application(mesh["api"].pod, PORT, b"api") as seen:
            assert hand.call(mesh["api"].pod.ipv4, INGRESS, forged) == b"api"
        assert only(seen) == Seen(Header(NODE_IPV4, called(mesh, "api", INGRESS), {}), forged)


def test_D9_a_header_before_the_handshake_is_no_handshake(mesh: World) -> None:
    """Neither at the mesh's port nor outside; the control sends nothing before it."""
    web = mesh["web"].member
    forged = made(mesh["other"].pod.ipv4, mesh["api"].pod.ipv4, PORT, identity(mesh, "other"))
    for port in (PORT, INGRESS):
        hand = Hand(mesh.outside, web.chain_pem, web.key_pem, web.domain)
        for prefix in (b"", forged):
            with proxied_application(mesh["api"].pod, PORT, b"api") as seen, hand.place.inside():
                raw = socket.create_connection(called(mesh, "api", port), TIMEOUT)
                raw.sendall(prefix)
                answer = b""
                try:
                    with hand.context().wrap_socket(raw, server_hostname=hand.sni) as connection:
                        connection.sendall(b"hi")
                        answer = connection.recv(100)
                except OSError:
                    pass
            assert (answer, len(seen)) == ((b"", 0) if prefix else (b"api", 1))


def test_K2_other_names_in_the_callers_certificate_are_not_told(mesh: World) -> None:
    """A member signs its own leaf: beside the name that lets it in it may write what it likes."""
    web = mesh["web"].member
    names = (f"spiffe://{web.domain}/admin", web.uri, f"{web.uri}/api")
    for order in (names, names[::-1]):
        chain, key = web.forge(*map(x509.UniformResourceIdentifier, order))
        hand = Hand(mesh.outside, chain, key, web.domain)
        with proxied_application(mesh["api"].pod, PORT, b"api") as seen:
            assert hand.call(mesh["api"].pod.ipv4, PORT) == b"api"
        assert only(seen).header.said == identity(mesh, "web")


def test_what_a_pod_calls_of_its_own_role_is_named_too(mesh: World) -> None:
    """Half of it stays in the pod: its own Envoy says it, and where the caller dialled."""
    with (
        proxied_application(mesh["api"].pod, PORT, b"api") as own,
        proxied_application(mesh["other"].pod, PORT, b"other") as others,
    ):
        while not (own and others):
            assert mesh["api"].call("api", PORT) in (b"api", b"other")
    (found,) = {(seen.header.source, seen.header.destination) for seen in own if isinstance(seen, Seen)}
    assert found[1] == (mesh["api"].vip("api"), PORT)
    for seen in (*own, *others):
        assert isinstance(seen, Seen)
        assert (seen.header.said, seen.data) == (identity(mesh, "api"), b"hi")
    assert isinstance(others[0], Seen)
    assert others[0].header.source == mesh["api"].pod.ipv4


def test_nginx_reads_the_header_and_bytes_alone_do_not_reach_it(mesh: World, tmp_path: Path) -> None:
    """A parser that others wrote, and that refuses a connection without a header."""
    server = (
        f"listen {PORT} proxy_protocol; return 200 '$proxy_protocol_addr $proxy_protocol_server_port\\n';"
    )
    request = b"GET / HTTP/1.0\r\n\r\n"
    pod, web = mesh["api"].pod, mesh["web"].member
    hand = Hand(mesh.outside, web.chain_pem, web.key_pem, web.domain)
    process = pod.spawn(nginx(tmp_path, server))
    try:
        eventually(lambda: f":{PORT}".encode() in pod.run(["ss", "-Hltn"]).stdout or None)
        answer = hand.call(pod.ipv4, PORT, request)
        assert answer.endswith(f"\r\n\r\n{NODE_IPV4} {PORT}\n".encode())
        with pod.inside():
            assert talk("127.0.0.1", PORT, request) == b""
    finally:
        process.terminate()
        process.wait()
