"""Faults 19, 20, 24 and what a sealed pod shows: the network misbehaves, signals come, memory runs out.

One mesh for the whole file: what harms nobody first, then one replica of `db` for each way to end.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import conversations
from support.daemons import (
    OPEN_FILES,
    SEAL_S,
    Daemon,
    World,
    command_name,
    eventually,
    gone,
    kinds,
    ready,
    rules_stand,
    seen_closed,
    world,
)
from support.inside import APP_UID, MARKER, canary, python, read_line, run_python, spawn_python, tell
from support.programs import CONVERSATIONS

from toposeal_lab.capture import Wire
from toposeal_lab.pods import NODE_IPV4, NODE_IPV6

REPLICAS = [f"db-{number + 1}" for number in range(4)]
BLACK_HOLE_MTU = 1280
SIZE = 1 << 20


@pytest.fixture(scope="module")
def mesh() -> Iterator[World]:
    ready()
    with world({"web": "web", **dict.fromkeys(REPLICAS, "db")}, ports=(*conversations.SERVERS,)) as made:
        for name, member in made.members.items():
            made.start(name)
            if name != "web":
                spawn_python(member.pod, CONVERSATIONS, "serve", uid=APP_UID)
        for member in made.members.values():
            member.wait("gate", SEAL_S, state="open")
        yield made


@pytest.fixture
def victim(mesh: World) -> Daemon:
    return next(mesh[name] for name in REPLICAS if mesh[name].code is None)


def client(mesh: World, kind: str, size: int = 0) -> list[str]:
    return python(CONVERSATIONS, kind, "db", str(size))


def speaks(mesh: World) -> bool:
    done = mesh["web"].pod.run(client(mesh, "first"), uid=APP_UID, check=False)
    return done.stdout == b"220 ready\r\nHELO\r\n\n"


def test_I1_what_a_sealed_pod_sends_is_never_in_clear(mesh: World) -> None:
    """Every kind of socket, to roles, to members, to whoever is no member; and one marker that arrives."""
    web = mesh["web"].pod
    role = run_python(web, "import socket; print(socket.gethostbyname('db'))", uid=APP_UID).strip()
    peer = mesh[REPLICAS[0]].pod
    targets = (
        role,
        *peer.addresses,
        f"::ffff:{peer.ipv4}",
        NODE_IPV4,
        NODE_IPV6,
        "10.77.0.200",
        "240.10.0.99",
    )
    echo = f"""
import socket
with socket.create_connection(("db", {conversations.ECHO}), 5) as sock:
    sock.sendall({MARKER!r})
    print(sock.recv(100).decode())
"""
    with Wire(mesh.node, web) as wire:
        canary(web, *targets, uid=APP_UID)
        assert run_python(web, echo, uid=APP_UID).strip() == MARKER.decode()
        capture = wire.stop()
    assert capture.lost == 0
    assert len(capture.packets()) > 5  # what arrived was on this wire
    assert capture.carrying(MARKER) == 0


def test_D5_a_sealed_pod_listens_nowhere_else(mesh: World) -> None:
    """No admin interface, no xDS, no document on a TCP port of either kind of address."""
    said = mesh["web"].pod.run(["ss", "-Hltn"]).stdout.decode().splitlines()
    ours = {f"{host}:{port}" for host in ("127.0.0.1", "[::1]") for port in (15001, 15053)}
    assert {line.split()[3] for line in said} == {*ours, "0.0.0.0:15006", "[::]:15006", "*:15443"}


def test_fault_24_a_connection_that_the_network_resets_ends_and_the_next_is_sealed_too(mesh: World) -> None:
    web = mesh["web"].pod
    pipe = subprocess.PIPE
    with Wire(mesh.node, web) as wire:
        idle = web.spawn(client(mesh, "idle"), uid=APP_UID, stdin=pipe, stdout=pipe, stderr=pipe)
        assert read_line(idle) == "ready"
        for name in REPLICAS:
            mesh[name].pod.run(["ss", "-K", "state", "established", "sport", "=", ":15006"], check=False)
        tell(idle, "now")
        _, complaint = idle.communicate(timeout=10)
        assert speaks(mesh)
        capture = wire.stop(settle=0.05)
    assert (idle.returncode, b"Reset" in complaint or b"EOF" in complaint) == (1, True)
    assert (capture.carrying(b"before"), capture.carrying(b"HELO"), capture.lost) == (0, 0, 0)
    assert [member.events("fence") for member in mesh.members.values()] == [[]] * len(mesh.members)


@contextmanager
def black_hole(mesh: World) -> Iterator[None]:
    """The node drops large frames of web's and tells nobody."""
    web = mesh["web"].pod
    web.run(["ip", "link", "set", "eth0", "gso_max_segs", "1"])

    def mtu(value: int) -> None:
        mesh.node.host().run(["ip", "link", "set", web.interface, "mtu", str(value)])

    mtu(BLACK_HOLE_MTU)
    try:
        yield
    finally:
        mtu(1500)


def test_fault_24_a_black_hole_delays_and_downgrades_nothing(mesh: World) -> None:
    web = mesh["web"].pod
    sent = client(mesh, "half_client", SIZE)
    assert web.run(sent, uid=APP_UID).stdout == f"True {conversations.ANSWER}\n".encode()
    with Wire(mesh.node, web) as wire:
        with black_hole(mesh):
            stalled = web.spawn(sent, uid=APP_UID, stdout=subprocess.PIPE)
            with pytest.raises(subprocess.TimeoutExpired):
                stalled.wait(1.5)
        out, _ = stalled.communicate(timeout=20)
        capture = wire.stop(settle=0.05)
    assert out == f"True {conversations.ANSWER}\n".encode()
    assert (capture.carrying(bytes(500)), capture.lost) == (0, 0)


def assert_closed(member: Daemon) -> None:
    """No Envoy, no key, the rules stand, and nobody from outside gets to the application."""
    envoys = [pid for pid in member.pod.processes() if command_name(pid) == "envoy" and not gone(pid)]
    assert envoys == []
    assert rules_stand(member.pod)


def test_fault_20_a_signal_that_the_host_injects_into_envoy_closes_the_pod_for_a_while(mesh: World) -> None:
    """SIGFPE, as an interrupt of the host's choice becomes one in the guest."""
    member = mesh[REPLICAS[0]]
    with seen_closed(member):
        os.kill(kinds(member)["envoy"], signal.SIGFPE)
    assert_another_serves(mesh, member)


def test_fault_20_a_signal_that_the_host_injects_into_the_daemon_leaves_the_pod_closed(
    mesh: World, victim: Daemon
) -> None:
    envoy = kinds(victim)["envoy"]
    os.kill(victim.pid, signal.SIGFPE)
    assert victim.ended() == -signal.SIGFPE
    eventually(lambda: gone(envoy) or None)
    assert_closed(victim)
    eventually(lambda: speaks(mesh) or None)


def assert_another_serves(mesh: World, member: Daemon) -> None:
    """Whoever replaces an Envoy goes the whole way to open again."""
    eventually(
        lambda: [event["state"] for event in member.events("gate")][-2:] == ["restarting", "open"] or None
    )
    assert member.events("fence") == []
    assert member.files() == OPEN_FILES
    eventually(lambda: speaks(mesh) or None)


@contextmanager
def memory_of(pid: int, size: int) -> Iterator[None]:
    """No more than `size` bytes for what `pid` takes from now on; the kernel kills it at the limit."""
    groups = Path("/sys/fs/cgroup")
    old = groups / "memory"
    group = (old if old.is_dir() else groups) / f"toposeal-test-{os.getpid()}"
    try:
        group.mkdir()
        limit = group / ("memory.limit_in_bytes" if old.is_dir() else "memory.max")
        limit.write_text(str(size))
        (group / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made here: {error}")
    try:
        yield
    finally:
        eventually(lambda: not (group / "cgroup.procs").read_text() or None)
        group.rmdir()


def test_fault_19_an_envoy_without_memory_is_killed_and_another_serves(mesh: World, victim: Daemon) -> None:
    """The kernel kills it at the limit of its cgroup, which the next one is not in."""
    envoy = kinds(victim)["envoy"]
    with seen_closed(victim), memory_of(envoy, 64 << 10):
        eventually(lambda: ended_by(lambda: busy(mesh), envoy))
    assert_another_serves(mesh, victim)
    assert [event["found"] for event in victim.events("alarm")] == ["ended with -9, 1 in an hour"]


def busy(mesh: World) -> None:
    """Something for every Envoy to do."""
    mesh["web"].pod.run(client(mesh, "crowd", 300), uid=APP_UID, check=False)


def ended_by(work: Callable[[], None], pid: int) -> bool | None:
    """Whether `pid` has gone after some more work."""
    work()
    return gone(pid) or None


def test_fault_19_a_daemon_without_memory_is_killed_and_takes_envoy_along(
    mesh: World, victim: Daemon
) -> None:
    found = kinds(victim)
    with memory_of(victim.pid, 64 << 10):
        eventually(lambda: ended_by(lambda: knock(mesh, victim), victim.pid))
    assert victim.ended() == -signal.SIGKILL
    eventually(lambda: gone(found["envoy"]) or None)
    assert_closed(victim)
    eventually(lambda: speaks(mesh) or None)


KNOCK = """
import socket, sys
for _ in range(50):
    try:
        with socket.create_connection((sys.argv[1], 15443), 0.2) as sock:
            sock.sendall(bytes(65536))
    except OSError:
        pass
"""


def knock(mesh: World, member: Daemon) -> None:
    """Something for the daemon to do."""
    run_python(mesh.node.host(), KNOCK, member.pod.ipv4, uid=None)
