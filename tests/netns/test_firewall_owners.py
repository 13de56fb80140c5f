"""Who may use the wire: Envoy and the daemon, on connections that they themselves have sent on."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from support.inside import (
    APP_UID,
    BACKENDS,
    DAEMON_UID,
    ENVOY_UID,
    MARKER,
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
SILENCE = 0.9  # seconds, and nothing comes any more; where something has to come, there is more patience

# Accepts, then reads slowly what a closed socket still has to send. A tiny receive buffer keeps it there.
SINK = """
import socket, sys, time
port, slow = int(sys.argv[1]), float(sys.argv[2])
listener = socket.socket(socket.AF_INET6)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
listener.bind(("::", port)); listener.listen()
print("ready", flush=True)
while True:
    client, _ = listener.accept()
    time.sleep(slow)
    client.settimeout(10)
    total = 0
    try:
        while data := client.recv(65536):
            total += len(data)
        print(total, "end", flush=True)
    except OSError as error:
        print(total, type(error).__name__, flush=True)
"""

# Connects, writes as much as fits and closes at once: most of it is still in the socket then.
SPILL = """
import socket, sys
address, port, marker = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
sock = socket.create_connection((address, port), timeout=2)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
sock.setblocking(False)
total = 0
try:
    while True:
        total += sock.send(marker * 2000)
except BlockingIOError:
    pass
sock.close()
print(total)
"""


def result(child: subprocess.Popen[bytes]) -> tuple[int, str]:
    count, how = read_line(child).split()
    return int(count), how


@PRODUCERS
@pytest.mark.parametrize("uid", [ENVOY_UID, DAEMON_UID])
def test_what_envoy_or_the_daemon_wrote_arrives_after_they_closed(
    pods: Pods, backend: Backend, uid: int
) -> None:
    a, b = pods
    lockdown(a, backend)
    sink = spawn_python(b, SINK, "7000", "0.3", uid=None)
    for address in b.addresses:
        written = int(run_python(a, SPILL, address, "7000", MARKER.decode(), uid=uid))
        assert result(sink) == (written, "end")
        assert written > 100_000


# Serves one connection, told step by step: writes as much as fits and says how much, then closes.
SERVE = """
import socket, sys
port, marker, patience = int(sys.argv[1]), sys.argv[2].encode(), float(sys.argv[3])
listener = socket.socket(socket.AF_INET6)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
listener.bind(("::", port)); listener.listen()
listener.settimeout(patience)
print("ready", flush=True)
try:
    client, _ = listener.accept()
except TimeoutError:
    print("nobody", flush=True); sys.exit()
print("accepted", flush=True)
sys.stdin.readline()
client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
client.setblocking(False)
total = 0
try:
    while True:
        total += client.send(marker * 2000)
except BlockingIOError:
    print(total, flush=True)
sys.stdin.readline()
client.close()
print("closed", flush=True)
sys.stdin.readline()
"""

# Connects with a small window, waits to be told, then reads everything there is to read.
DRAIN = """
import socket, sys
address, port = sys.argv[1], int(sys.argv[2])
sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
sock.settimeout(float(sys.argv[3]))
print("ready", flush=True)
try:
    sock.connect((address, port))
except OSError as error:
    print(type(error).__name__, flush=True); sys.exit()
print("connected", flush=True)
sys.stdin.readline()
total = 0
try:
    while data := sock.recv(65536):
        total += len(data)
    print(total, "end", flush=True)
except OSError as error:
    print(total, type(error).__name__, flush=True)
"""


def serve(pod: Pod, port: int, uid: int, patience: float = 20) -> subprocess.Popen[bytes]:
    return spawn_python(pod, SERVE, str(port), MARKER.decode(), str(patience), uid=uid)


def ended(child: subprocess.Popen[bytes]) -> str:
    """What else it has said until now, its last."""
    child.kill()
    assert child.stdout is not None
    return child.stdout.read().decode()


def drain(pod: Pod, address: str, port: int, patience: float = 10) -> subprocess.Popen[bytes]:
    return spawn_python(pod, DRAIN, address, str(port), str(patience), uid=None)


def attempts(pod: Pod, port: int, *addresses: str) -> list[str]:
    """How connecting from `pod` ends, all addresses at once."""
    return [read_line(child) for child in [drain(pod, address, port, SILENCE) for address in addresses]]


def spill_to_client(
    server: Pod, client: Pod, uid: int, ports: tuple[int, int], patience: float = 10
) -> tuple[int, tuple[int, str]]:
    """Bytes that a server wrote and left in a closed socket, and what its client got of them."""
    serving, reading = serve(server, ports[0], uid), drain(client, server.ipv4, ports[1], patience)
    assert (read_line(serving), read_line(reading)) == ("accepted", "connected")
    tell(serving, "write")
    written = int(read_line(serving))
    tell(serving, "close")
    assert read_line(serving) == "closed"
    tell(reading, "read")
    return written, result(reading)


@PRODUCERS
def test_what_envoy_serves_arrives_after_it_closed(pods: Pods, backend: Backend) -> None:
    a, b = pods
    lockdown(a, backend)
    written, got = spill_to_client(a, b, ENVOY_UID, ports=(15006, 8080))
    assert got == (written, "end")


@PRODUCERS
def test_what_the_daemon_leaves_on_the_peer_port_stays(pods: Pods, backend: Backend) -> None:
    """Without an owner it could be anybody's; peers have deadlines for what they wait for."""
    a, b = pods
    lockdown(a, backend)
    written, (got, how) = spill_to_client(a, b, DAEMON_UID, (15443, 15443), SILENCE)
    assert (got < written, how) == (True, "TimeoutError")


BOUND = """
import socket, sys
for source, destination in zip(sys.argv[1::2], sys.argv[2::2]):
    sock = socket.socket(socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, 25, b"eth0")
    sock.settimeout(0.2)
    try:
        sock.bind((source, 0))
        sock.connect((destination, 7000))
    except OSError:
        pass
"""


@PRODUCERS
def test_I4_not_even_the_daemon_sends_from_or_to_a_loopback_address(
    node: Node, pods: Pods, backend: Backend
) -> None:
    a, b = pods
    a.run(["sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet"])
    # An ordinary pair first: the neighbours have to be known.
    pairs = ["0.0.0.0", b.ipv4, "0.0.0.0", node.addresses[0], "127.0.0.1", b.ipv4, "0.0.0.0", "127.0.0.1"]
    ends = {(10, 10), (127, 10), (10, 127)}
    for allowed in (ends, {(10, 10)}):
        if allowed != ends:
            lockdown(a, backend)
        with Wire(node, a) as wire:
            run_python(a, BOUND, *pairs, uid=DAEMON_UID)
            capture = wire.stop()
        seen = {(frame[26], frame[30]) for frame in capture.packets() if frame[12:14] == b"\x08\x00"}
        assert seen == allowed


@PRODUCERS
def test_I3_only_the_living_daemon_sends_from_the_peer_port(node: Node, pods: Pods, backend: Backend) -> None:
    a, b = pods
    lockdown(a, backend)
    daemon, peer = serve(a, 15443, DAEMON_UID), drain(b, a.ipv4, 15443)
    assert (read_line(daemon), read_line(peer)) == ("accepted", "connected")
    daemon.kill()
    daemon.wait()
    with Wire(node, a) as wire:
        squatter = serve(a, 15443, APP_UID)
        assert attempts(b, 15443, *a.addresses) == ["TimeoutError"] * 2
        assert ended(squatter) == ""
        assert wire.stop().beyond_resets() == ()


def apply_raw(pod: Pod, backend: Backend) -> None:
    """As a measured guest does, without our program: nothing is forgotten."""
    if backend is Backend.NFT:
        pod.run(["nft", "-f", "-"], input=firewall.rule_file("lockdown.nft").encode())
        return
    kind = backend.value.removeprefix("iptables-")
    for program, file in (("iptables", "lockdown.v4.rules"), ("ip6tables", "lockdown.v6.rules")):
        pod.run([f"{program}-{kind}-restore", "--noflush"], input=firewall.rule_file(file).encode())


@PRODUCERS
@pytest.mark.parametrize("apply", [lockdown, apply_raw])
def test_I9_what_an_older_connection_left_in_its_socket_stays(
    node: Node, pods: Pods, backend: Backend, apply: Callable[[Pod, Backend], None]
) -> None:
    """Established and filled before the rules, closed under them: no owner, and not one byte more."""
    a, b = pods
    pairs = [(serve(a, port, APP_UID), drain(b, a.ipv4, port, SILENCE)) for port in (15443, 15006, 8080)]
    written = []
    for serving, reading in pairs:
        assert (read_line(serving), read_line(reading)) == ("accepted", "connected")
        tell(serving, "write")
        written.append(int(read_line(serving)))
    apply(a, backend)
    with Wire(node, a) as wire:
        for serving, reading in pairs:
            tell(serving, "close")
            assert read_line(serving) == "closed"
            tell(reading, "read")
        got = [result(reading) for _, reading in pairs]
        assert [how for _, how in got] == ["TimeoutError"] * 3
        assert all(count < total for (count, _), total in zip(got, written, strict=True))
        assert wire.stop().packets() == ()


def test_I9_control_without_rules_it_arrives(pods: Pods) -> None:
    a, b = pods
    written, got = spill_to_client(a, b, APP_UID, ports=(15443, 15443))
    assert got == (written, "end")
    assert written > 10_000


@PRODUCERS
def test_who_knocks_while_nobody_is_there_is_told_at_once(pods: Pods, backend: Backend) -> None:
    """Envoy's and the peer port, before they are bound or after their owner died."""
    a, b = pods
    lockdown(a, backend)
    assert attempts(b, 15443, *a.addresses) == ["ConnectionRefusedError"] * 2
    assert attempts(b, 8080, *a.addresses) == ["ConnectionRefusedError"] * 2


@PRODUCERS
def test_I3_an_application_in_envoys_place_answers_nobody(node: Node, pods: Pods, backend: Backend) -> None:
    a, b = pods
    lockdown(a, backend)
    squatter = serve(a, 15006, APP_UID)
    with Wire(node, a) as wire:
        assert attempts(b, 8080, *a.addresses) == ["TimeoutError"] * 2
        assert wire.stop().beyond_resets() == ()
    assert ended(squatter) == ""


@PRODUCERS
def test_envoys_port_takes_intercepted_connections_only(pods: Pods, backend: Backend) -> None:
    """Whichever address of the pod is tried, one that REDIRECT changes included."""
    a, b = pods
    a.run(["ip", "address", "add", "10.77.0.77/24", "dev", "eth0"])
    lockdown(a, backend)
    envoy = serve(a, 15006, ENVOY_UID)
    assert attempts(b, 15006, *a.addresses, "10.77.0.77") == ["TimeoutError"] * 3
    assert read_line(drain(b, "10.77.0.77", 8080)) == "connected"
    assert read_line(envoy) == "accepted"


# The same source port, one user after the other.
REUSE = """
import socket, sys
kind, address, port, source, marker = sys.argv[1:6]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
sock = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sock.settimeout(10 if "patient" in sys.argv else 1)
if "bound" in sys.argv:
    sock.setsockopt(socket.SOL_SOCKET, 25, b"eth0")
sock.bind(("::" if ":" in address else "0.0.0.0", int(source)))
try:
    sock.connect((address, int(port)))
    sock.send(marker.encode())
    print(sock.recv(10).decode())
except OSError as error:
    print(type(error).__name__)
"""

ECHO_UDP = """
import socket, sys
sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
sock.bind(("::", int(sys.argv[1])))
print("ready", flush=True)
while True:
    data, client = sock.recvfrom(2048)
    sock.sendto(b"answer", client)
"""


ANSWER_TCP = """
import socket, sys
listener = socket.create_server(("", int(sys.argv[1])))
print("ready", flush=True)
while True:
    client, _ = listener.accept()
    client.recv(100); client.send(b"hello"); client.close()
"""


@PRODUCERS
def test_udp_is_the_daemons_for_dns_alone(node: Node, pods: Pods, backend: Backend) -> None:
    a, b = pods
    lockdown(a, backend)
    for port in ("53", "54"):
        spawn_python(b, ECHO_UDP, port, uid=None)
    marker = MARKER.decode()
    for address in b.addresses:
        said = run_python(a, REUSE, "udp", address, "53", "40000", "question", "patient", uid=DAEMON_UID)
        assert said == "answer\n"
        with Wire(node, a) as wire:
            # The flow of the daemon's question is established: nobody else gets into it.
            for bound in ("bound", "free"):
                said = run_python(a, REUSE, "udp", address, "53", "40000", marker, bound, uid=APP_UID)
                assert said in ("PermissionError\n", "TimeoutError\n")
            for uid, port in ((ENVOY_UID, "53"), (DAEMON_UID, "54"), (ENVOY_UID, "54")):
                said = run_python(a, REUSE, "udp", address, port, "40001", marker, uid=uid)
                assert said == "PermissionError\n"
            assert wire.stop().packets() == ()


@PRODUCERS
def test_an_application_cannot_ride_on_a_connection_of_envoys(
    node: Node, pods: Pods, backend: Backend
) -> None:
    """Same addresses, same ports, while the kernel still tracks the old connection."""
    a, b = pods
    lockdown(a, backend)
    spawn_python(b, ANSWER_TCP, "7000", uid=None)
    said = run_python(a, REUSE, "tcp", b.ipv4, "7000", "40002", "first", "patient", uid=ENVOY_UID)
    assert said == "hello\n"
    with Wire(node, a) as wire:
        for bound in ("free", "bound"):
            said = run_python(a, REUSE, "tcp", b.ipv4, "7000", "40002", MARKER.decode(), bound, uid=APP_UID)
            assert said != "hello\n"
        capture = wire.stop()
    assert capture.carrying(MARKER) == 0
    syns = [f for f in capture.packets() if f[23] == 6 and f[47] & 0x02]
    assert syns == []
