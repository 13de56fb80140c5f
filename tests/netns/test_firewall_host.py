"""I3, I4: marks and namespaces of a program, and what the host does to a pod's network under the rules."""

from __future__ import annotations

import pytest
from support.inside import APP_UID, BACKENDS, MARKER, lockdown, python, run_python, spawn_python

from toposeal.dataplane.firewall import Backend
from toposeal_lab.capture import Capture, Wire
from toposeal_lab.pods import NODE_IPV4, Node, Pod

Pods = tuple[Pod, Pod]
NEVER = None  # instead of rules
EXTRA = Pod("extra", "", 0)  # the node's end of a second interface
EXTRA.interface, EXTRA.ipv4 = "extra0", "10.78.0.2"
BEYOND = ("10.78.0.1", "10.79.0.1", "203.0.113.7", "198.51.100.7")  # by interface, routes, rule

# Datagrams and connections with the marker, each with every mark given.
SEND = """
import socket, sys
marker, marks, addresses = sys.argv[1].encode(), sys.argv[2].split(","), sys.argv[3:]
for address in addresses:
    for mark in marks:
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as sock:
                sock.settimeout(0.05)
                try:
                    if int(mark):
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, int(mark))
                    sock.connect((address, 8080))
                    sock.send(marker)
                except OSError:
                    pass
"""
MARKS = "1,1337,1338,15001,15006,2147483647"
LISTEN = """
import socket
sock = socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    client = sock.accept()[0]
    client.sendall(b"PLAIN")
    client.close()
"""
FETCH = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], 8080), 3) as sock:
        print(sock.recv(10).decode())
except OSError:
    print("nothing")
"""


def send(pod: Pod, *addresses: str, uid: int | None, marks: str = "0") -> None:
    run_python(pod, SEND, MARKER.decode(), marks, *addresses, uid=uid)


@pytest.mark.parametrize("backend", [NEVER, *BACKENDS])
def test_I3_a_mark_exempts_nobody(node: Node, pods: Pods, backend: Backend | None) -> None:
    """Not even root, who alone may set one."""
    a, b = pods
    if backend:
        lockdown(a, backend)
    with Wire(node, a) as wire:
        send(a, *b.addresses, uid=None, marks=MARKS)
        capture = wire.stop()
    assert capture.lost == 0
    assert (len(capture.packets()) > 0, capture.carrying(MARKER) > 0) == (not backend, not backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_I3_a_network_namespace_of_ones_own_leads_nowhere(node: Node, pods: Pods, backend: Backend) -> None:
    a, b = pods
    lockdown(a, backend)
    alone = ["unshare", "--user", "--map-root-user", "--net"]
    with Wire(node, a) as wire:
        a.run([*alone, *python(SEND, MARKER.decode(), MARKS, *b.addresses)], uid=APP_UID)
        # In a user namespace alone every capability is there, over nothing that is the pod's.
        a.run([*alone[:-1], *python(SEND, MARKER.decode(), MARKS, *b.addresses)], uid=APP_UID)
        capture = wire.stop()
    assert (capture.packets(), capture.carrying(MARKER), capture.lost) == ((), 0, 0)


def harm(node: Node, a: Pod, b: Pod) -> None:
    """All that a host may do: a second interface, new names, addresses, routes, rules and neighbours."""
    peer = ["type", "veth", "peer", "name", "eth1", "netns", a.namespace]
    host, mac = node.host(), b.run(["cat", "/sys/class/net/eth0/address"]).stdout.decode().strip()
    host.run(["ip", "link", "add", EXTRA.interface, *peer])
    for command in ("address add 10.78.0.1/24 dev extra0", "link set extra0 up"):
        host.run(["ip", *command.split()])
    for command in (
        "link set eth0 down",
        "link set eth0 name wan7",
        "link set wan7 up",
        f"address add {EXTRA.ipv4}/24 dev eth1",
        "address add 127.0.0.6/8 dev wan7",
        "link set eth1 up",
        f"route replace default via {b.ipv4}",
        "route add 10.79.0.0/16 via 10.78.0.1",
        f"route add 198.51.100.0/24 via {b.ipv4} table 77",
        "rule add pref 1 lookup 77",
        f"neighbour replace {NODE_IPV4} lladdr {mac} dev wan7",
    ):
        a.run(["ip", *command.split()])
    a.run(["sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1", "net.ipv4.ip_forward=1"])


def harmed(node: Node, pods: Pods, uid: int | None) -> tuple[Capture, Capture]:
    """What the pod's program gets out over either interface once the host has done its worst."""
    a, b = pods
    harm(node, a, b)
    with Wire(node, a) as first, Wire(node, EXTRA) as second:
        send(a, b.ipv4, NODE_IPV4, *BEYOND, uid=uid)
        return first.stop(), second.stop(settle=0.05)


@pytest.mark.parametrize("backend", [NEVER, *BACKENDS])
def test_I4_rules_hold_whatever_the_host_does_to_the_network(
    node: Node, pods: Pods, backend: Backend | None
) -> None:
    a, _ = pods
    spawn_python(a, LISTEN, uid=APP_UID)
    if backend:
        lockdown(a, backend)
    captures = harmed(node, pods, APP_UID)
    assert [capture.carrying(MARKER) > 0 for capture in captures] == [not backend] * 2
    assert [capture.lost for capture in captures] == [0, 0]
    answer = run_python(node.host(), FETCH, EXTRA.ipv4, uid=None).strip()
    assert answer == ("nothing" if backend else "PLAIN")
