"""The socket that Envoy's configuration comes from: whose it is, one stream at a time, verdicts."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from toposeal._wire import xds_pb2 as wire
from toposeal.dataplane.discovery import Kind, Offer, Update
from toposeal.errors import PodError, Reason
from toposeal.host import discovery_server
from toposeal.host.discovery_server import METHOD, SERVICE, DiscoveryServer
from toposeal.limits import MAX_DISCOVERY_REQUEST


@pytest.fixture
def path() -> Iterator[str]:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        yield str(Path(directory, "xds.sock"))


def clusters(version: str) -> Update:
    return {Kind.CLUSTER: Offer(version, {"blackhole": version.encode()})}


Test = Callable[[DiscoveryServer, "Client"], Awaitable[None]]


def run(path: str, test: Test) -> None:
    async def go() -> None:
        before = os.umask(0o077)
        server = DiscoveryServer()
        try:
            await server.start(path, os.getegid())
        finally:
            os.umask(before)
        try:
            async with asyncio.timeout(10), grpc.aio.insecure_channel(f"unix:{path}") as channel:
                await test(server, Client(channel))
        finally:
            await server.stop()

    asyncio.run(go())


class Client:
    """What an Envoy does, by hand."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._method: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
            f"/{SERVICE}/{METHOD}"
        )

    def stream(self) -> Stream:
        return Stream(self._method())


class Stream:
    def __init__(self, call: grpc.aio.StreamStreamCall[bytes, bytes]) -> None:
        self.call = call

    async def ask(self, nonce: str = "", version: str = "", words: str = "") -> None:
        request = wire.DiscoveryRequest(
            type_url=Kind.CLUSTER.value, response_nonce=nonce, version_info=version
        )
        if words:
            request.error_detail.message = words
        await self.call.write(request.SerializeToString())

    async def answer(self) -> wire.DiscoveryResponse:
        data = await self.call.read()
        assert isinstance(data, bytes), "the stream has ended"
        return wire.DiscoveryResponse.FromString(data)

    async def ended(self) -> bool:
        try:
            return await self.call.read() is grpc.aio.EOF
        except grpc.aio.AioRpcError:
            return True


def test_F2_D5_the_socket_is_for_the_daemon_and_envoys_group(path: str) -> None:
    async def test(server: DiscoveryServer, client: Client) -> None:
        found = os.stat(path)
        assert stat.S_ISSOCK(found.st_mode)
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, os.getegid())

    run(path, test)


def test_the_socket_of_a_predecessor_is_replaced_and_a_place_that_cannot_be_had_is_a_fault(path: str) -> None:
    async def nothing(server: DiscoveryServer, client: Client) -> None:
        pass

    async def start() -> None:
        await DiscoveryServer().start("/nowhere/xds.sock", os.getegid())

    with socket.socket(socket.AF_UNIX) as predecessor:
        predecessor.bind(path)
    run(path, nothing)
    run(path, nothing)
    with pytest.raises(PodError) as caught:
        asyncio.run(start())
    assert caught.value.reason is Reason.STATE_DIR


def test_an_offer_is_sent_and_its_acknowledgement_awaited(path: str) -> None:
    async def test(server: DiscoveryServer, client: Client) -> None:
        server.reset(clusters("1"))
        stream = client.stream()
        await stream.ask()
        first = await stream.answer()
        assert first.version_info == "1"
        waiting = asyncio.create_task(server.acknowledged())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await stream.ask(first.nonce, "1")
        await waiting
        server.offer(clusters("2"))
        second = await stream.answer()
        await stream.ask(second.nonce, "1", "no such field")
        with pytest.raises(PodError, match="no such field") as caught:
            await server.acknowledged()
        assert caught.value.reason is Reason.ENVOY_REJECTED

    run(path, test)


@pytest.mark.parametrize("connected", [False, True])
def test_D7_silence_is_a_fault(path: str, connected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery_server, "ENVOY_ACK_TIMEOUT", 200)

    async def test(server: DiscoveryServer, client: Client) -> None:
        server.reset(clusters("1"))
        if connected:
            stream = client.stream()
            await stream.ask()
            await stream.answer()
        with pytest.raises(PodError, match="silence" if connected else "no stream") as caught:
            await server.acknowledged()
        assert caught.value.reason is Reason.ENVOY_FAILED

    run(path, test)


def test_a_second_stream_ends_the_first(path: str) -> None:
    async def test(server: DiscoveryServer, client: Client) -> None:
        server.reset(clusters("1"))
        first = client.stream()
        await first.ask()
        await first.answer()
        async with grpc.aio.insecure_channel(
            f"unix:{path}", [("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            second = Client(channel).stream()
            await second.ask()
            found = await second.answer()
            assert await first.ended()
            await second.ask(found.nonce, "1")
            await server.acknowledged()

    run(path, test)


def test_F4_what_is_forgotten_is_not_served(path: str) -> None:
    async def test(server: DiscoveryServer, client: Client) -> None:
        server.reset(clusters("1"))
        stream = client.stream()
        await stream.ask()
        await stream.answer()
        server.reset({})
        assert await stream.ended()
        again = client.stream()
        await again.ask()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await again.answer()

    run(path, test)


@pytest.mark.parametrize("request_", [b"\xff", b"", bytes(MAX_DISCOVERY_REQUEST + 1)])
def test_a_request_that_is_none_ends_the_stream_and_is_told(
    path: str, request_: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    async def test(server: DiscoveryServer, client: Client) -> None:
        server.reset(clusters("1"))
        stream = client.stream()
        await stream.call.write(request_)
        assert await stream.ended()
        again = client.stream()
        await again.ask()
        assert (await again.answer()).version_info == "1"

    run(path, test)
    assert capfd.readouterr().out.count('"event": "alarm"') == (len(request_) <= MAX_DISCOVERY_REQUEST)


def test_other_methods_are_not_served(path: str) -> None:
    async def test(server: DiscoveryServer, client: Client) -> None:
        async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
            method: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
                f"/{SERVICE}/DeltaAggregatedResources"
            )
            call = method()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

    run(path, test)
