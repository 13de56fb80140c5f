"""host.metrics_server over its real Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from toposeal.errors import PodError, Reason
from toposeal.host import document_server
from toposeal.host.metrics_server import MetricsServer
from toposeal.limits import MAX_HTTP_HEADER, MAX_METRICS_REQUESTS

GOOD = b"GET /metrics HTTP/1.1\r\nHost: shop\r\n\r\n"
Ask = Callable[[bytes], Awaitable[bytes]]


async def figures() -> bytes:
    return b"toposeal_epoch 3\n"


def serving(
    tmp_path: Path,
    scenario: Callable[[Ask], Awaitable[None]],
    text: Callable[[], Awaitable[bytes]] = figures,
    healthy: Callable[[], bool] = lambda: True,
) -> None:
    path = tmp_path / "metrics.sock"

    async def ask(request: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(request)
        answer = b""
        with contextlib.suppress(ConnectionError):
            answer = await reader.read()
        writer.close()
        return answer

    async def main() -> None:
        server = MetricsServer(text, healthy)
        await server.start(str(path), os.getgid())
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        try:
            await asyncio.wait_for(scenario(ask), 20)
        finally:
            server.close()

    asyncio.run(main())


def test_the_one_request_is_answered(tmp_path: Path) -> None:
    async def scenario(ask: Ask) -> None:
        head, _, body = (await ask(GOOD)).partition(b"\r\n\r\n")
        assert body == b"toposeal_epoch 3\n"
        status, *fields = head.split(b"\r\n")
        assert status == b"HTTP/1.1 200 OK"
        assert b"Content-Type: text/plain; version=0.0.4; charset=utf-8" in fields
        assert b"Content-Length: 17" in fields and b"Connection: close" in fields

    serving(tmp_path, scenario)


@pytest.mark.parametrize(
    "line",
    [
        "GET / HTTP/1.1",
        "GET /metrics?x HTTP/1.1",
        "GET /metrics/ HTTP/1.1",
        "GET //metrics HTTP/1.1",
        "POST /metrics HTTP/1.1",
        "HEAD /metrics HTTP/1.1",
        "GET /metrics HTTP/2.0",
        "GET /metrics",
        "GET /stats HTTP/1.1",
        "GET /healthz?x HTTP/1.1",
        "HEAD /healthz HTTP/1.1",
        "GET /healthz HTTP/2.0",
        "get /metrics HTTP/1.1",
        "",
        " GET /metrics HTTP/1.1",
    ],
)
def test_every_other_is_not_and_nothing_of_it_comes_back(tmp_path: Path, line: str) -> None:
    async def scenario(ask: Ask) -> None:
        answer = await ask(f"{line}\r\nx: CANARY\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
        assert answer.endswith(b"\r\n\r\nNot Found\n")

    serving(tmp_path, scenario)


def test_without_figures_it_is_unavailable(tmp_path: Path) -> None:
    async def none() -> bytes:
        raise PodError.of(Reason.ENVOY_FAILED, "envoy.admin", "CANARY", "an answer")

    async def scenario(ask: Ask) -> None:
        answer = await ask(GOOD)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"CANARY" not in answer

    serving(tmp_path, scenario, none)


def test_health_is_a_status_and_nothing_more(tmp_path: Path) -> None:
    """Where there are no figures too: Envoy's statistics are not asked for."""

    async def none() -> bytes:
        raise PodError.of(Reason.ENVOY_FAILED, "envoy.admin", "CANARY", "an answer")

    async def well(ask: Ask) -> None:
        answer = await ask(b"GET /healthz HTTP/1.1\r\nx: CANARY\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"\r\n\r\nOK\n")

    async def ill(ask: Ask) -> None:
        answer = await ask(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 503 ") and answer.endswith(b"\r\n\r\nService Unavailable\n")

    serving(tmp_path, well, none)
    serving(tmp_path, ill, figures, lambda: False)


def test_a_request_is_bounded(tmp_path: Path) -> None:
    async def scenario(ask: Ask) -> None:
        assert (await ask(b"GET /metrics HTTP/1.1\r\nx: " + b"y" * MAX_HTTP_HEADER)).startswith(
            b"HTTP/1.1 431"
        )
        assert (await ask(GOOD)).startswith(b"HTTP/1.1 200")

    serving(tmp_path, scenario)


def test_many_at_once_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document_server, "_EXCHANGE_TIMEOUT_S", 1.0)
    gathered = asyncio.Event()

    async def slow() -> bytes:
        await gathered.wait()
        return b""

    async def scenario(ask: Ask) -> None:
        waiting = [asyncio.ensure_future(ask(GOOD)) for _ in range(MAX_METRICS_REQUESTS)]
        await asyncio.sleep(0.1)
        assert await ask(GOOD) == b""
        gathered.set()
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in await asyncio.gather(*waiting))
        assert (await ask(GOOD)).startswith(b"HTTP/1.1 200")

    serving(tmp_path, scenario, slow)
