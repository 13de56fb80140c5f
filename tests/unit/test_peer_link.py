"""The peer link over real sockets on loopback: exact bytes, limits, coarse refusals (P9, R1 in part)."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
import pytest

from toposeal.errors import NetworkError, PodError, Reason, RemoteProtocolError
from toposeal.host import peer_client, peer_server
from toposeal.host.pace import Pace
from toposeal.host.peer_client import PeerClient
from toposeal.host.peer_server import METHOD, SERVICE, PeerServer, RateLimit, coarse_status
from toposeal.host.throwaway import SERVER_NAME, make_throwaway, shown_certificate
from toposeal.limits import MAX_ENVELOPE_SIZE

HURRIED = Pace(lambda: False, time.monotonic)


async def serve(deliver: Callable[[bytes], None]) -> tuple[PeerServer, int]:
    server = PeerServer(deliver, make_throwaway())
    return server, await server.start("127.0.0.1:0")


async def call(port: int, data: bytes, timeout: float = 3) -> bytes:
    root = await shown_certificate("127.0.0.1", port, timeout)
    options = [("grpc.ssl_target_name_override", SERVER_NAME)]
    credentials = grpc.ssl_channel_credentials(root)
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        deliver: Any = channel.unary_unary(f"/{SERVICE}/{METHOD}")
        return bytes(await deliver(data, timeout=timeout))


async def eventually(condition: Callable[[], bool], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


def test_messages_arrive_as_exact_bytes_and_in_order() -> None:
    async def go() -> None:
        taken: list[bytes] = []
        server, port = await serve(taken.append)
        client = PeerClient((), port, HURRIED)
        sent = [bytes([n]) * (n + 1) for n in range(20)]
        for data in sent:
            client.send(("127.0.0.1",), data)
        await eventually(lambda: len(taken) == len(sent))
        assert taken == sent
        await client.close()
        await server.stop()

    run(go)


def test_a_client_with_a_pace_keeps_it_over_all_its_peers() -> None:
    async def go() -> None:
        taken: list[float] = []
        server = PeerServer(lambda data: taken.append(time.monotonic()), make_throwaway())
        port = await server.start("0.0.0.0:0")  # two peers, as it seems to the client
        client = PeerClient((), port, Pace(lambda: True, time.monotonic))
        for number in range(6):
            client.send((f"127.0.0.{1 + number % 2}",), b"message")
        await eventually(lambda: len(taken) == 6)
        assert taken[-1] - taken[0] > 4 * 0.03  # the first may have waited for its dial
        await client.close()
        await server.stop()

    run(go)


def test_a_restarted_peer_shows_another_certificate_and_is_reached_again() -> None:
    async def go() -> None:
        taken: list[bytes] = []
        first, port = await serve(taken.append)
        client = PeerClient((), port, HURRIED)
        client.send(("127.0.0.1",), b"one")
        await eventually(lambda: taken == [b"one"])
        await first.stop()
        second = PeerServer(taken.append, make_throwaway())
        await second.start(f"127.0.0.1:{port}")
        client.send(("127.0.0.1",), b"two")
        await eventually(lambda: taken == [b"one", b"two"])
        await client.close()
        await second.stop()

    run(go)


def test_a_peer_that_is_not_there_yet_gets_the_message_when_it_comes() -> None:
    async def go() -> None:
        taken: list[bytes] = []
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            port = held.getsockname()[1]
        client = PeerClient((), port, HURRIED)
        client.send(("127.0.0.1",), b"early")
        await asyncio.sleep(0.2)
        server = PeerServer(taken.append, make_throwaway())
        await server.start(f"127.0.0.1:{port}")
        await eventually(lambda: taken == [b"early"])
        await client.close()
        await server.stop()

    run(go)


def test_a_peer_that_speaks_ends_a_dial_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed pod answers no SYN before its daemon listens; the kernel's next one is a second away."""

    async def go() -> None:
        taken: list[bytes] = []
        dials = 0

        async def hang_once(host: str, port: int, timeout_s: float) -> bytes:
            nonlocal dials
            dials += 1
            return await (shown_certificate(host, port, timeout_s) if dials > 1 else asyncio.Future())

        monkeypatch.setattr(peer_client, "shown_certificate", hang_once)
        server, port = await serve(taken.append)
        client = PeerClient((), port, HURRIED)
        client.send(("127.0.0.1",), b"early")
        await eventually(lambda: dials == 1)
        client.heard("192.0.2.1")
        await asyncio.sleep(0.1)
        assert (dials, taken) == (1, [])
        client.heard("127.0.0.1")
        await eventually(lambda: taken == [b"early"])
        await client.close()
        await server.stop()

    run(go)


def test_whoever_keeps_talking_does_not_keep_a_slow_dial_from_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def go() -> None:
        taken: list[bytes] = []

        async def slow(host: str, port: int, timeout_s: float) -> bytes:
            await asyncio.sleep(0.3)
            return await shown_certificate(host, port, timeout_s)

        monkeypatch.setattr(peer_client, "shown_certificate", slow)
        server, port = await serve(taken.append)
        client = PeerClient((), port, HURRIED)
        client.send(("127.0.0.1",), b"one")
        while not taken:
            client.heard("127.0.0.1")
            await asyncio.sleep(0.01)
        await client.close()
        await server.stop()

    asyncio.run(asyncio.wait_for(go(), 5))


def test_the_server_says_where_messages_come_from() -> None:
    async def go() -> None:
        heard: list[str] = []
        server = PeerServer(lambda data: None, make_throwaway(), heard.append)
        port = await server.start("[::]:0")
        await call(port, b"x")
        assert heard == ["127.0.0.1"]
        await server.stop()

    run(go)


def test_R1_an_oversized_message_never_reaches_the_machine() -> None:
    async def go() -> None:
        taken: list[bytes] = []
        server, port = await serve(taken.append)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(port, bytes(MAX_ENVELOPE_SIZE + 1))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await call(port, b"fits") == b""
        assert taken == [b"fits"]
        await server.stop()

    run(go)


def test_a_refusal_shows_a_coarse_status_and_no_text() -> None:
    async def go() -> None:
        def refuse(data: bytes) -> None:
            raise RemoteProtocolError.of(Reason.SIGNATURE_INVALID, "hello", "canary-4711", "nothing")

        server, port = await serve(refuse)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(port, b"x")
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "canary" not in (refused.value.details() or "")
        await server.stop()

    run(go)


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (socket.AF_INET, "127.0.0.1"),
        (socket.AF_INET, "0.0.0.0"),
        (socket.AF_INET6, "::"),
        (socket.AF_INET6, "::1"),
    ],
)
def test_I3_a_port_that_somebody_has_in_either_family_is_refused(family: int, address: str) -> None:
    """gRPC alone would be content with the other family."""

    async def go() -> None:
        with socket.socket(family) as held:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            held.bind((address, 0))
            held.listen()
            server = PeerServer(lambda data: None, make_throwaway())
            with pytest.raises(PodError) as refused:
                await server.start(f"[::]:{held.getsockname()[1]}")
            assert refused.value.reason is Reason.FIREWALL

    run(go)


def test_the_port_is_free_again_for_a_successor() -> None:
    """Connections of the first in TIME_WAIT do not keep the port."""

    async def go() -> None:
        first = PeerServer(lambda data: None, make_throwaway())
        port = await first.start("[::]:0")
        assert await call(port, b"x") == b""
        await first.stop()
        second = PeerServer(lambda data: None, make_throwaway())
        assert await second.start(f"[::]:{port}") == port
        assert await call(port, b"x") == b""
        await second.stop()

    run(go)


def test_S9_F4_a_defect_of_ours_shows_a_stranger_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    async def go() -> None:
        def explode(data: bytes) -> None:
            raise ZeroDivisionError("canary-4711")

        server, port = await serve(explode)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(port, b"x")
        assert refused.value.code() is grpc.StatusCode.INTERNAL
        assert refused.value.details() == ""
        await server.stop()

    run(go)
    said = capfd.readouterr()
    assert "canary" not in said.out + said.err


def test_P9_silent_and_half_open_clients_do_not_stop_others() -> None:
    async def go() -> None:
        taken: list[bytes] = []
        server, port = await serve(taken.append)
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(50)]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        mute = [await asyncio.open_connection("127.0.0.1", port, ssl=context) for _ in range(10)]
        assert await call(port, b"alive") == b""
        assert taken == [b"alive"]
        for _, writer in silent + mute:
            writer.transport.abort()
        await server.stop()

    run(go)


def with_options(monkeypatch: pytest.MonkeyPatch, **changed: int) -> None:
    """The server's own options with smaller numbers: gRPC ignores a name that it does not know."""
    names = {f"grpc.{name}": value for name, value in changed.items()}
    assert names.keys() <= dict(peer_server._OPTIONS).keys()
    options = [(name, names.get(name, value)) for name, value in peer_server._OPTIONS]
    monkeypatch.setattr(peer_server, "_OPTIONS", options)


async def ends(port: int, seconds: float, *, tls: bool) -> bool:
    """Whether a connection that says nothing is ended by the server in time."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context if tls else None)
    if tls:
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
    try:
        async with asyncio.timeout(seconds):
            while await reader.read(1000):
                pass
        return True
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(
    ("option", "tls"),
    [
        ("server_handshake_timeout_ms", False),
        ("max_connection_idle_ms", True),
        ("max_connection_age_ms", True),
    ],
)
def test_P9_a_silent_connection_is_ended(monkeypatch: pytest.MonkeyPatch, option: str, tls: bool) -> None:
    async def go() -> None:
        unlimited, port = await serve(lambda data: None)
        assert not await ends(port, 1.5, tls=tls)  # positive control: the real numbers are larger
        await unlimited.stop()
        with_options(monkeypatch, **{option: 300, "max_connection_age_grace_ms": 300})
        server, port = await serve(lambda data: None)
        assert await ends(port, 3, tls=tls)
        await server.stop()

    run(go)


def test_R1_more_connections_than_admitted_are_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with_options(monkeypatch, max_allowed_incoming_connections=3)

    async def go() -> None:
        server, port = await serve(lambda data: None)
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        assert await ends(port, 1, tls=False)
        held.pop()[1].transport.abort()
        try:
            assert await when_free(port) == b""
        finally:
            for _, writer in held:
                writer.transport.abort()
            await server.stop()

    run(go)


async def when_free(port: int, seconds: float = 5) -> bytes:
    """The answer, once the server has noticed that a connection has ended: one of ours takes a place too."""
    async with asyncio.timeout(seconds):
        while True:
            with suppress(NetworkError, grpc.aio.AioRpcError):
                return await call(port, b"a free place")
            await asyncio.sleep(0.05)


def test_S9_a_link_that_fails_unexpectedly_tells_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that nobody awaits must not die unseen: the loop's handler ends the pod."""

    async def explode(*_: object) -> bytes:
        raise ZeroDivisionError

    async def go() -> None:
        told: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(type(context.get("exception"))))
        monkeypatch.setattr(peer_client, "shown_certificate", explode)
        client = PeerClient((), 1, HURRIED)
        client.send(("127.0.0.1",), b"x")
        await eventually(lambda: told == [ZeroDivisionError])
        await client.close()

    run(go)


def test_an_announcement_spares_our_own_addresses_and_those_that_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queued: list[tuple[str, int]] = []

    class Names:
        async def resolve(self, host: str, port: int) -> tuple[str, ...]:
            return {"db": ("10.0.0.1", "10.0.0.2", "fd00::2"), "api": ("10.0.0.3", "10.0.0.2")}[host]

        def close(self) -> None:
            pass

    async def go() -> None:
        client = PeerClient(("10.0.0.1",), 1, HURRIED)
        monkeypatch.setattr(client, "_resolver", Names())
        monkeypatch.setattr(client, "_queue", lambda endpoint, data: queued.append(endpoint))
        await client.announce((("db", 7), ("api", 8)), (b"x",), {"10.0.0.2"})
        await client.close()

    run(go)
    assert queued == [("fd00::2", 7), ("10.0.0.3", 8)]


def test_the_rate_limit_refuses_a_source_and_spares_others() -> None:
    now = 0.0
    limit = RateLimit(5, lambda: now)
    assert [limit.allow("a") for _ in range(6)] == [True] * 5 + [False]
    assert limit.allow("b")
    now = 1.0
    assert limit.allow("a")


def test_the_rate_limit_forgets_old_sources() -> None:
    limit = RateLimit(1, lambda: 0.0)
    for n in range(10_000):
        limit.allow(str(n))
    assert len(limit._buckets) <= 4096


def test_unknown_reasons_map_to_one_status() -> None:
    error = RemoteProtocolError.of(Reason.CA_PROFILE, "a", "b", "c")
    assert coarse_status(error) is grpc.StatusCode.INVALID_ARGUMENT
