"""What may come in: intercepted connections, the peer port, answers, and the ICMP errors that TCP needs."""

from __future__ import annotations

import ipaddress
import socket
import struct
import subprocess

import pytest
from support.daemons import eventually
from support.inside import (
    APP_UID,
    BACKENDS,
    DAEMON_UID,
    ENVOY_UID,
    lockdown,
    read_line,
    run_python,
    spawn_python,
    tell,
)

from toposeal.dataplane.firewall import Backend
from toposeal.host import firewall
from toposeal_lab.capture import Wire
from toposeal_lab.pods import Node, Pod

Pods = tuple[Pod, Pod]
PRODUCERS = pytest.mark.parametrize("backend", BACKENDS)
TCP, ICMP, ICMPV6 = 6, 1, 58


def checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - (total + (total >> 16)) % 0x10000


def ip_packet(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    """A whole IP packet; the transport checksum, at `payload`'s own place, is filled in."""
    src, dst = (ipaddress.ip_address(a).packed for a in (source, destination))
    offset = {TCP: 16, ICMP: 2, ICMPV6: 2}[protocol]
    pseudo = b"" if protocol == ICMP else src + dst + struct.pack("!HBB", len(payload), 0, protocol)
    total = checksum(pseudo + payload)
    payload = payload[:offset] + struct.pack("!H", total) + payload[offset + 2 :]
    if len(src) == 16:
        return struct.pack("!IHBB", 0x60000000, len(payload), protocol, 255) + src + dst + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0) + src + dst
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def syn(port: int) -> bytes:
    return struct.pack("!HHIIBBHHH", 40000, port, 7, 0, 0x50, 0x02, 8192, 0, 0)


def inject(node: Node, pod: Pod, packet: bytes) -> None:
    """Put `packet` on the pod's wire as the host can, whatever its addresses."""
    mac = pod.run(["cat", "/sys/class/net/eth0/address"]).stdout.decode().strip().replace(":", "")
    kind = b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00"
    with node.host().inside(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((pod.interface, 0))
        wire.send(bytes.fromhex(mac) + bytes(5) + b"\x01" + kind + packet)


def answers(node: Node, pod: Pod, *packets: bytes) -> int:
    with Wire(node, pod) as wire:
        for packet in packets:
            inject(node, pod, packet)
        return len(wire.stop().beyond_resets())


def echo(source: str, destination: str) -> bytes:
    v6 = ":" in destination
    return ip_packet(
        source, destination, ICMPV6 if v6 else ICMP, struct.pack("!BBHHH", 128 if v6 else 8, 0, 0, 1, 1)
    )


@PRODUCERS
def test_unasked_packets_get_no_answer(node: Node, pods: Pods, backend: Backend) -> None:
    a, b = pods
    packets = [
        *(echo(there, here) for there, here in zip(b.addresses, a.addresses, strict=True)),
        *(
            ip_packet(there, here, TCP, syn(8080))
            for there, here in zip(b.addresses, a.addresses, strict=True)
        ),
    ]
    assert answers(node, a, *packets) >= 2
    lockdown(a, backend)
    assert answers(node, a, *packets) == 0


LISTEN = """
import socket, sys
sock = socket.create_server(("0.0.0.0", int(sys.argv[1])))
print("ready", flush=True)
sys.stdin.readline()
"""


def martians(pod: Pod, peer: Pod) -> list[bytes]:
    return [
        ip_packet(peer.ipv4, "127.0.0.1", TCP, syn(8080)),
        ip_packet(peer.ipv4, "127.0.0.6", TCP, syn(15443)),
        ip_packet("127.0.0.6", pod.ipv4, TCP, syn(8080)),
        ip_packet("127.0.0.1", pod.ipv4, TCP, syn(15443)),
    ]


def believe_martians(pod: Pod) -> None:
    """The worst a host can set up from outside by way of sysctl: loopback addresses are routed."""
    for name in ("all", "eth0"):
        pod.run(["sh", "-c", f"echo 1 > /proc/sys/net/ipv4/conf/{name}/route_localnet"])
        pod.run(["sh", "-c", f"echo 0 > /proc/sys/net/ipv4/conf/{name}/rp_filter"])


@PRODUCERS
def test_I4_loopback_addresses_from_the_wire_are_nobodys(node: Node, pods: Pods, backend: Backend) -> None:
    a, b = pods
    believe_martians(a)
    lockdown(a, backend)
    for port, uid in (("15006", ENVOY_UID), ("15443", DAEMON_UID)):
        spawn_python(a, LISTEN, port, uid=uid)
    assert answers(node, a, ip_packet(b.ipv4, a.ipv4, TCP, syn(8080))) > 0
    assert answers(node, a, *martians(a, b)) == 0
    tracked = a.run(["cat", "/proc/net/nf_conntrack"]).stdout.decode()
    assert f"src={b.ipv4}" in tracked
    assert "src=127." not in tracked  # it was dropped, not answered on loopback


def test_I4_control_without_that_rule_they_are_answered(node: Node, pods: Pods) -> None:
    a, b = pods
    believe_martians(a)
    text = firewall.rule_file("lockdown.nft").replace("ip daddr 127.0.0.0/8 drop", "", 1)
    a.run(["nft", "-f", "-"], input=text.encode())
    spawn_python(a, LISTEN, "15006", uid=ENVOY_UID)
    assert (
        answers(node, a, ip_packet(b.ipv4, a.ipv4, TCP, syn(8080))) > 0
    )  # the neighbour is known from now on
    assert answers(node, a, *martians(a, b)[:1]) > 0


CONNECT = """
import socket, sys
address = sys.argv[1]
v6 = ":" in address
sock = socket.create_connection((address, 7000), timeout=2)
print("ready", flush=True)
sys.stdin.readline()
sock.send(b"x" * 1200)
print("sent", flush=True)
while sys.stdin.readline():
    print(sock.getsockopt(socket.IPPROTO_IPV6 if v6 else socket.IPPROTO_IP, 24 if v6 else 14), flush=True)
"""

ACCEPT = """
import socket, sys
sock = socket.create_server(("::", 7000), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    client = sock.accept()[0]
"""


def after_icmp(node: Node, a: Pod, b: Pod, v6: bool) -> subprocess.Popen[bytes]:
    """A connection of the daemon's about one of whose packets the host has sent an ICMP error."""
    here, there = (a.ipv6, b.ipv6) if v6 else (a.ipv4, b.ipv4)
    router = node.addresses[1 if v6 else 0]
    connection = spawn_python(a, CONNECT, there, uid=DAEMON_UID)
    b.run(
        [
            "nft",
            "add table inet hole; add chain inet hole in { type filter hook input priority 0; policy drop; }",
        ]
    )
    with Wire(node, a) as wire:
        tell(connection, "send")
        assert read_line(connection) == "sent"
        frame = next(frame for frame in wire.stop().frames if b"x" * 500 in frame)
    quoted = frame[14 : 14 + 68]
    if v6:
        inject(node, a, ip_packet(router, here, ICMPV6, struct.pack("!BBHI", 2, 0, 0, 1280) + quoted))
    else:
        inject(node, a, ip_packet(router, here, ICMP, struct.pack("!BBHHH", 3, 4, 0, 0, 1000) + quoted))
    return connection


def path_mtu(connection: subprocess.Popen[bytes]) -> int:
    tell(connection, "mtu")
    return int(read_line(connection))


@PRODUCERS
@pytest.mark.parametrize(("v6", "mtu"), [(False, 1000), (True, 1280)])
def test_icmp_errors_that_tcp_needs_arrive(
    node: Node, pods: Pods, backend: Backend, v6: bool, mtu: int
) -> None:
    a, b = pods
    lockdown(a, backend)
    spawn_python(b, ACCEPT, uid=None)
    connection = after_icmp(node, a, b, v6)
    eventually(lambda: path_mtu(connection) == mtu or None)


SEND_UDP = """
import socket, sys
sock = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
sock.sendto(b"spoofed answer", (sys.argv[1], int(sys.argv[2])))
"""

RECEIVE_UDP = """
import socket, sys
sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
sock.bind(("::", int(sys.argv[1])))
sock.settimeout(float(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
try:
    print(sock.recv(100).decode(), flush=True)
except TimeoutError:
    print("nothing", flush=True)
"""


@PRODUCERS
@pytest.mark.parametrize("port", [53, 5353, 5355, 9000])
def test_N2_no_datagram_comes_in_unasked(pods: Pods, backend: Backend, port: int) -> None:
    """Spoofed DNS, mDNS and LLMNR; whoever is told to."""
    a, b = pods
    for closed in (False, True):
        if closed:
            lockdown(a, backend)
        for uid in (APP_UID, DAEMON_UID) if port > 1024 else (None,):
            receiver = spawn_python(a, RECEIVE_UDP, str(port), "0.2" if closed else "10", uid=uid)
            run_python(b, SEND_UDP, a.ipv4, str(port), uid=None)
            tell(receiver, "it was sent")
            assert read_line(receiver) == ("nothing" if closed else "spoofed answer")
            receiver.wait()
