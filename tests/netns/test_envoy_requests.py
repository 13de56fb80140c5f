"""Ports that speak HTTP: requests are led one by one, say who calls, and pass unchanged."""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from cryptography import x509
from support.daemons import eventually
from support.datapath import TIMEOUT, Hand, Sealed, World, application, sealed_mesh
from support.forge import TestMember
from support.http_application import Application, Http2Client, http_application
from support.shop import role, topology

from toposeal.topology.model import Call, Http, Ingress

PORT, BYTES, INGRESS = 8080, 9000, 8443
SHOP = topology(
    role("web", 1, calls=(Call("api", PORT), Call("api", BYTES))),
    role(
        "api",
        2,
        serves=(PORT, BYTES),
        calls=(Call("api", PORT),),
        ingress=(Ingress(INGRESS, PORT),),
        http=(Http(PORT, logs_requests=True),),
    ),
)
FORGED = "x-forwarded-client-cert: URI=spiffe://forged/web\r\n"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@pytest.fixture(scope="module")
def mesh() -> Iterator[World]:
    members = {"web": TestMember("web"), "api": TestMember("api"), "other": TestMember("api")}
    with sealed_mesh(SHOP, members=members) as world:
        yield world


@pytest.fixture
def both(mesh: World) -> Iterator[tuple[Application, Application]]:
    """Both members of api answer."""
    with ExitStack() as stack:
        yield (
            stack.enter_context(http_application(mesh["api"].pod, PORT, b"api")),
            stack.enter_context(http_application(mesh["other"].pod, PORT, b"other")),
        )


@contextmanager
def dialled(place: Sealed, port: int = PORT) -> Iterator[socket.socket]:
    """A connection of the place's program to the role api."""
    with place.pod.inside():
        connection = socket.create_connection((place.vip("api"), port), TIMEOUT)
    with connection:
        yield connection


def kept(place: Sealed, count: int) -> list[bytes]:
    """Who answered `count` requests of one connection."""
    with dialled(place) as sock:
        client = http.client.HTTPConnection("api")
        client.sock = sock
        found = []
        for _ in range(count):
            client.request("GET", "/")
            found.append(client.getresponse().read())
    return found


def ask(place: Sealed, more: str = "", path: str = "/", version: str = "1.1") -> bytes:
    request = f"GET {path} HTTP/{version}\r\nHost: api\r\nConnection: close\r\n{more}\r\n"
    return place.call("api", PORT, request.encode())


def identities(application: Application) -> list[str]:
    """What it was told of who called, in whatever spelling; then it forgets."""
    lines = [line.decode() for head in application.heads for line in head.split(b"\r\n")[1:]]
    application.heads.clear()
    return [line for line in lines if "client" in line.lower() and "cert" in line.lower()]


def test_requests_of_one_connection_go_to_every_member(
    mesh: World, both: tuple[Application, Application]
) -> None:
    """Each member has two addresses."""
    assert sorted(kept(mesh["web"], 8)) == [b"api"] * 4 + [b"other"] * 4
    with application(mesh["api"].pod, BYTES, b"api"), application(mesh["other"].pod, BYTES, b"other"):
        assert mesh["web"].call("api", BYTES, b"\x00not HTTP") in (b"api", b"other")  # the neighbour is bytes


def test_D1_the_application_hears_who_has_proven_to_call_whatever_the_caller_says(
    mesh: World, both: tuple[Application, Application]
) -> None:
    web = mesh["web"].member
    spellings = ("x-forwarded-client-cert", "X-Forwarded-Client-Cert", "x_forwarded_client_cert")
    forged = "".join(
        f"{name}: URI=spiffe://forged/web\r\n" for name in (*spellings, "X-forwarded_client-cert")
    )
    hand = Hand(mesh.outside, web.chain_pem, web.key_pem, web.domain)
    request = f"GET / HTTP/1.1\r\nHost: api\r\nConnection: close\r\n{forged}\r\n".encode()
    for served, name in zip(both, ("api", "other"), strict=True):
        assert b"200 OK" in hand.call(mesh[name].pod.ipv4, PORT, request)  # web's own key, without its Envoy
        (told,) = identities(served)
        assert told == f"x-forwarded-client-cert: URI={web.uri}"
    assert b"200 OK" in ask(mesh["web"], forged)
    (told,) = [*identities(both[0]), *identities(both[1])]
    assert told == f"x-forwarded-client-cert: URI={web.uri}"


def test_K2_other_names_in_the_callers_certificate_are_not_told(
    mesh: World, both: tuple[Application, Application], capfd: pytest.CaptureFixture[str]
) -> None:
    """A member signs its own leaf: beside the name that lets it in it may write what it likes."""
    web = mesh["web"].member
    names = (web.uri, f"spiffe://{web.domain}/admin", f"spiffe://{web.domain}/web;URI=spiffe://x/admin")
    for order in (names, names[::-1]):
        chain, key = web.forge(*map(x509.UniformResourceIdentifier, order))
        hand = Hand(mesh.outside, chain, key, web.domain)
        request = b"GET / HTTP/1.1\r\nHost: api\r\nConnection: close, x-forwarded-client-cert\r\n\r\n"
        assert b"200 OK" in hand.call(mesh["api"].pod.ipv4, PORT, request)
        assert identities(both[0]) == [f"x-forwarded-client-cert: URI={web.uri}"]
    text = ""

    def told() -> bool | None:
        nonlocal text
        text += capfd.readouterr().out
        return text.count(f'"peer": "{web.uri}"') >= 2 or None

    eventually(told)
    assert "admin" not in text


def test_D1_a_pod_that_calls_its_own_role_is_told_as_itself(
    mesh: World, both: tuple[Application, Application]
) -> None:
    """Also where the request stays in the pod and passes one Envoy alone."""
    own = mesh["api"].member.uri
    assert set(kept(mesh["api"], 40)) == {b"api", b"other"}  # by chance, and not in turn
    told = identities(both[0])
    assert set(told) == set(identities(both[1])) == {f"x-forwarded-client-cert: URI={own}"}
    assert b"200 OK" in ask(mesh["api"], "x_forwarded_client_cert: forged\r\n") + ask(mesh["api"])
    assert all("forged" not in line for line in identities(both[0]) + identities(both[1]))


def test_D1_whoever_comes_from_outside_is_nobody(mesh: World, both: tuple[Application, Application]) -> None:
    forged = "x-forwarded-client-cert: By=a;URI=spiffe://forged/web\r\nx_forwarded_client_cert: b\r\n"
    request = f"GET / HTTP/1.1\r\nHost: api\r\nConnection: close\r\nX-Kept: c\r\n{forged}\r\n".encode()
    for alpn in ((), ("h2", "http/1.1")):
        outside = Hand(mesh.outside, sni=mesh["api"].member.domain, alpn=alpn)
        assert b"200 OK" in outside.call(mesh["api"].pod.ipv4, INGRESS, request)
        (head,) = both[0].heads
        assert b"\r\nX-Kept: c" in head
        assert identities(both[0]) == []


def test_D1_an_outside_client_that_offers_http2_alone_speaks_it_and_is_nobody(
    mesh: World, both: tuple[Application, Application]
) -> None:
    hand = Hand(mesh.outside, sni=mesh["api"].member.domain, alpn=("h2",))
    with mesh.outside.inside():
        raw = socket.create_connection((mesh["api"].pod.ipv4, INGRESS), TIMEOUT)
    with hand.context().wrap_socket(raw, server_hostname=hand.sni) as connection:
        assert connection.selected_alpn_protocol() == "h2"
        client = Http2Client(connection)
        stream = client.call("/shop.Api/Get", ("x-forwarded-client-cert", "forged"), ("x-kept", "yes"))
        assert client.answer(stream)[b"x-served-by"] == b"api"
    (told,) = map(dict, both[0].requests)
    assert told[b"x-kept"] == b"yes"
    assert b"x-forwarded-client-cert" not in told


def test_a_request_passes_as_it_came(mesh: World, both: tuple[Application, Application]) -> None:
    """But for what the page of topologies says."""
    path = "/a/../b//c%2fd;e?q=%41&q=2"
    more = "X-Mixed-CASE: 1\r\nx-own: 1\r\nx-own: 2\r\nunder_score: 1\r\nX-Request-ID: own\r\n"
    ours = "X-Envoy-Max-Retries: 9\r\nx-envoy-upstream-alt-stat-name: a\r\nX-Forwarded-For: 10.0.0.1\r\n"
    answer = ask(mesh["web"], more + ours, path)
    (head,) = both[0].heads + both[1].heads
    lines = head.decode().split("\r\n")
    assert lines[0] == f"GET {path} HTTP/1.1"
    expected = ["Host: api", "X-Mixed-CASE: 1", "x-own: 1", "x-own: 2", "under_score: 1", "X-Request-ID: own"]
    added = ["x-forwarded-proto: http"]
    found = [line for line in lines[1:] if not line.startswith("x-forwarded-client-cert: ")]
    assert found == [*expected, "X-Forwarded-For: 10.0.0.1", *added]
    status, *headers = answer.split(b"\r\n\r\n")[0].decode().split("\r\n")
    names = [header.partition(":")[0] for header in headers]
    assert (status, names) == (
        "HTTP/1.1 200 OK",
        ["X-Served-By", "server", "content-length", "date", "connection"],
    )


def test_older_clients_and_uploads_of_unknown_length_are_served(
    mesh: World, both: tuple[Application, Application]
) -> None:
    assert b"200 OK" in mesh["web"].call("api", PORT, b"GET / HTTP/1.0\r\n\r\n")
    head = b"POST /up HTTP/1.1\r\nHost: api\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    sent = [os.urandom(size) for size in (1, 100_000, 7)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in sent)
    assert b"200 OK" in mesh["web"].call("api", PORT, head + chunks + b"0\r\n\r\n")
    assert [*both[0].bodies, *both[1].bodies] == [b"".join(sent)]


def test_a_websocket_carries_bytes_both_ways(mesh: World, both: tuple[Application, Application]) -> None:
    with dialled(mesh["web"]) as sock:
        sock.sendall(b"GET /chat HTTP/1.1\r\nHost: api\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert sock.recv(1000).startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        for data in (b"\x81\x02hi", os.urandom(30_000)):
            sock.sendall(data)
            echo = b""
            while len(echo) < len(data):
                echo += sock.recv(65_536)
            assert echo == data


def test_calls_of_one_http2_connection_go_to_every_member_and_stream(
    mesh: World, both: tuple[Application, Application]
) -> None:
    with dialled(mesh["web"]) as sock:
        client = Http2Client(sock)
        streams = [client.call(f"/shop.Api/Chat{n}", ("te", "trailers"), ("user_id", "7")) for n in range(8)]
        who = [client.answer(stream)[b"x-served-by"] for stream in streams]
        assert sorted(who) == [b"api"] * 4 + [b"other"] * 4
        for number, stream in enumerate(streams):
            client.send(stream, b"first %d" % number)
            assert client.message(stream) == b"first %d" % number
        for stream in streams:
            client.send(stream, b"", end=True)
            assert client.trailers(stream)[b"grpc-status"] == b"0"
    for served in both:
        for headers in served.requests:
            told = dict(headers)
            assert told[b"user_id"] == b"7"
            assert told[b"x-forwarded-client-cert"] == b"URI=" + mesh["web"].member.uri.encode()
            assert told[b":path"].startswith(b"/shop.Api/Chat")


AMBIGUOUS = {
    "length and chunks": "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": "Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "a length with a sign": "Content-Length: +5\r\n\r\nabcde",
    "another coding": "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": "Content-Length : 0\r\n\r\n",
    "a NUL": "X-Nul: a\0b\r\n\r\n",
    "headers without end": "".join(f"X-{n}: 1\r\n" for n in range(101)) + "\r\n",
    "a large header": f"X-Large: {'x' * 62_000}\r\n\r\n",
}


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_D1_what_two_parsers_could_read_in_two_ways_is_refused_at_either_end(
    mesh: World, both: tuple[Application, Application], kind: str
) -> None:
    web = mesh["web"].member
    hand = Hand(mesh.outside, web.chain_pem, web.key_pem, web.domain)
    request = f"POST / HTTP/1.1\r\nHost: api\r\n{AMBIGUOUS[kind]}".encode()
    for answer in (mesh["web"].call("api", PORT, request), hand.call(mesh["api"].pod.ipv4, PORT, request)):
        assert answer.split(b" ")[1] in (b"400", b"431", b"501")
    assert both[0].heads == both[1].heads == []
