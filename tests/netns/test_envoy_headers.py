"""D1, D9: what claims to come from elsewhere, to go elsewhere, or comes too early, before a sealed Envoy."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.daemons import eventually
from support.datapath import TIMEOUT, Hand, World, application, sealed_mesh, talk
from support.inside import tell
from support.shop import role, topology

from toposeal.limits import INBOUND_PORT, OUTBOUND_PORT
from toposeal.topology.model import Call
from toposeal_lab.pods import NODE_IPV4

PORT = 8080
SHOP = topology(
    role("web", 1, calls=(Call("cache", PORT), Call("db", PORT))),
    role("db", 1, serves=(PORT,)),
    role("cache", 1, serves=(PORT,)),
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@pytest.fixture(scope="module")
def mesh() -> Iterator[World]:
    with sealed_mesh(SHOP) as world:
        yield world


def headers(mesh: World) -> dict[str, bytes]:
    """What some proxies believe about where a connection comes from or goes to: here, to cache."""
    cache, web = mesh["cache"].pod.ipv4, mesh["web"].pod.ipv4
    second = socket.inet_aton(web) + socket.inet_aton(cache) + b"\x10\x00\x1f\x90"
    http = b"GET / HTTP/1.1\r\nhost: db\r\n"
    return {
        "PROXY 1": f"PROXY TCP4 {web} {cache} 4096 {PORT}\r\n".encode(),
        "PROXY 2": b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + second,
        "original destination": http + f"x-envoy-original-dst-host: {cache}:{PORT}\r\n\r\n".encode(),
        "forwarded": http + f"x-forwarded-for: {web}\r\nx-forwarded-host: cache\r\n\r\n".encode(),
    }


@pytest.mark.parametrize("kind", ["PROXY 1", "PROXY 2", "original destination", "forwarded"])
def test_D9_what_an_application_says_of_destinations_is_its_data(mesh: World, kind: str) -> None:
    said = headers(mesh)[kind]
    with (
        application(mesh["db"].pod, PORT, b"db") as db_saw,
        application(mesh["cache"].pod, PORT, b"cache") as cache_saw,
    ):
        assert mesh["web"].call("db", PORT, said) == b"db"
    assert (db_saw, cache_saw) == ([said], [])


@pytest.mark.parametrize("kind", ["", "PROXY 1", "PROXY 2", "original destination"])
def test_D9_nothing_is_believed_before_the_handshake(mesh: World, kind: str) -> None:
    """By somebody who has web's own credential; the control sends nothing before it."""
    web, pod = mesh["web"].member, mesh["db"].pod
    prefix = headers(mesh)[kind] if kind else b""
    with application(pod, PORT, b"db") as saw:
        answer = after(prefix, Hand(mesh.outside, web.chain_pem, web.key_pem, web.domain), pod.ipv4)
    assert (answer, saw) == ((b"", []) if kind else (b"db", [b"hi"]))


def after(prefix: bytes, hand: Hand, host: str) -> bytes:
    """What `hand` gets if it sends `prefix` in clear first."""
    context = hand.context()
    with suppress(OSError), hand.place.inside():
        raw = socket.create_connection((host, PORT), TIMEOUT)
        raw.sendall(prefix)
        with context.wrap_socket(raw, server_hostname=hand.sni) as connection:
            connection.sendall(b"hi")
            return connection.recv(100)
    return b""


@pytest.mark.parametrize("port", [INBOUND_PORT, OUTBOUND_PORT])
def test_D9_envoys_own_ports_lead_nowhere(mesh: World, port: int) -> None:
    """An application that dials them itself names no original destination."""
    said = headers(mesh)
    with application(mesh["db"].pod, PORT, b"db") as db_saw, mesh["web"].pod.inside():
        for host in ("127.0.0.1", mesh["web"].pod.ipv4):
            assert [talk(host, port, data) for data in said.values()] == [b""] * len(said)
    assert db_saw == []


SERVER = ("s_server", "-accept", "4433", "-tls1_3", "-early_data", "-quiet", "-no_anti_replay")


def test_D1_early_data_never_reaches_the_application(mesh: World, tmp_path: Path) -> None:
    """Somebody with web's own credential and a session of another server, which does take early data."""
    web, db = mesh["web"].member, mesh["db"]
    files = {"chain": web.chain_pem, "key": web.key_pem, "early": "EARLY", "session": ""}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    own = ["-cert", str(tmp_path / "chain"), "-key", str(tmp_path / "key")]
    client = ["openssl", "s_client", *own, "-tls1_3", "-servername", web.domain]
    session, early = tmp_path / "session", ("-early_data", str(tmp_path / "early"))

    def dial(address: str, *more: str, until: Callable[[], bool]) -> str:
        """What the client says, who goes on when the handshake is over, and ends when `until` holds."""
        with (tmp_path / "said").open("w+b") as file:
            child = mesh.outside.spawn(
                [*client, "-connect", address, *more], stdin=subprocess.PIPE, stdout=file, stderr=file
            )
            eventually(lambda: b"Early data was" in (tmp_path / "said").read_bytes() or None)
            tell(child, "late")
            eventually(lambda: until() or None)
            child.kill()
            child.wait()
        return (tmp_path / "said").read_text(errors="replace")

    pipe = subprocess.DEVNULL
    server = mesh.outside.spawn(["openssl", *SERVER, *own], stdin=subprocess.PIPE, stdout=pipe, stderr=pipe)
    other, ours = f"{NODE_IPV4}:4433", f"{db.pod.ipv4}:{PORT}"
    eventually(lambda: b":4433" in mesh.outside.run(["ss", "-Hltn"]).stdout or None)
    dial(other, "-sess_out", str(session), until=lambda: session.stat().st_size > 0)
    known = ("-sess_in", str(session))
    assert "Early data was accepted" in dial(other, *known, *early, until=lambda: True)  # the control
    server.kill()
    with application(db.pod, PORT, b"db") as saw:
        said = dial(ours, *known, *early, until=lambda: saw != [])
    assert "Early data was rejected" in said
    assert saw == [b"late\n"]
