"""Addresses, routes, sockets and conntrack entries of a real pod."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import pytest
from support.inside import APP_UID, DAEMON_UID, ENVOY_UID, lockdown, read_line, run_python, spawn_python, tell

from toposeal.errors import PodError, Reason
from toposeal.host import connections, netlink
from toposeal.limits import VIP_NETWORK
from toposeal_lab.pods import Node, Pod

T = TypeVar("T")
Pods = tuple[Pod, Pod]


def within(pod: Pod, run: Callable[[], Coroutine[Any, Any, T]]) -> T:
    with pod.inside():
        return asyncio.run(run())


def test_own_addresses_are_the_global_ones(pods: Pods) -> None:
    a, _ = pods
    for address in ("169.254.7.7/16 scope link", "10.77.0.88/24", "fd70:7365:616c::88/64 preferred_lft 0"):
        a.run(["ip", "address", "add", *address.split(), "dev", "eth0"])
    assert within(a, netlink.own_addresses) == (a.ipv4, "10.77.0.88", a.ipv6)


def test_at_most_eight_addresses_are_named(pods: Pods) -> None:
    a, _ = pods
    for number in range(20):
        a.run(["ip", "address", "add", f"10.77.1.{number + 1}/24", "dev", "eth0"])
    assert len(within(a, netlink.own_addresses)) == 8


def test_a_new_address_is_told(pods: Pods) -> None:
    a, _ = pods
    told: list[tuple[str, ...]] = []

    async def watch() -> None:
        known = await netlink.own_addresses()
        assert known == (a.ipv4, a.ipv6)
        async with asyncio.timeout(20):
            await asyncio.to_thread(a.run, ["ip", "address", "add", "10.77.0.88/24", "dev", "eth0"])
            task = asyncio.create_task(netlink.watch_addresses(known, told.append))
            while not told:  # also what has changed before it watches
                await asyncio.sleep(0.02)
            await asyncio.to_thread(a.run, ["ip", "address", "add", "10.77.0.89/24", "dev", "eth0"])
            while len(told) < 2:
                await asyncio.sleep(0.02)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    within(a, watch)
    assert told == [(a.ipv4, "10.77.0.88", a.ipv6), (a.ipv4, "10.77.0.88", "10.77.0.89", a.ipv6)]


def test_D3_every_address_that_the_kernel_delivers_here_is_told(pods: Pods) -> None:
    """Also those that nobody would dial: of any scope, deprecated, beyond the eighth, on any interface."""
    a, _ = pods
    for number in range(8):
        a.run(["ip", "address", "add", f"10.77.1.{number + 1}/24", "dev", "eth0"])
    added = {
        "10.96.3.7": "10.96.3.7/32 dev lo",
        "240.10.0.1": "240.10.0.1/32 dev eth0 scope host",
        "fd00:96::7": "fd00:96::7/128 dev eth0 preferred_lft 0",
    }
    told: list[tuple[str, ...]] = []

    async def watch() -> None:
        task = asyncio.create_task(netlink.watch_local_addresses(told.append))
        async with asyncio.timeout(20):
            while not told:
                await asyncio.sleep(0.02)
            for address, words in added.items():
                await asyncio.to_thread(a.run, ["ip", "address", "add", *words.split()])
                while address not in told[-1]:
                    await asyncio.sleep(0.02)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    within(a, watch)
    assert {a.ipv4, a.ipv6, "10.77.1.8", "127.0.0.1", "::1"} < set(told[0])


LISTEN = """
import socket
sock = socket.create_server(("127.0.0.1", 15001))
print("ready", flush=True)
while True:
    sock.accept()[0].sendall(b"connected")
"""

CONNECT = """
import socket
try:
    print(socket.create_connection(("240.10.0.1", 5432), 1).recv(9).decode())
except OSError as error:
    print(error.strerror or error)
"""


def test_synthetic_addresses_work_without_any_ipv4_route(pods: Pods) -> None:
    a, _ = pods
    a.run(["ip", "route", "flush", "table", "main"])
    lockdown(a)
    spawn_python(a, LISTEN, uid=ENVOY_UID)
    assert run_python(a, CONNECT, uid=APP_UID) == "Network is unreachable\n"
    for _ in range(2):
        within(a, netlink.route_synthetic_addresses)
    assert run_python(a, CONNECT, uid=APP_UID) == "connected\n"


def test_fault_24_synthetic_addresses_work_in_a_pod_without_ipv4(pods: Pods) -> None:
    """And replace what routes somebody made for them."""
    a, _ = pods
    lockdown(a)
    spawn_python(a, LISTEN, uid=ENVOY_UID)
    a.run(["ip", "address", "del", f"{a.ipv4}/24", "dev", "eth0"])
    a.run(["ip", "route", "add", VIP_NETWORK, "dev", "lo", "scope", "global"])
    assert run_python(a, CONNECT, uid=APP_UID) == "timed out\n"  # the control: no source address
    within(a, netlink.route_synthetic_addresses)
    assert run_python(a, CONNECT, uid=APP_UID) == "connected\n"


def test_time_wait_is_reused(pods: Pods) -> None:
    a, _ = pods
    path = "/proc/sys/net/ipv4/tcp_tw_reuse"
    a.run(["sh", "-c", f"echo 0 > {path}"])
    with a.inside():
        netlink.reuse_time_wait()
    assert a.run(["cat", path]).stdout == b"1\n"


ECHO = """
import socket, sys, threading
sock = socket.create_server(("::", 7000), family=socket.AF_INET6, dualstack_ipv6=True)
def serve(client):
    try:
        while data := client.recv(100): client.sendall(data)
    except OSError: pass
print("ready", flush=True)
while True: threading.Thread(target=serve, args=(sock.accept()[0],), daemon=True).start()
"""

TALK = """
import socket, sys
socks = [socket.create_connection((address, 7000), timeout=2) for address in sys.argv[1:]]
print("ready", flush=True)
while sys.stdin.readline():
    said = []
    for sock in socks:
        try:
            sock.sendall(b"x"); said.append("alive" if sock.recv(1) else "closed")
        except OSError as error:
            said.append("cut")
    print(*said, flush=True)
"""


def test_sockets_of_one_peer_are_destroyed_and_no_others(node: Node) -> None:
    a, b, c = (node.pod(name) for name in "abc")
    for pod in (b, c):
        spawn_python(pod, ECHO, uid=None)
    talk = spawn_python(a, TALK, b.ipv4, b.ipv6, f"::ffff:{b.ipv4}", c.ipv4, c.ipv6, uid=ENVOY_UID)
    link = spawn_python(a, TALK, b.ipv4, b.ipv6, uid=DAEMON_UID)
    tell(talk, "go")
    assert read_line(talk) == "alive alive alive alive alive"
    with a.inside():
        assert connections.destroy_sockets(b.addresses, spared=DAEMON_UID) == 3
    tell(talk, "go")
    assert read_line(talk) == "cut cut cut alive alive"
    tell(link, "go")
    assert read_line(link) == "alive alive"
    with a.inside():
        assert connections.destroy_sockets(b.addresses, spared=DAEMON_UID) == 0


def test_a_kernel_that_lists_no_sockets_is_not_taken_for_one_without_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As one without INET_DIAG, here for a protocol that none of its modules is for."""
    monkeypatch.setattr(socket, "IPPROTO_TCP", 123)
    with pytest.raises(PodError, match="No such file") as caught:
        connections.destroy_sockets(["10.77.0.10"], spared=DAEMON_UID)
    assert caught.value.reason is Reason.FIREWALL


DESTROY = """
import sys
from toposeal.errors import PodError
from toposeal.host.connections import destroy_sockets
from toposeal.limits import DAEMON_UID
try:
    print(destroy_sockets(sys.argv[1:], spared=DAEMON_UID))
except PodError as error:
    print(error.reason.value)
"""


def test_without_the_capability_nothing_is_destroyed(pods: Pods) -> None:
    """And that is said: a removed member that keeps its connections must not pass for cut off."""
    a, b = pods
    spawn_python(b, ECHO, uid=None)
    talk = spawn_python(a, TALK, b.ipv4, uid=None)
    drop = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
    done = a.run([*drop, sys.executable, "-c", DESTROY, b.ipv4])
    assert done.stdout.decode().strip() == Reason.FIREWALL.value
    tell(talk, "go")
    assert read_line(talk) == "alive"


def test_I9_only_marked_connections_are_remembered(pods: Pods) -> None:
    a, b = pods
    spawn_python(b, ECHO, uid=None)
    lockdown(a)
    talk = spawn_python(a, TALK, b.ipv4, b.ipv6, uid=ENVOY_UID)
    own = spawn_python(a, ECHO, uid=None)
    local = spawn_python(a, TALK, "127.0.0.1", uid=APP_UID)
    entries = a.run(["cat", "/proc/net/nf_conntrack"]).stdout.decode()
    assert entries.count("mark=0 ") >= 1
    within(a, connections.forget_unmarked)
    entries = a.run(["cat", "/proc/net/nf_conntrack"]).stdout.decode()
    assert "mark=0 " not in entries
    assert entries.count(f"mark={0x746F706F} ") == 2
    for child, count in ((talk, 2), (local, 1)):
        tell(child, "go")
        assert read_line(child) == " ".join(["alive"] * count)
    own.kill()
