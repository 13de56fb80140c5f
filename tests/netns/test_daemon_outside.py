"""What is outside, from topology to application: a host that the daemon asks for, a kubelet that asks."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from support.daemons import FETCH, SEAL_S, SERVE, START_S, Daemon, World, eventually, ready, world
from support.inside import APP_UID, run_python, spawn_python

from toposeal_lab.pods import NODE_IPV4, Pod

API, PORT = "api.example.com", 7001
PROBED = 8080
PROBES = [{"port": PROBED, "path": "/healthz", "target": PROBED}]
EGRESS = [{"host": API, "port": PORT, "within": ["10.77.0.0/24"]}]

METRICS = 9464
OUTSIDE = {"egress": EGRESS, "probes": PROBES, "metrics": METRICS}
WELL = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()
    def log_message(self, *_):
        pass
server = http.server.HTTPServer(("0.0.0.0", int(sys.argv[1])), Handler)
print("ready", flush=True)
server.serve_forever()
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@contextlib.contextmanager
def name_server(made: World, *addresses: str) -> Iterator[list[bytes]]:
    """Where every pod's resolv.conf points: `addresses` for whatever is asked; what was."""
    with made.node.host().inside():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((NODE_IPV4, 53))
    asked: list[bytes] = []

    def serve() -> None:
        with contextlib.suppress(OSError, ValueError):
            while True:
                query, client = server.recvfrom(512)
                end = query.index(b"\0", 12) + 5
                asked.append(query[12 : end - 4])
                fits = addresses if query[end - 4 : end - 2] == b"\0\1" else ()
                fixed = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 5, 4)
                records = b"".join(fixed + socket.inet_aton(address) for address in fits)
                header = query[:2] + struct.pack("!5H", 0x8180, 1, len(fits), 0, 0)
                server.sendto(header + query[12:end] + records, client)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield asked
    finally:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()


def test_N1_a_host_outside_is_asked_for_by_the_daemon_and_reached_by_name() -> None:
    """DNS names two addresses that are none besides; the application's own questions never leave."""
    ready()
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(world({"web": "web", "db": "db"}, web=OUTSIDE))
        asked = stack.enter_context(name_server(made, "127.0.0.1", "169.254.169.254", NODE_IPV4))
        stack.callback(spawn_python(made.node.host(), SERVE, str(PORT), uid=None).kill)
        web = made.start("web")
        web.wait("egress", START_S, host=API, addresses=NODE_IPV4, refused=2)
        assert fetch(web.pod, API, PORT) != "PLAIN"  # before the seal nobody leaves
        assert probe(made, web) is None
        assert asked_for(made, web, METRICS, "/metrics") is None
        made.start("db")
        web.wait("gate", SEAL_S, state="open")
        tried = 1
        while fetch(web.pod, API, PORT) != "PLAIN":
            tried += 1
            assert tried < 20
        assert "Name or service not known" in fetch(web.pod, "other.example.com", PORT)
        assert fetch(web.pod, NODE_IPV4, PORT) != "PLAIN"
        web.wait("refused", START_S, kind="no_route", destination=f"{NODE_IPV4}:{PORT}")
        assert probe(made, web) == 503  # nothing listens
        stack.callback(spawn_python(web.pod, WELL, str(PROBED), uid=APP_UID).kill)
        eventually(lambda: probe(made, web) == 200 or None)
        assert asked_for(made, web, METRICS, "/healthz") == (200, "OK\n")
        figures = asked_for(made, web, METRICS, "/metrics")
        assert figures is not None and figures[0] == 200
        assert {"toposeal_epoch 1", "toposeal_members 2"} <= set(figures[1].splitlines())
        (carried,) = re.findall(
            r'^toposeal_upstream_connections_total{to="outside"} (\d+)$', figures[1], re.M
        )
        assert 1 <= int(carried) <= tried
        assert set(asked) <= {wire(API), wire("db"), wire("web")}
        web.pod.run(
            ["ip", "address", "add", "240.10.128.1/32", "dev", "lo"]
        )  # where the host outside is dialled
        assert (web.ended(), web.reason()) == (5, ("address_refused", "pod.addresses"))


def probe(made: World, member: Daemon) -> int | None:
    """The status that a kubelet gets, on the node."""
    answer = asked_for(made, member, PROBED, "/healthz")
    return None if answer is None else answer[0]


def asked_for(made: World, member: Daemon, port: int, path: str) -> tuple[int, str] | None:
    """Status and body of what is asked in clear, on the node; None for a connection that is closed."""
    connection = http.client.HTTPConnection(member.pod.ipv4, port, timeout=5)
    try:
        with made.node.host().inside():
            connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def fetch(pod: Pod, host: str, port: int) -> str:
    return run_python(pod, FETCH, host, str(port), uid=APP_UID).strip()


def wire(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
