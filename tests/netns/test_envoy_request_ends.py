"""Ports that speak HTTP when a member is dead, false or removed; and what is told of requests."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from support.daemons import eventually
from support.datapath import TIMEOUT, Hand, Sealed, World, sealed_mesh, tls_application
from support.envoy import mesh_member, pod_view
from support.forge import TestMember
from support.http_application import TICK_S, Http2Client, http_application
from support.shop import role, topology

from toposeal.dataplane.view import MeshMember
from toposeal.host.connections import destroy_sockets
from toposeal.limits import DAEMON_UID
from toposeal.topology.model import Call, Http, Ingress

PORT, QUIET, INGRESS = 8080, 8081, 8443
SHARE = 4
SHOP = topology(
    role("web", 1, calls=(Call("api", PORT), Call("api", QUIET))),
    role("job", 1, calls=(Call("api", PORT),)),
    role(
        "api",
        2,
        serves=(PORT, QUIET),
        ingress=(Ingress(INGRESS, PORT),),
        http=(Http(PORT, logs_requests=True), Http(QUIET, logs_requests=False)),
    ),
)
TICKS = b"GET /ticks HTTP/1.1\r\nHost: api\r\n\r\n"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@pytest.fixture
def mesh() -> Iterator[World]:
    members = {name: TestMember(name) for name in ("web", "job", "api")}
    with sealed_mesh(SHOP, members=members) as world:
        yield world


@contextmanager
def dialled(place: Sealed, port: int = PORT) -> Iterator[socket.socket]:
    with place.pod.inside():
        connection = socket.create_connection((place.vip("api"), port), TIMEOUT)
    with connection:
        yield connection


def ends(sock: socket.socket) -> bool:
    """Whether soon nothing more comes."""
    begun = time.monotonic()
    with suppress(ConnectionResetError):
        while sock.recv(65_536):
            if time.monotonic() > begun + TIMEOUT:
                return False
    return True


def goes_on(sock: socket.socket) -> bool:
    sock.recv(65_536)
    time.sleep(5 * TICK_S)
    return b"tick" in sock.recv(65_536)


def update(place: Sealed, *others: MeshMember) -> None:
    """Give `place` another view of the mesh, in which these are its peers."""
    own = mesh_member(place.member, *place.pod.addresses)
    view = pod_view(SHOP, own, [own, *others], generation=2)
    asyncio.run_coroutine_threadsafe(place.gate.gate.update(view), place.loop).result(10)


def known(place: Sealed) -> MeshMember:
    return mesh_member(place.member, *place.pod.addresses)


def ask(place: Sealed, port: int = PORT, path: str = "/") -> bytes:
    return place.call("api", port, f"GET {path} HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n".encode())


def told(capfd: pytest.CaptureFixture[str], name: str, count: int = 1) -> list[dict[str, object]]:
    """The next `count` events of this name in the journal."""
    text = ""

    def found() -> list[dict[str, object]] | None:
        nonlocal text
        text += capfd.readouterr().out
        events = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        matching = [event for event in events if event["event"] == name]
        return matching if len(matching) >= count else None

    return eventually(found)


def test_streams_of_a_removed_member_end_at_once_and_nobody_elses(mesh: World) -> None:
    web, job, api = mesh["web"], mesh["job"], mesh["api"]
    with (
        http_application(api.pod, PORT, b"api"),
        dialled(web) as first,
        dialled(web) as second,
        dialled(job) as kept,
    ):
        for sock in (first, kept):
            sock.sendall(TICKS)
            assert sock.recv(65_536).startswith(b"HTTP/1.1 200 OK")
        call = Http2Client(second)
        stream = call.call("/chat")
        assert call.answer(stream)[b":status"] == b"200"
        update(api, known(job))
        assert ends(first)
        call.reset(stream)
        assert goes_on(kept)
        assert ask(web).startswith(b"HTTP/1.1 503")


def test_a_connection_between_two_envoys_is_of_one_pair_and_can_be_cut_alone(mesh: World) -> None:
    """What a member's Envoy keeps to carry requests, the kernel can end by address."""
    web, job, api = mesh["web"], mesh["job"], mesh["api"]
    with http_application(api.pod, PORT, b"api"), dialled(web) as cut, dialled(job) as kept:
        for sock in (cut, kept):
            sock.sendall(TICKS)
            assert sock.recv(65_536).startswith(b"HTTP/1.1 200 OK")
        with api.pod.inside():
            assert destroy_sockets(web.pod.addresses, spared=DAEMON_UID) == 1
        assert ends(cut)
        assert goes_on(kept)


def test_D3_a_request_that_meets_a_dead_or_a_false_member_goes_to_another(mesh: World) -> None:
    """It was not sent yet. With nobody else to go to it fails."""
    web, api, shown = mesh["web"], mesh["api"], TestMember("api")
    mesh.outside.run(["ip", "address", "add", "10.77.0.98/32", "dev", "br0"])
    dead = mesh_member(TestMember("api"), "10.77.0.98")
    false = mesh_member(TestMember("api"), "10.77.0.1")
    with (
        http_application(api.pod, PORT, b"api") as served,
        tls_application(mesh.outside, PORT, shown.chain_pem, shown.key_pem, b"ROGUE"),
    ):
        update(web, mesh_member(api.member, api.pod.ipv4), dead, false)
        assert [ask(web)[-3:] for _ in range(6)] == [b"api"] * 6
        assert len(served.heads) == 6


def test_K1_what_could_not_be_led_on_is_told_with_its_reason(
    mesh: World, capfd: pytest.CaptureFixture[str]
) -> None:
    web, api, shown = mesh["web"], mesh["api"], TestMember("api")
    assert ask(web).startswith(b"HTTP/1.1 503")  # nobody listens in api
    (event,) = told(capfd, "refused")
    assert (event["kind"], event["chain"]) == ("unreachable", f"in|{PORT}|{web.member.domain}")
    update(web, mesh_member(api.member, "10.77.0.1"))
    text = ""

    def untrusted() -> dict[str, object] | None:
        """Asked again: Envoy's worker may go by the old address for a moment after the update."""
        nonlocal text
        assert b"ROGUE" not in ask(web)
        text += capfd.readouterr().out
        whole = [json.loads(line) for line in text.split("\n")[:-1] if line.startswith("{")]
        return next((event for event in whole if event.get("kind") == "untrusted"), None)

    with tls_application(mesh.outside, PORT, shown.chain_pem, shown.key_pem, b"ROGUE"):
        event = eventually(untrusted)
    assert (event["event"], event["chain"], event["upstream"]) == (
        "refused",
        f"out|api|{PORT}",
        f"10.77.0.1:{PORT}",
    )


def test_F4_a_request_is_told_without_its_query_headers_and_body(
    mesh: World, capfd: pytest.CaptureFixture[str]
) -> None:
    """At the called end alone, and where the topology says so."""
    web, api = mesh["web"], mesh["api"]
    with http_application(api.pod, PORT, b"api"), http_application(api.pod, QUIET, b"quiet"):
        assert ask(web, QUIET, "/CANARY").endswith(b"quiet")
        forged = (
            "x-forwarded-for: 10.0.0.1\r\nx-forwarded-client-cert: URI=CANARY\r\nauthorization: CANARY\r\n"
        )
        request = f"POST /a/b?token=CANARY HTTP/1.1\r\nhost: CANARY\r\n{forged}content-length: 6\r\n"
        web.call("api", PORT, f"{request}connection: close\r\n\r\nCANARY".encode())
        outside = Hand(mesh.outside, sni=api.member.domain)
        outside.call(api.pod.ipv4, INGRESS, b"GET /c?CANARY HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        events = told(capfd, "request", 2)
    for event in events:
        assert "CANARY" not in json.dumps(event)
        assert event.pop("t") and isinstance(event.pop("duration_ms"), int)
        assert isinstance(event.pop("waited_ms"), int)
    source, other = str(events[0].pop("source")), str(events[1].pop("source"))
    assert source.rpartition(":")[0].strip("[]") in web.pod.addresses
    assert other.startswith("10.77.0.1:")
    common = {"event": "request", "protocol": "HTTP/1.1", "status": 200, "flags": "-", "sent": 3}
    assert events == [
        {
            **common,
            "chain": f"in|{PORT}|{web.member.domain}",
            "peer": web.member.uri,
            "method": "POST",
            "path": "/a/b",
            "received": 6,
        },
        {**common, "chain": f"ingress|{INGRESS}", "peer": "", "method": "GET", "path": "/c", "received": 0},
    ]


@pytest.fixture
def small_shares(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Of three, for web and job at one port and web at the other."""
    monkeypatch.setattr("toposeal.dataplane.shares.MEMBER_CONNECTIONS", 3 * SHARE)
    monkeypatch.setattr("toposeal.dataplane.shares.MIN_MEMBER_CONNECTIONS", 1)
    with sealed_mesh(SHOP, members={name: TestMember(name) for name in ("web", "job", "api")}) as world:
        yield world


def test_R1_a_member_whose_requests_use_up_its_share_leaves_the_others_theirs(
    small_shares: World, capfd: pytest.CaptureFixture[str]
) -> None:
    """As many wait as are served, the next is refused; which are which is Envoy's to choose."""
    web, job, api = (small_shares[name] for name in ("web", "job", "api"))
    with http_application(api.pod, PORT, b"api") as served, ExitStack() as stack:
        for number in range(2 * SHARE + 1):
            sock = stack.enter_context(dialled(web))
            sock.sendall(TICKS)
            if number < SHARE:  # before it is answered it would be one that waits
                assert sock.recv(65_536).startswith(b"HTTP/1.1 200")
        (event,) = told(capfd, "refused")
        assert (event["kind"], event["chain"]) == ("too_many", f"in|{PORT}|{web.member.domain}")
        assert ask(job).endswith(b"api")
        eventually(lambda: len(served.heads) == SHARE + 1 or None)


@pytest.fixture
def short_lives(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr("toposeal.dataplane.envoy_routes.HTTP_IDLE", 300)
    monkeypatch.setattr("toposeal.dataplane.envoy_routes.HTTP_CONNECTION_LIFE", 600)
    monkeypatch.setattr("toposeal.dataplane.envoy_routes.HTTP_DRAIN", 100)
    with sealed_mesh(SHOP, members={name: TestMember(name) for name in ("web", "api")}) as world:
        yield world


def test_R1_a_connection_without_a_request_does_not_stay_and_one_with_a_request_does(
    short_lives: World,
) -> None:
    """Nobody's share counts it."""
    web, api = short_lives["web"], short_lives["api"]
    outside = Hand(short_lives.outside, sni=api.member.domain)
    with http_application(api.pod, PORT, b"api"), dialled(web) as stream:
        stream.sendall(TICKS)
        with short_lives.outside.inside():
            silent, busy = (socket.create_connection((api.pod.ipv4, INGRESS), TIMEOUT) for _ in range(2))
        with outside.context().wrap_socket(silent, server_hostname=api.member.domain) as connection:
            assert ends(connection)
        with outside.context().wrap_socket(busy, server_hostname=api.member.domain) as connection:
            answers = b""
            while b"connection: close" not in answers:
                connection.sendall(b"GET / HTTP/1.1\r\nhost: api\r\n\r\n")
                answers += connection.recv(65_536)
                time.sleep(0.02)
            assert ends(connection)
            assert answers.count(b"HTTP/1.1 200 OK") > 3
        assert goes_on(stream)
