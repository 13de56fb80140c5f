"""The socket of the application's identity: what anybody who can see it is told, when, and in what form.

Bytes by hand here; a real client of SPIFFE's asks in test_app_identity.py.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from toposeal.dataplane.workload import Told
from toposeal.errors import PodError, Reason
from toposeal.host import workload_server
from toposeal.host.workload_server import HEADER, SERVICE, WorkloadServer
from toposeal.limits import MAX_WORKLOAD_CONNECTIONS, MAX_WORKLOAD_REQUEST, WORKLOAD_TIMEOUT

ONE, TWO = Told(b"svid 1", b"bundles 1"), Told(b"svid 2", b"bundles 2")
Stream = grpc.aio.UnaryStreamCall[bytes, bytes]
Ask = Callable[..., Stream]
Test = Callable[[WorkloadServer, Ask], Awaitable[None]]


@pytest.fixture
def path() -> Iterator[str]:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        yield str(Path(directory, "api.sock"))


def run(path: str, test: Test) -> None:
    async def go() -> None:
        before = os.umask(0o077)
        server = WorkloadServer()
        try:
            await server.start(path)
        finally:
            os.umask(before)
        try:
            async with asyncio.timeout(20), grpc.aio.insecure_channel(f"unix:{path}") as channel:

                def ask(
                    method: str = "FetchX509SVID",
                    metadata: tuple[tuple[str, str], ...] = (HEADER,),
                    request: bytes = b"",
                ) -> Stream:
                    call: grpc.aio.UnaryStreamMultiCallable[bytes, bytes]
                    call = channel.unary_stream(f"/{SERVICE}/{method}")
                    return call(request, metadata=grpc.aio.Metadata(*metadata))

                await test(server, ask)
        finally:
            await server.stop()

    asyncio.run(go())


async def refusal(stream: Stream) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        assert await stream.read() is None
    return caught.value.code()


def test_F2_the_socket_is_for_whoever_can_see_it_and_replaces_a_predecessors(path: str) -> None:
    async def test(server: WorkloadServer, ask: Ask) -> None:
        found = os.stat(path).st_mode
        assert (stat.S_ISSOCK(found), stat.S_IMODE(found)) == (True, 0o666)
        server.offer(ONE)
        assert await ask().read() == b"svid 1"

    with socket.socket(socket.AF_UNIX) as predecessor:
        predecessor.bind(path)
    run(path, test)
    run(path, test)


def test_a_place_that_cannot_be_had_is_a_fault() -> None:
    async def start() -> None:
        await WorkloadServer().start("/nowhere/api.sock")

    with pytest.raises(PodError) as caught:
        asyncio.run(start())
    assert caught.value.reason is Reason.STATE_DIR


def test_a_stream_says_at_once_what_holds_and_again_what_changes_and_nothing_twice(path: str) -> None:
    async def test(server: WorkloadServer, ask: Ask) -> None:
        server.offer(ONE)
        svids, bundles = ask(), ask("FetchX509Bundles")
        assert await svids.read() == b"svid 1" and await bundles.read() == b"bundles 1"
        server.offer(Told(b"svid 1", b"bundles of another manifest"))
        assert await bundles.read() == b"bundles of another manifest"
        server.offer(Told(b"renewed", b"bundles of another manifest"))
        server.offer(TWO)
        assert await svids.read() in (b"renewed", b"svid 2")
        assert await bundles.read() == b"bundles 2"

    run(path, test)


def test_D7_while_nothing_is_offered_every_stream_ends_and_none_begins(path: str) -> None:
    async def test(server: WorkloadServer, ask: Ask) -> None:
        assert await refusal(ask()) is grpc.StatusCode.PERMISSION_DENIED
        server.offer(ONE)
        svids, bundles = ask(), ask("FetchX509Bundles")
        assert await svids.read() == b"svid 1" and await bundles.read() == b"bundles 1"
        server.offer(None)
        for stream in (svids, bundles, ask(), ask("FetchX509Bundles")):
            assert await refusal(stream) is grpc.StatusCode.PERMISSION_DENIED
        server.offer(TWO)
        assert await ask().read() == b"svid 2"

    run(path, test)


@pytest.mark.parametrize(
    "metadata",
    [(), (("workload.spiffe.io", "false"),), (("workload.spiffe.io", "TRUE"),), (HEADER, HEADER)],
    ids=["none", "another value", "upper case", "twice"],
)
@pytest.mark.parametrize("method", ["FetchX509SVID", "FetchX509Bundles"])
def test_who_does_not_say_that_this_is_meant_is_told_nothing(
    path: str, method: str, metadata: tuple[tuple[str, str], ...]
) -> None:
    async def test(server: WorkloadServer, ask: Ask) -> None:
        server.offer(ONE)
        assert await refusal(ask(method, metadata)) is grpc.StatusCode.INVALID_ARGUMENT
        assert await ask(method).read() in (b"svid 1", b"bundles 1")

    run(path, test)


@pytest.mark.parametrize("method", ["FetchJWTSVID", "FetchJWTBundles", "ValidateJWTSVID", "Anything"])
def test_other_profiles_are_unimplemented(path: str, method: str) -> None:
    async def test(server: WorkloadServer, ask: Ask) -> None:
        server.offer(ONE)
        assert await refusal(ask(method)) is grpc.StatusCode.UNIMPLEMENTED

    run(path, test)


def test_V10_streams_and_requests_are_bounded(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than there is room for is refused at once, and those that are there go on."""
    monkeypatch.setattr(workload_server, "MAX_WORKLOAD_STREAMS", 3)

    async def test(server: WorkloadServer, ask: Ask) -> None:
        server.offer(ONE)
        big = ask(request=bytes(MAX_WORKLOAD_REQUEST + 1))
        assert await refusal(big) is grpc.StatusCode.RESOURCE_EXHAUSTED
        streams = [ask() for _ in range(3)]
        assert [await stream.read() for stream in streams] == [b"svid 1"] * 3
        assert await refusal(ask()) is grpc.StatusCode.RESOURCE_EXHAUSTED
        server.offer(TWO)
        assert [await stream.read() for stream in streams] == [b"svid 2"] * 3
        streams[0].cancel()
        await asyncio.sleep(0.2)
        assert await ask().read() == b"svid 2"

    run(path, test)


def test_V10_connections_are_bounded_and_silent_ones_make_room(path: str) -> None:
    """Of many that say nothing those that are too many are closed at once, the others in time."""

    async def test(server: WorkloadServer, ask: Ask) -> None:
        server.offer(ONE)
        stream = ask()
        assert await stream.read() == b"svid 1"
        silent = [await asyncio.open_unix_connection(path) for _ in range(2 * MAX_WORKLOAD_CONNECTIONS)]
        try:
            await asyncio.sleep(1)
            ended = sum(reader.at_eof() for reader, _ in silent)
            assert ended >= MAX_WORKLOAD_CONNECTIONS
            server.offer(TWO)
            assert await stream.read() == b"svid 2"
            await asyncio.sleep(WORKLOAD_TIMEOUT / 1000 + 1)
            async with grpc.aio.insecure_channel(f"unix:{path}") as other:
                call: grpc.aio.UnaryStreamMultiCallable[bytes, bytes]
                call = other.unary_stream(f"/{SERVICE}/FetchX509SVID")
                assert await call(b"", metadata=grpc.aio.Metadata(HEADER)).read() == b"svid 2"
        finally:
            for _, writer in silent:
                writer.close()

    run(path, test)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_an_application_whose_mount_is_read_only_can_ask(path: str, tmp_path: Path) -> None:
    """As `inject` mounts it; and it can neither remove the socket there nor put another in its place."""
    there = tmp_path / "mounted"
    there.mkdir()
    subprocess.run(["mount", "--bind", os.path.dirname(path), str(there)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(there)], check=True)

        async def test(server: WorkloadServer, ask: Ask) -> None:
            server.offer(ONE)
            async with grpc.aio.insecure_channel(f"unix:{there}/api.sock") as other:
                call: grpc.aio.UnaryStreamMultiCallable[bytes, bytes]
                call = other.unary_stream(f"/{SERVICE}/FetchX509SVID")
                assert await call(b"", metadata=grpc.aio.Metadata(HEADER)).read() == b"svid 1"
            with pytest.raises(OSError, match="Read-only"):
                os.unlink(there / "api.sock")

        run(path, test)
    finally:
        subprocess.run(["umount", str(there)], check=True)
