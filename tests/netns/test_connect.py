"""`toposeal connect` to a sealed pod: real daemon, real Envoy, an unmodified client outside the mesh."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from support.daemons import END_S, MESH, SEAL_S, World, eventually, ready, world
from support.inside import APP_UID, run_python, spawn_python

INGRESS, PORT = 8443, 8080
SIZE = 4 << 20
WEB = {"ingress": [{"port": INGRESS, "target": PORT}], "serves": [PORT]}

# Says first, reads to the end, and only then answers: each direction has to end by itself.
SERVER = """
import hashlib, socket, sys, threading
def serve(client):
    with client:
        client.sendall(b"hello")
        heard = hashlib.sha256()
        while data := client.recv(1 << 16):
            heard.update(data)
        client.sendall(heard.digest() + bytes(int(sys.argv[2])))
sock = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=(sock.accept()[0],), daemon=True).start()
"""

CLIENT = """
import hashlib, socket, sys
port, size = map(int, sys.argv[1:])
try:
    with socket.create_connection(("127.0.0.1", port), timeout=15) as sock:
        heard = sock.recv(5)
        sock.sendall(bytes(size))
        sock.shutdown(socket.SHUT_WR)
        while data := sock.recv(1 << 16):
            heard += data
    print(heard[5:37] == hashlib.sha256(bytes(size)).digest(), len(heard))
except OSError as error:
    print(type(error).__name__)
"""


@dataclass
class Place:
    """A sealed mesh whose `web` is open to the outside, and the command that runs on the node."""

    world: World
    connect: subprocess.Popen[bytes]
    port: int

    def converse(self) -> str:
        return run_python(self.world.node.host(), CLIENT, str(self.port), str(SIZE), uid=APP_UID).strip()


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    ready()
    with world({"web": "web", "db-1": "db"}, web=WEB) as made:
        for name in ("web", "db-1"):
            made.start(name)
        for member in made.members.values():
            member.wait("gate", SEAL_S, state="open")
        server = spawn_python(made["web"].pod, SERVER, str(PORT), str(SIZE), uid=APP_UID)
        connect = made.node.host().spawn(command(made), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            yield Place(made, connect, listening(connect))
        finally:
            for process in (server, connect):
                process.kill()
                process.wait()


def command(made: World) -> list[str]:
    files = {name: str(made.directory / name) for name in ("owner.json", "root.der")}
    target = f"{made['web'].pod.ipv4}:{INGRESS}"
    trust = ["--owner", files["owner.json"], "--mesh", MESH, "--min-version", "1", "--interval", "5"]
    lab = [sys.executable, "-I", "-m", "toposeal_lab", "connect", target, "--local", "0"]
    return [*lab, *trust, "--anchors", files["root.der"]]


def listening(connect: subprocess.Popen[bytes]) -> int:
    assert connect.stdout is not None
    said = b""
    for line in connect.stdout:
        said += line
        if found := re.match(rb"listening on 127\.0\.0\.1:(\d+) ", line):
            return int(found[1])
    raise AssertionError(said)


def test_an_unmodified_client_reaches_the_application(place: Place) -> None:
    assert place.converse() == f"True {5 + 32 + SIZE}"


def test_a_pod_that_ends_is_refused_and_the_port_says_so(place: Place) -> None:
    """The last one: `web` does not come back, and silence of the mesh shuts the port."""
    assert place.converse().startswith("True ")
    web = place.world["web"]
    web.pod.kill_all()
    web.ended()
    eventually(lambda: (not place.converse().startswith("True ")) or None)
    assert place.connect.stderr is not None
    line = b""
    while b"NOT VERIFIED, nothing new is forwarded" not in line:
        line = place.connect.stderr.readline()
        assert line
    place.connect.send_signal(signal.SIGTERM)
    assert place.connect.wait(END_S) == 0
