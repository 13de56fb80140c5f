"""I1, I2, I8: whatever a program in the pod sends, no packet of it reaches the wire."""

from __future__ import annotations

import ipaddress
import json
import socket

import pytest
from support.inside import (
    APP_UID,
    BACKENDS,
    CANARY,
    DAEMON_UID,
    ENVOY_UID,
    MARKER,
    canary,
    lockdown,
    python,
    read_line,
    run_python,
    spawn_python,
    tell,
)

from toposeal.dataplane.firewall import Backend
from toposeal_lab.capture import Capture, Wire
from toposeal_lab.pods import Node, Pod

ON_LINK = ("10.77.0.200", "fd70:7365:616c::99")  # neighbours that do not exist: asking for them would show
OUTSIDE = ("240.10.0.1", "10.77.0.255", "224.0.0.251", "ff02::1%eth0")
HOST = ("169.254.169.254", "10.77.0.1", "fd70:7365:616c::1")

Pods = tuple[Pod, Pod]


def sent_by(node: Node, pod: Pod, *addresses: str, uid: int | None) -> tuple[dict[str, str], Capture]:
    with Wire(node, pod) as wire:
        results = canary(pod, *addresses, uid=uid)
        capture = wire.stop()
    assert capture.lost == 0
    return results, capture


def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def everywhere(peer: Pod) -> tuple[str, ...]:
    return (*peer.addresses, f"::ffff:{peer.ipv4}", *ON_LINK, *OUTSIDE, *HOST)


def test_I1_without_rules_the_canary_is_on_the_wire(node: Node, pods: Pods) -> None:
    """The positive control of every test below."""
    a, b = pods
    results, capture = sent_by(node, a, *b.addresses, *ON_LINK, uid=APP_UID)
    assert capture.carrying(MARKER) > 20
    assert len(capture.packets()) > 40
    assert results["memberships"] == "sent"
    assert capture.carrying(socket.inet_aton("239.77.77.77")) > 0  # the group of the IGMP report
    assert all(capture.carrying(packed(neighbour)) > 0 for neighbour in ON_LINK)


@pytest.mark.parametrize("backend", BACKENDS)
def test_I1_an_application_sends_nothing_at_all(node: Node, pods: Pods, backend: Backend) -> None:
    a, b = pods
    lockdown(a, backend)
    results, capture = sent_by(node, a, *everywhere(b), uid=APP_UID)
    assert capture.packets() == ()
    assert capture.carrying(MARKER) == 0
    # Nor does it choose whom the pod asks for: no ARP, no neighbour solicitation.
    assert all(capture.carrying(packed(neighbour)) == 0 for neighbour in ON_LINK)
    assert len(results) > 300
    assert results["packet socket"] == "EPERM"


@pytest.mark.parametrize("backend", BACKENDS)
def test_I1_root_with_raw_sockets_sends_nothing_through_ip(node: Node, pods: Pods, backend: Backend) -> None:
    """Packet sockets bypass netfilter: SECURITY.md demands that the application has no CAP_NET_RAW."""
    a, b = pods
    lockdown(a, backend)
    results, capture = sent_by(node, a, *everywhere(b), uid=None)
    assert capture.packets() == ()
    assert capture.carrying(MARKER) == 0
    assert results["packet socket"] == "available"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("uid", [ENVOY_UID, DAEMON_UID])
def test_I3_envoys_uid_in_ones_own_user_namespace_is_nothing(
    node: Node, pods: Pods, backend: Backend, uid: int
) -> None:
    a, b = pods
    lockdown(a, backend)
    with Wire(node, a) as wire:
        disguised = [
            "unshare",
            "--user",
            f"--map-user={uid}",
            *python(CANARY, MARKER.decode(), "eth0", *b.addresses),
        ]
        results = json.loads(a.run(disguised, uid=APP_UID, timeout=60).stdout)
        capture = wire.stop()
    assert results["packet socket"] == "EPERM"
    assert capture.packets() == ()
    assert capture.carrying(MARKER) == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_I1_the_second_wall_holds_without_the_first(node: Node, pods: Pods, backend: Backend) -> None:
    a, b = pods
    lockdown(a, backend)
    if backend is Backend.NFT:
        a.run(["nft", "delete chain inet toposeal redirect_out; delete chain inet toposeal redirect_in"])
    else:
        kind = backend.value.removeprefix("iptables-")
        for program in ("iptables", "ip6tables"):
            a.run([f"{program}-{kind}", "-t", "nat", "-F"])
    _, capture = sent_by(node, a, *everywhere(b), uid=APP_UID)
    assert capture.packets() == ()
    assert capture.carrying(MARKER) == 0


LISTEN = """
import socket, sys
address, port = sys.argv[1], int(sys.argv[2])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
sock = socket.create_server((address, port), family=family, dualstack_ipv6=address == "::")
print("ready", flush=True)
while True:
    client = sock.accept()[0]
    client.sendall(b"PLAIN " + client.recv(100))
    client.close()
"""

FETCH = """
import socket, sys
for address in sys.argv[2:]:
    try:
        with socket.create_connection((address, int(sys.argv[1])), timeout=5) as sock:
            sock.sendall(b"hello")
            print(sock.recv(100).decode() or "closed")
    except OSError as error:
        print("refused" if isinstance(error, ConnectionError) else "nothing")
"""


def fetch(pod: Pod, port: int, *addresses: str, uid: int | None = None) -> list[str]:
    return run_python(pod, FETCH, str(port), *addresses, uid=uid).split("\n")[:-1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_I2_without_a_sidecar_nobody_reaches_the_application(
    node: Node, pods: Pods, backend: Backend
) -> None:
    """The lockdown alone: no daemon, no Envoy, the application started first."""
    a, b = pods
    spawn_python(a, LISTEN, "::", "8080", uid=APP_UID)
    assert fetch(b, 8080, *a.addresses) == ["PLAIN hello"] * 2
    lockdown(a, backend)
    assert fetch(b, 8080, *a.addresses) == ["refused"] * 2
    assert fetch(node.host(), 8080, *a.addresses) == ["refused"] * 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_I8_loopback_and_own_addresses_stay_the_applications(pods: Pods, backend: Backend) -> None:
    a, _ = pods
    lockdown(a, backend)
    spawn_python(a, LISTEN, "::", "8080", uid=APP_UID)
    own = ("127.0.0.1", "::1", "127.0.0.77", "0.0.0.0", "::", *a.addresses)
    assert fetch(a, 8080, *own, uid=APP_UID) == ["PLAIN hello"] * len(own)
    assert fetch(a, 8080, *own, uid=None) == ["PLAIN hello"] * len(own)


@pytest.mark.parametrize("backend", BACKENDS)
def test_I8_the_host_is_captured(node: Node, pods: Pods, backend: Backend) -> None:
    """Metadata service, gateway, other pods: all lead to Envoy's port, which is closed."""
    a, b = pods
    for there in (node.host(), b):
        spawn_python(there, LISTEN, "::", "80", uid=None)
    targets = (*HOST, *b.addresses)
    assert fetch(a, 80, *targets[1:], uid=APP_UID) == ["PLAIN hello"] * 4
    lockdown(a, backend)
    assert fetch(a, 80, *targets, uid=APP_UID) == ["refused"] * 5
    for loopback in ("127.0.0.1", "::1"):
        spawn_python(a, LISTEN, loopback, "15001", uid=ENVOY_UID)
    assert fetch(a, 80, *targets, uid=APP_UID) == ["PLAIN hello"] * 5


# As fast as it goes, until it is told that it is over.
FLOOD = """
import select, socket, sys
address = sys.argv[1]
sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
print("ready", flush=True)
sent = tried = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    for _ in range(100):
        tried += 1
        try:
            sock.sendto(sys.argv[2].encode(), (address, 9))
            sent += 1
        except OSError:
            pass
print(tried, sent, flush=True)
"""
AGAIN = 8


@pytest.mark.parametrize("backend", BACKENDS)
def test_I1_applying_again_under_a_flood_leaks_nothing(node: Node, pods: Pods, backend: Backend) -> None:
    a, b = pods
    lockdown(a, backend)
    with Wire(node, a) as wire:
        floods = [spawn_python(a, FLOOD, address, MARKER.decode(), uid=APP_UID) for address in b.addresses]
        for _ in range(AGAIN):
            lockdown(a, backend)
        for flood in floods:
            tell(flood, "over")
        said = [list(map(int, read_line(flood).split())) for flood in floods]
        capture = wire.stop()
    tried, sent = map(sum, zip(*said, strict=True))
    assert (sent, capture.carrying(MARKER), capture.lost) == (0, 0, 0)
    assert tried > 100 * AGAIN


GROUP = "ff02::4d4c:4421"  # what a program joins, the kernel reports (MLDv2)
JOIN = """
import socket, sys, time
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as joined:
    index = socket.if_nametoindex("eth0").to_bytes(4, sys.byteorder)
    member = socket.inet_pton(socket.AF_INET6, sys.argv[1]) + index
    joined.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
    time.sleep(0.3)
"""


def reports(node: Node, pod: Pod) -> int:
    with Wire(node, pod) as wire:
        pod.run(python(JOIN, GROUP), uid=APP_UID)
        return wire.stop().carrying(packed(GROUP))


@pytest.mark.parametrize("backend", BACKENDS)
def test_I1_a_joined_group_is_reported_to_nobody(node: Node, pods: Pods, backend: Backend) -> None:
    a, _ = pods
    assert reports(node, a) > 0
    lockdown(a, backend)
    assert reports(node, a) == 0
