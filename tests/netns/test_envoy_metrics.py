"""The sidecar's figures: one request in clear reads them through Envoy, one its health, and no other leads
anywhere.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from support.datapath import Hand, application, talk
from support.envoy import Opened, leaf_secrets, mesh_member, pod_view, running_gate
from support.forge import TestMember
from support.inside import lockdown
from support.shop import role, topology

from toposeal.dataplane import envoy_metrics
from toposeal.dataplane.metrics import Figures, exposition
from toposeal.host import netlink
from toposeal.host.envoy_admin import EnvoyAdmin
from toposeal.host.metrics_server import MetricsServer
from toposeal.limits import ENVOY_UID
from toposeal.topology.model import Call
from toposeal_lab.pods import Node, Pod

PORT, METRICS = 8080, 9464
SHOP = topology(role("api", 1, serves=(PORT,), metrics=METRICS), role("web", 1, calls=(Call("api", PORT),)))
OWN, CALLER = TestMember("api"), TestMember("web")
GET = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"
LED_ON = r"^cluster\.metrics\.upstream_rq_total$"
LIMIT = 20  # more than the others below are, so that they need not wait
OK, NOT_FOUND, TOO_MANY = "200 OK", "404 Not Found", "429 Too Many Requests"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


class Scraper:
    """Whoever reaches the pod."""

    def __init__(self, node: Node, pod: Pod) -> None:
        self._place, self._pod = node.host(), pod

    async def ask(self, request: bytes) -> bytes:
        def work() -> bytes:
            with self._place.inside():
                return talk(self._pod.ipv4, METRICS, request)

        return await asyncio.to_thread(work)

    async def get(self, target: str = "/metrics", method: str = "GET") -> tuple[str, str]:
        """Status and body; both empty for a connection that is closed."""
        request = f"{method} {target} HTTP/1.1\r\nhost: CANARY\r\nx: CANARY\r\nconnection: close\r\n\r\n"
        head, _, body = (await self.ask(request.encode())).decode().partition("\r\n\r\n")
        return head.split("\r\n")[0].removeprefix("HTTP/1.1 "), body


def test_D5_F4_figures_are_read_by_one_request_and_admin_by_none(
    node: Node, state: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(envoy_metrics, "METRICS_PER_SECOND", LIMIT)
    pod = node.pod("a")
    lockdown(pod)
    scraper, mesh = Scraper(node, pod), Hand(node.host(), CALLER.chain_pem, CALLER.key_pem, CALLER.domain)
    stranger = Hand(node.host(), sni=CALLER.domain)

    async def serve(opened: Opened) -> MetricsServer:
        async def text() -> bytes:
            return exposition(Figures(opened.gate.state, 3, 2, 1000, await opened.gate.counted()))

        server = MetricsServer(text, lambda: opened.gate.state.serves)
        await server.start(opened.layout.metrics, ENVOY_UID)
        return server

    async def others() -> None:
        for target, method in (
            ("/", "GET"),
            ("/metrics?format=json", "GET"),
            ("/metrics/../stats", "GET"),
            ("/stats", "GET"),
            ("/config_dump", "GET"),
            ("/metrics", "HEAD"),
            ("/metrics", "POST"),
            ("/healthz?x", "GET"),
            ("/healthz", "HEAD"),
            ("/healthz", "POST"),
            ("/quitquitquit", "POST"),
        ):
            assert (await scraper.get(target, method))[0] == NOT_FOUND, (target, method)

    async def test(opened: Opened) -> None:
        server = await serve(opened)
        assert await scraper.get() == ("", "")  # nothing is open before the seal
        own = mesh_member(OWN, *pod.addresses)
        view = pod_view(SHOP, own, [own, mesh_member(CALLER, "10.77.0.99")])
        await opened.gate.open(lambda: (view, lambda: leaf_secrets(OWN)))
        status, before = await scraper.get()
        assert status == OK
        assert await asyncio.to_thread(mesh.call, pod.ipv4, PORT, b"x" * 1000) == b"served"
        assert await asyncio.to_thread(stranger.call, pod.ipv4, PORT) == b""
        async with asyncio.timeout(20):  # Envoy's log has a buffer
            while "no_certificate" not in (await opened.gate.counted()).refusals:
                await asyncio.sleep(0.05)
        status, after = await scraper.get()
        assert status == OK
        moved = set(after.splitlines()) - set(before.splitlines())
        assert {
            'toposeal_handshake_failures_total{way="in"} 1',
            'toposeal_refusals_total{kind="no_certificate"} 1',
            'toposeal_sent_bytes_total{to="application"} 1000',
            'toposeal_received_bytes_total{to="application"} 6',
            'toposeal_upstream_connections_total{to="application"} 1',
        } <= moved
        assert 'toposeal_gate_state{state="open"} 1' in after.splitlines()
        names = ("CANARY", '"api"', '"web"', "shop", "m-", "10.77", "0.0.0.0", str(PORT), "15006", "CERT")
        assert [name for name in names if name in before + after] == []
        admin = EnvoyAdmin(opened.layout.admin)
        await others()
        assert await admin.stats(LED_ON) == {"cluster.metrics.upstream_rq_total": 2}  # by Envoy itself
        many = await asyncio.gather(*(scraper.get() for _ in range(3 * LIMIT)))
        assert {status for status, _ in many} == {OK, TOO_MANY}
        for hand in (mesh, Hand(node.host())):
            assert await asyncio.to_thread(hand.call, pod.ipv4, METRICS, GET) == b""
        server.close()
        await opened.gate.fence()
        assert await scraper.get() == ("", "")

    async def run() -> None:
        await netlink.route_synthetic_addresses()
        async with running_gate(state) as opened:
            await test(opened)

    with application(pod, PORT, b"served"), pod.inside():
        asyncio.run(run())
    assert '"chain": "metrics' not in capfd.readouterr().out
