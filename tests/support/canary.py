"""Run inside a pod: send one marker over every kind of socket there is, to every given address.

usage: canary.py MARKER INTERFACE ADDRESS...   prints one JSON object {attempt: "sent" or the errno}
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import json
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass

Attempt = Callable[[bool], None]  # given whether to bind to the device

MARKER, INTERFACE, ADDRESSES = sys.argv[1].encode(), sys.argv[2], sys.argv[3:]
MPTCP, UDPLITE, SCTP, MSG_FASTOPEN, SO_BINDTODEVICE = 262, 136, 132, 0x20000000, 25
IPV6_HOPOPTS, IPV6_HDRINCL = 54, 36
results: dict[str, str] = {}


def main() -> None:
    with concurrent.futures.ThreadPoolExecutor(24) as threads:
        for address in ADDRESSES:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            for bound in (False, True):
                for name, attempt in attempts(family, address).items():
                    threads.submit(
                        record, f"{name} {address}{' bindtodevice' if bound else ''}", attempt, bound
                    )
    memberships()
    link_layer()
    print(json.dumps(results))


def record(label: str, attempt: Attempt, bound: bool) -> None:
    try:
        attempt(bound)
        results[label] = "sent"
    except OSError as error:
        results[label] = errno.errorcode.get(error.errno or 0, str(error))


def attempts(family: socket.AddressFamily, address: str) -> dict[str, Attempt]:
    target = Target(family, address)
    return streams(target) | datagrams(target) | pings(target) | crafted(target)


@dataclass(frozen=True)
class Target:
    """Where the marker is sent, over sockets of the family."""

    family: socket.AddressFamily
    address: str

    @property
    def v6(self) -> bool:
        return self.family == socket.AF_INET6

    def make(self, kind: int, proto: int, bound: bool) -> socket.socket:
        sock = socket.socket(self.family, kind, proto)
        sock.settimeout(0.25)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        if bound:
            sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, INTERFACE.encode())
        return sock


def streams(target: Target) -> dict[str, Attempt]:
    def stream(proto: int, port: int, flags: int = 0) -> Attempt:
        def run(bound: bool) -> None:
            with target.make(socket.SOCK_STREAM, proto, bound) as sock:
                if flags:
                    sock.sendto(MARKER, flags, (target.address, port))
                else:
                    sock.connect((target.address, port))
                    sock.sendall(MARKER)

        return run

    return {
        "tcp": stream(0, 8080),
        "tcp 53": stream(0, 53),
        "tcp 853": stream(0, 853),
        "tcp 15443": stream(0, 15443),
        "tcp fast open": stream(0, 8080, MSG_FASTOPEN),
        "mptcp": stream(MPTCP, 8080),
        "sctp": stream(SCTP, 8080),
    }


def datagrams(target: Target) -> dict[str, Attempt]:
    def datagram(port: int, size: int = 1, proto: int = 0, connected: bool = False) -> Attempt:
        def run(bound: bool) -> None:
            with target.make(socket.SOCK_DGRAM, proto, bound) as sock:
                if connected:
                    sock.connect((target.address, port))
                    sock.send(MARKER * size)
                else:
                    sock.sendto(MARKER * size, (target.address, port))

        return run

    return {
        "udp": datagram(4242),
        "udp connected": datagram(4242, connected=True),
        "udp fragmented": datagram(4242, size=200),
        "udp 53": datagram(53),
        "udp 443": datagram(443),
        "mdns": datagram(5353),
        "udplite": datagram(4242, proto=UDPLITE),
    }


def pings(target: Target) -> dict[str, Attempt]:
    def ping(kind: int) -> Attempt:
        def run(bound: bool) -> None:
            proto = socket.IPPROTO_ICMPV6 if target.v6 else socket.IPPROTO_ICMP
            with target.make(kind, proto, bound) as sock:
                body = struct.pack("!BBHHH", 128 if target.v6 else 8, 0, 0, 1, 1) + MARKER
                sock.sendto(body[:2] + checksum(body) + body[4:], (target.address, 0))

        return run

    return {"ping socket": ping(socket.SOCK_DGRAM), "raw icmp": ping(socket.SOCK_RAW)}


def crafted(target: Target) -> dict[str, Attempt]:
    """Packets of which the sender writes more than the payload."""

    def solicitation(bound: bool) -> None:
        """A raw neighbour advertisement with hop limit 255 looks like the kernel's own."""
        with target.make(socket.SOCK_RAW, socket.IPPROTO_ICMPV6, bound) as sock:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
            sock.sendto(struct.pack("!BBHI", 136, 0, 0, 0) + MARKER, (target.address, 0))

    def raw(proto: int, fragment: int = 0) -> Attempt:
        def run(bound: bool) -> None:
            with target.make(socket.SOCK_RAW, socket.IPPROTO_RAW, bound) as sock:
                sock.sendto(packet(target, proto, fragment), (target.address, 0))

        return run

    def options(bound: bool) -> None:
        with target.make(socket.SOCK_DGRAM, 0, bound) as sock:
            if target.v6:
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_HOPOPTS, b"\x11\x00\x1e\x04" + MARKER[:12])
            else:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\x07\x07\x04" + bytes(4) + b"\x00")
            sock.sendto(MARKER, (target.address, 4242))

    table = {
        "raw udp": raw(17),
        "raw fragment": raw(17, fragment=0x2000),
        "raw tcp": raw(6),
        "raw protocol 253": raw(253),
        "extension header": options,
    }
    return table | ({"raw neighbour": solicitation} if target.v6 else {})


def packet(target: Target, proto: int, fragment: int) -> bytes:
    """The marker behind an IP header of our own; IPv6's has no place for a fragment."""
    if target.v6:
        head = struct.pack("!IHBB", 0x60000000, len(MARKER), proto, 64)
        return head + bytes(16) + socket.inet_pton(target.family, target.address) + MARKER
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(MARKER), 1, fragment, 64, proto, 0)
    return head + bytes(4) + socket.inet_aton(target.address) + MARKER


def memberships() -> None:
    """Joining a group makes the kernel send a report that names it: 28 bits of anyone's choice."""
    index = socket.if_nametoindex(INTERFACE)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        group = socket.inet_aton("239.77.77.77") + bytes(4) + struct.pack("=i", index)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        group = socket.inet_pton(socket.AF_INET6, "ff05::7777") + struct.pack("=i", index)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
    results["memberships"] = "sent"


def link_layer() -> None:
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind((INTERFACE, 0x0800))
            results["packet socket"] = "available"
    except OSError as error:
        results["packet socket"] = errno.errorcode.get(error.errno or 0, str(error))


def checksum(data: bytes) -> bytes:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF)


main()
