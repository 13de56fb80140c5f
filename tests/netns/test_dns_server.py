"""N1, N2, N3, N5: the pod's names come from the daemon, whatever the host says, within bounds."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from support.inside import APP_UID, BACKENDS, DAEMON_UID, lockdown, run_python, spawn_python
from support.shop import role, topology

from toposeal.dataplane.dns import Names, names
from toposeal.dataplane.firewall import Backend
from toposeal.dataplane.vips import Places
from toposeal.errors import PodError, Reason
from toposeal.host import dns_server
from toposeal.host.dns_server import DnsServer
from toposeal.limits import DNS_PORT, MAX_DNS_CONNECTIONS, MAX_DNS_QUERIES_PER_SECOND
from toposeal_lab.capture import Wire
from toposeal_lab.pods import Node, Pod

SHOP = topology(role("web", 1), role("db", 1), role("api", 2))
TABLE = names(SHOP, SHOP.roles, Places.of(SHOP))
QUESTION = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x02db\0\0\x01\0\x01"
KUBERNETES = (
    "nameserver 10.77.0.1\nsearch ns1.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
)


class Service:
    """A DnsServer in a pod, on a thread of its own."""

    def __init__(self, pod: Pod, table: Names | None) -> None:
        self.server = DnsServer()
        self.server.names = table
        self.cpu = 0.0  # seconds that the service has used
        self._pod = pod
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._ready.wait()

    def _run(self) -> None:
        with self._pod.inside():
            asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        await self.server.start()
        self._ready.set()
        await self._stop.wait()
        self.server.close()
        self.cpu = time.thread_time()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


@contextmanager
def serving(pod: Pod, table: Names | None = TABLE) -> Iterator[Service]:
    service = Service(pod, table)
    try:
        yield service
    finally:
        service.stop()


RESOLVE = """
import socket, sys
for name in sys.argv[1:]:
    try:
        found = {a[4][0] for a in socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)}
        print(",".join(sorted(found)))
    except socket.gaierror as error:
        print({socket.EAI_NONAME: "NONAME", socket.EAI_AGAIN: "AGAIN"}[error.errno])
"""


def resolve(pod: Pod, *hosts: str) -> list[str]:
    """What the distribution's resolver makes of the names, as the application."""
    return run_python(pod, RESOLVE, *hosts, uid=APP_UID, timeout=60).split()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "resolv_conf", ["nameserver 10.77.0.1\n", KUBERNETES, "nameserver fd70:7365:616c::1\n"]
)
def test_N1_every_form_of_a_name_resolves_and_nothing_leaves(
    node: Node, backend: Backend, resolv_conf: str
) -> None:
    a = node.pod("a", resolv_conf=resolv_conf)
    lockdown(a, backend)
    with serving(a), Wire(node, a) as wire:
        assert resolve(a, "api", "db", "web") == ["240.10.0.1", "240.10.0.2", "240.10.0.3"]
        assert resolve(a, "db.", "DB", "db.shop", "db.shop.") == ["240.10.0.2"] * 4
        assert resolve(a, "example.com", "dbx", "db.ns1.svc.cluster.local.") == ["NONAME"] * 3
        assert wire.stop().packets() == ()


def test_before_the_topology_is_known_a_name_fails_for_now(node: Node) -> None:
    """Temporary, so that programs try again; "no such name" would be remembered."""
    a = node.pod("a", resolv_conf="nameserver 10.77.0.1\noptions attempts:1\n")
    lockdown(a)
    with serving(a, None) as service:
        assert resolve(a, "db") == ["AGAIN"]
        service.server.names = TABLE
        assert resolve(a, "db") == ["240.10.0.2"]


LIAR = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("0.0.0.0", 53))
print("ready", flush=True)
while True:
    query, client = sock.recvfrom(512)
    end = query.index(0, 12) + 5
    a = query[end - 4 : end - 2] == bytes([0, 1])
    record = bytes.fromhex("c00c000100010000003c0004") + socket.inet_aton(sys.argv[1]) if a else b""
    head = query[:2] + bytes.fromhex("8180000100") + bytes([a]) + bytes(4)
    sock.sendto(head + query[12:end] + record, client)
"""


def test_N1_N5_a_lying_resolver_changes_nothing(node: Node) -> None:
    """It maps every name to the address of its choice; without the lockdown it is believed."""
    a = node.pod("a")
    spawn_python(node.host(), LIAR, "10.77.0.66", uid=None)
    assert resolve(a, "db", "web") == ["10.77.0.66"] * 2
    lockdown(a)
    with serving(a):
        assert resolve(a, "db", "web", "example.com") == ["240.10.0.2", "240.10.0.3", "NONAME"]


@pytest.mark.parametrize("how", ["+notcp", "+tcp", "+notcp +noedns", "+tcp +bufsize=4096 +cookie +dnssec"])
def test_another_resolver_understands_every_answer(node: Node, how: str) -> None:
    """BIND's dig, which complains about what it does not like."""
    a = node.pod("a")
    lockdown(a)
    with serving(a):
        dig = ["dig", "+tries=1", "+time=2", *how.split(), "@10.77.0.1"]
        outputs = [
            a.run([*dig, *question], uid=APP_UID).stdout.decode()
            for question in (["db"], ["db", "AAAA"], ["nowhere", "MX"], ["db", "ANY"])
        ]
    statuses = [out.split("status: ")[1].split(",")[0] for out in outputs]
    assert statuses == ["NOERROR", "NOERROR", "NXDOMAIN", "REFUSED"]
    assert "240.10.0.2" in outputs[0]
    assert not any("WARN" in out or "malformed" in out for out in outputs)


def test_who_has_the_port_already_is_noticed(node: Node) -> None:
    a = node.pod("a")
    for kind, address in ((socket.SOCK_DGRAM, "127.0.0.1"), (socket.SOCK_STREAM, "::1")):
        with ExitStack() as stack, a.inside():
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            squatter = stack.enter_context(socket.socket(family, kind))
            squatter.bind((address, DNS_PORT))
            if kind == socket.SOCK_STREAM:
                squatter.listen()
            with pytest.raises(PodError) as caught:
                asyncio.run(DnsServer().start())
        assert caught.value.reason is Reason.FIREWALL


def test_a_pod_without_ipv6_is_served(node: Node) -> None:
    """As a container engine makes them by default."""
    a = node.pod("a")
    for name in ("all", "default", "lo", "eth0"):
        a.run(["sh", "-c", f"echo 1 > /proc/sys/net/ipv6/conf/{name}/disable_ipv6"])
    lockdown(a)
    with serving(a):
        assert resolve(a, "db") == ["240.10.0.2"]


FLOOD = """
import socket, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect(("127.0.0.1", 15053))
sock.setblocking(False)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
began = time.monotonic()
sent = answered = 0
while time.monotonic() < began + float(sys.argv[1]):
    for _ in range(50):
        try:
            sock.send(bytes.fromhex(sys.argv[2])); sent += 1
        except OSError:
            pass
    try:
        while sock.recv(512):
            answered += 1
    except OSError:
        pass
print(sent, answered, time.monotonic() - began)
"""


def test_N3_a_flood_is_bounded(node: Node) -> None:
    a = node.pod("a")
    with serving(a) as service:
        said = run_python(a, FLOOD, "2", QUESTION.hex(), uid=APP_UID)
        sent, answered, seconds = map(float, said.split())
        assert sent > 2 * seconds * MAX_DNS_QUERIES_PER_SECOND
        assert 0 < answered <= (seconds + 0.2) * MAX_DNS_QUERIES_PER_SECOND
        with a.inside():
            assert QUESTION[:2] in (ask_udp(), ask_udp(), ask_udp())  # as resolvers do
    print(f"{answered:.0f} answers in {seconds:.1f} s, {service.cpu / seconds * 100:.0f} % of a core")
    assert service.cpu < seconds / 2


def ask_udp() -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2)
        sock.sendto(QUESTION, ("127.0.0.1", DNS_PORT))
        with suppress(TimeoutError):
            return sock.recv(512)[:2]
    return b""


def open_tcp(address: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection((address, DNS_PORT), timeout=2)


def ended(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def test_N3_tcp_is_bounded(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_server, "DNS_IDLE_TIMEOUT", 400)
    a = node.pod("a")
    with serving(a), a.inside():
        with ExitStack() as stack:
            idle = [stack.enter_context(open_tcp()) for _ in range(MAX_DNS_CONNECTIONS)]
            with open_tcp("::1") as refused:
                assert ended(refused)
            assert all(ended(sock) for sock in idle)  # after the idle timeout
        with open_tcp() as sock:
            framed = struct.pack("!H", len(QUESTION)) + QUESTION
            sock.sendall(framed * 3)  # pipelined
            replies = [sock.recv(int.from_bytes(sock.recv(2), "big")) for _ in range(3)]
            assert [reply[:2] for reply in replies] == [QUESTION[:2]] * 3
        with open_tcp() as sock:
            sock.sendall(struct.pack("!H", 65535) + bytes(100))
            assert ended(sock)
        with open_tcp() as sock:
            sock.sendall(struct.pack("!H", 3) + b"abc")
            assert ended(sock)


def test_N3_a_client_that_does_not_read_is_dropped(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_server, "DNS_IDLE_TIMEOUT", 400)
    monkeypatch.setattr(dns_server, "_ALLOWANCE", 1 << 30)  # else it takes a minute to fill the buffers
    a = node.pod("a")
    with serving(a) as service, a.inside(), open_tcp() as sock:
        sock.setblocking(False)
        framed = (struct.pack("!H", len(QUESTION)) + QUESTION) * 1000
        end = time.monotonic() + 20
        while service.server._clients and time.monotonic() < end:
            try:
                sock.send(framed)
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:
                break
        assert not service.server._clients


def test_the_daemons_own_questions_are_not_redirected(node: Node) -> None:
    """The names of peers are the daemon's to ask, of the pod's resolver, and nobody believes the answer."""
    a = node.pod("a")
    lockdown(a)
    spawn_python(node.host(), LIAR, "10.77.0.66", uid=None)
    assert run_python(a, RESOLVE, "peer.example", uid=DAEMON_UID).split() == ["10.77.0.66"]
