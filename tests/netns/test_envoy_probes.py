"""Probes of the kubelet: Envoy answers one request from the application's state, and nothing else goes in."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from support.datapath import Hand, talk
from support.envoy import Opened, mesh_member, pod_view, running_gate
from support.forge import TestMember
from support.inside import lockdown
from support.shop import role, topology

from toposeal.host import netlink
from toposeal.topology.model import Call, Probe
from toposeal_lab.pods import Node, Pod

PORT, OTHER = 8080, 9090
PROBES = (Probe(PORT, "/healthz", PORT), Probe(OTHER, "/live", PORT), Probe(OTHER, "/ready", PORT))
ALONE = topology(role("api", 1, serves=(PORT,), probes=PROBES), role("web", 1, calls=(Call("api", PORT),)))
OWN, CALLER = TestMember("api"), TestMember("web")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


class Application:
    """Says `statuses` by path and remembers whole requests; 200 for what is no probe."""

    def __init__(self) -> None:
        self.statuses = {"/healthz": 200, "/live": 204, "/ready": 500}
        self.requests: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(request)
                status = self.statuses.get(request.split(b" ")[1].decode(), 200)
                body = b"" if status == 204 else b"SECRET"
                head = f"HTTP/1.1 {status} x\r\ncontent-length: {len(body)}\r\nx-secret: SECRET\r\n\r\n"
                writer.write((head.replace("content-length: 0\r\n", "")).encode() + body)
                await writer.drain()


def with_application(
    node: Node, state: Path, test: Callable[[Pod, Opened, Application], Awaitable[None]]
) -> None:
    pod, app = node.pod("a"), Application()
    lockdown(pod)

    async def run() -> None:
        await netlink.route_synthetic_addresses()
        server = await asyncio.start_server(app.serve, "0.0.0.0", PORT)
        async with running_gate(state) as opened:
            await test(pod, opened, app)
        server.close()

    with pod.inside():
        asyncio.run(run())


def test_D4_a_probe_is_answered_by_envoy_and_everything_else_stays_out(
    node: Node, state: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def test(pod: Pod, opened: Opened, app: Application) -> None:
        async def ask(port: int, request: bytes) -> bytes:
            def work() -> bytes:
                with node.host().inside():
                    return talk(pod.ipv4, port, request)

            return await asyncio.to_thread(work)

        async def get(port: int, target: str, method: str = "GET", more: str = "") -> str:
            request = f"{method} {target} HTTP/1.1\r\nhost: CANARY\r\nconnection: close\r\n{more}\r\n"
            answer = await ask(port, request.encode())
            assert b"SECRET" not in answer
            return answer.split(b"\r\n")[0].decode().removeprefix("HTTP/1.1 ")

        assert await get(PORT, "/healthz") == ""  # nothing is open before the seal
        own = mesh_member(OWN, *pod.addresses)
        view = pod_view(ALONE, own, [own, mesh_member(CALLER, "10.77.0.99")])
        await opened.open(view, OWN)
        assert await get(PORT, "/healthz") == "200 OK"
        assert await get(OTHER, "/live") == "200 OK"
        assert await get(OTHER, "/ready") == "503 Service Unavailable"
        for port, target, method, more in (
            (PORT, "/", "GET", ""),
            (PORT, "/secret", "GET", ""),
            (PORT, "/healthz?x=1", "GET", ""),
            (PORT, "/healthz/", "GET", ""),
            (PORT, "/HEALTHZ", "GET", ""),
            (PORT, "/x/../healthz", "GET", ""),
            (PORT, "/live", "GET", ""),
            (OTHER, "/healthz", "GET", ""),
            (PORT, "/healthz", "POST", "content-length: 0\r\n"),
            (PORT, "/healthz", "HEAD", ""),
            (PORT, "/healthz", "PUT", "transfer-encoding: chunked\r\n"),
        ):
            assert await get(port, target, method, more) == "404 Not Found", (port, target, method)
        assert (await get(PORT, "/healthz", "GET", f"x: {'y' * 20_000}\r\n")).startswith("431")
        assert await ask(PORT, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") != b"served"
        assert await ask(81, b"GET /healthz HTTP/1.1\r\n\r\n") == b""
        mesh = Hand(node.host(), CALLER.chain_pem, CALLER.key_pem, CALLER.domain)
        answer = await asyncio.to_thread(lambda: mesh.call(pod.ipv4, PORT, b"GET /healthz HTTP/1.1\r\n\r\n"))
        assert b"SECRET" in answer  # the same port serves its callers, over TLS
        asked = [request for request in app.requests if request != b"GET /healthz HTTP/1.1\r\n\r\n"]
        assert asked
        assert all(b"CANARY" not in request and b"Envoy/HC" in request for request in asked)
        app.statuses["/healthz"] = 500
        async with asyncio.timeout(20):
            while await get(PORT, "/healthz") != "503 Service Unavailable":
                await asyncio.sleep(0.1)
        await opened.gate.fence()
        assert await get(PORT, "/healthz") == ""

    with_application(node, state, test)
    assert '"chain": "probed' not in capfd.readouterr().out
