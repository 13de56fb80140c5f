"""`toposeal connect`'s sockets: real TLS servers with real leaves, a verifier that is the real one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from support.front import Front, front
from support.meshes import Mesh, Pod, build_mesh

from toposeal.errors import NetworkError, Reason, UsageError
from toposeal.host import forwarder as subject
from toposeal.host.fetch import fetch_document
from toposeal.host.forwarder import Forwarder, now
from toposeal.outside.endpoint import Endpoint
from toposeal.outside.model import VerifiedMesh
from toposeal.outside.standing import first
from toposeal.outside.verify import verify_document

INTERVAL = 60.0
NONCE = bytes(range(2, 34))


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return build_mesh({"api": 1, "web": 2}, now=int(time.time()))


def webs(mesh: Mesh) -> list[Pod]:
    return [pod for pod in mesh.pods if pod.role == "web"]


def next_epoch(mesh: Mesh, leaves: Pod, comes: Pod | None = None) -> Mesh:
    """The mesh after a round in which `comes` took the place of `leaves`."""
    pods = [pod for pod in mesh.pods if pod is not leaves] + ([comes] if comes else [])
    pods.sort(key=lambda pod: (pod.role, pod.iid))
    return mesh.attempt(mesh.manifest.epoch + 1, pods, mesh.manifest)


def newcomer(mesh: Mesh) -> Pod:
    """A `web` that no manifest lists yet, on the same platform."""
    return webs(build_mesh({"api": 1, "web": 2}, seed=2, now=mesh.now, pki=mesh.pki))[0]


def shout(tls: ssl.SSLSocket) -> None:
    """Reads all, then answers: what a client gets has passed both ways, each ended by itself."""
    heard = b""
    while data := tls.recv(65536):
        heard += data
    tls.sendall(heard.upper())


def echo(tls: ssl.SSLSocket) -> None:
    while data := tls.recv(65536):
        tls.sendall(data)


class Place:
    """A forwarder that runs, and its front."""

    def __init__(self, made: Front, port: int, told: list[str], forwarder: Forwarder) -> None:
        self.front, self.port, self.told, self.forwarder = made, port, told, forwarder

    async def client(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def says(self, line: str) -> None:
        await eventually(lambda: any(line in each for each in self.told))

    async def refuses(self) -> bool:
        """A connection that ends at once, without a byte."""
        reader, writer = await self.client()
        try:
            return await reader.read(1) == b""
        except ConnectionError:
            return True
        finally:
            writer.close()

    def due(self) -> None:
        """As if the interval were over."""
        self.forwarder._standing = replace(self.forwarder._standing, due=now())


@asynccontextmanager
async def place(
    directory: Path, mesh: Mesh, application: Callable[[ssl.SSLSocket], None]
) -> AsyncIterator[Place]:
    pod = webs(mesh)[0]
    told: list[str] = []
    with front(directory, mesh, pod, application) as made:
        target = Endpoint.parse_target(made.target)

        def verify() -> VerifiedMesh:
            return verify_document(fetch_document(target, NONCE, 5), mesh.request(nonce=NONCE))

        asked_at = now()
        standing = first(await asyncio.to_thread(verify), made.port, None, asked_at, INTERVAL)
        forwarder = Forwarder(target, verify, standing, INTERVAL, told.append)
        stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(forwarder.serve(0, stop, port.set_result))
        try:
            yield Place(made, await port, told, forwarder)
        finally:
            stop.set()
            await asyncio.wait_for(serving, 5)


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.02)


def run(body: Coroutine[None, None, None]) -> None:
    asyncio.run(body)


def test_bytes_pass_both_ways_and_each_direction_ends_by_itself(mesh: Mesh, tmp_path: Path) -> None:
    sent = bytes(range(97, 123)) * 40_000  # a mebibyte: more than any buffer between

    async def body() -> None:
        async with place(tmp_path, mesh, shout) as made:
            reader, writer = await made.client()
            writer.write(sent)
            writer.write_eof()
            assert await reader.read() == sent.upper()
            writer.close()
            assert made.told == []

    run(body())


def test_a_member_that_ends_first_still_gets_what_the_client_has(mesh: Mesh, tmp_path: Path) -> None:
    got: list[bytes] = []

    def banner(tls: ssl.SSLSocket) -> None:
        tls.sendall(b"banner")
        tls.settimeout(0)
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.unwrap()  # says that it ends, and does not wait
        tls.settimeout(20)
        heard = b""
        with contextlib.suppress(ssl.SSLZeroReturnError):
            while data := tls.recv(65536):
                heard += data
        got.append(heard)

    async def body() -> None:
        async with place(tmp_path, mesh, banner) as made:
            reader, writer = await made.client()
            assert await reader.read() == b"banner"
            writer.write(bytes(300_000))
            writer.close()
            await eventually(lambda: bool(got))
            assert got == [bytes(300_000)]

    run(body())


def test_a_connection_that_breaks_off_is_no_end(mesh: Mesh, tmp_path: Path) -> None:
    """Whoever is on the way can cut a connection, and must not make a part look like the whole."""

    def truncated(tls: ssl.SSLSocket) -> None:
        tls.sendall(b"half")
        tls.shutdown(socket.SHUT_RDWR)  # TCP's end alone, which anybody can forge

    async def body() -> None:
        async with place(tmp_path, mesh, truncated) as made:
            reader, _ = await made.client()
            with pytest.raises(ConnectionError):
                while await reader.read(65536):
                    pass

    run(body())


def test_a_client_that_resets_ends_the_connection_to_the_member(mesh: Mesh, tmp_path: Path) -> None:
    ended: list[bool] = []

    def wait(tls: ssl.SSLSocket) -> None:
        try:
            tls.recv(1)
        finally:
            ended.append(True)

    async def body() -> None:
        async with place(tmp_path, mesh, wait) as made:
            _, writer = await made.client()
            await eventually(lambda: made.front.reached == 1)
            writer.transport.abort()
            await eventually(lambda: bool(ended))

    run(body())


def test_V2_every_member_of_the_role_is_reached_and_nobody_else(mesh: Mesh, tmp_path: Path) -> None:
    """Behind one address may be any replica; a member of another role, a stranger of the same hardware, and
    a server with no leaf of ours at all are none."""
    other_role = next(pod for pod in mesh.pods if pod.role == "api")

    async def body() -> None:
        async with place(tmp_path, mesh, shout) as made:
            for behind, good in [
                (webs(mesh)[1], True),
                (other_role, False),
                (newcomer(mesh), False),
                (None, True),
            ]:
                made.front.behind = behind
                before = made.front.reached
                if good:
                    reader, writer = await made.client()
                    writer.write(b"a")
                    writer.write_eof()
                    assert await reader.read() == b"A"
                    writer.close()
                else:
                    assert await made.refuses()
                    assert made.front.reached == before  # it saw no handshake of ours, let alone data
            assert any("no connection: " in line for line in made.told)

    run(body())


def test_a_member_that_took_anothers_place_is_found_at_once(mesh: Mesh, tmp_path: Path) -> None:
    """The handshake with an unknown member asks for a verification; by its result the same client goes on."""
    new = newcomer(mesh)

    async def body() -> None:
        async with place(tmp_path, mesh, shout) as made:
            made.forwarder._asked_at -= 60  # the last verification is a while ago, and the next one far off
            later = next_epoch(mesh, webs(mesh)[0], new)
            made.front.mesh = later
            made.front.pod = next(pod for pod in later.pods if pod.iid == new.iid)
            asked = made.front.asked
            reader, writer = await made.client()
            writer.write(b"hello")
            writer.write_eof()
            assert await reader.read() == b"HELLO"
            writer.close()
            assert made.front.asked == asked + 1
            await made.says("verified: topology version 3, epoch 2, 2 of web")

    run(body())


def test_M5_connections_to_a_member_that_is_listed_no_longer_are_cut_and_others_are_not(
    mesh: Mesh, tmp_path: Path
) -> None:
    stays, leaves = webs(mesh)

    async def body() -> None:
        async with place(tmp_path, mesh, echo) as made:
            links = {}
            for pod in (stays, leaves):
                made.front.behind = pod
                links[pod.iid] = await talking(made)
            later = next_epoch(mesh, leaves, newcomer(mesh))
            made.front.behind, made.front.mesh = None, later
            made.front.pod = next(pod for pod in later.pods if pod.iid == stays.iid)
            made.due()
            await made.says("epoch 2")
            assert await is_cut(links[leaves.iid])
            assert await answers(links[stays.iid])

    run(body())


def test_silence_refuses_new_connections_and_leaves_the_others_until_it_lasts_too_long(
    mesh: Mesh, tmp_path: Path
) -> None:
    async def body() -> None:
        async with place(tmp_path, mesh, echo) as made:
            link = await talking(made)
            made.front.silent = True
            made.due()
            await made.says("NOT VERIFIED")
            assert await made.refuses()
            assert await answers(link)
            forwarder = made.forwarder
            forwarder._standing = replace(forwarder._standing, until=now())  # as if it had lasted
            assert await is_cut(link)
            made.front.silent = False
            made.due()
            await made.says("verified: ")
            assert await answers(await talking(made))

    run(body())


@pytest.mark.parametrize("change", ["lineage", "epoch", "members"])
def test_V6_what_is_refused_ends_every_connection(mesh: Mesh, tmp_path: Path, change: str) -> None:
    """A second mesh of the same owner, an older manifest of this one, a document that lacks a member."""
    later = mesh.attempt(2, previous=mesh.manifest)
    second = build_mesh({"api": 1, "web": 2}, seed=3, now=mesh.now, pki=mesh.pki)
    shown = {"lineage": second, "epoch": mesh, "members": replace(later, pods=later.pods[:2])}[change]
    reason = {"lineage": "lineage_changed", "epoch": "epoch_rollback", "members": "members_incomplete"}[
        change
    ]

    async def body() -> None:
        async with place(tmp_path, later, echo) as made:
            link = await talking(made)
            made.front.behind = made.front.pod  # the member itself is there as before
            made.front.mesh, made.front.pod = shown, shown.pods[-1]
            made.due()
            await made.says(f"[{reason}]")
            assert await is_cut(link)
            assert await made.refuses()

    run(body())


def test_nothing_passes_after_a_sleep_of_the_machine(
    mesh: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one byte, though no sweep has come to it yet."""

    async def body() -> None:
        async with place(tmp_path, mesh, echo) as made:
            link = await talking(made)
            monkeypatch.setattr(Forwarder, "_sweep", lambda self: None)
            monkeypatch.setattr(subject, "now", lambda: time.clock_gettime(time.CLOCK_MONOTONIC) + 1e9)
            assert await is_cut(link, b"secret")
            assert await made.refuses()
            monkeypatch.undo()

    run(body())


def test_connections_are_bounded(mesh: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "MAX_LOCAL_CONNECTIONS", 2)

    async def body() -> None:
        async with place(tmp_path, mesh, echo) as made:
            links = [await talking(made) for _ in range(2)]
            assert await made.refuses()
            await made.says("refused: 2 connections are open")
            links[0][1].close()
            await eventually(lambda: len(made.forwarder._clients) == 1)
            assert await answers(await talking(made))

    run(body())


def test_clients_that_nobody_answers_ask_for_no_flood_of_verifications(mesh: Mesh, tmp_path: Path) -> None:
    async def body() -> None:
        async with place(tmp_path, mesh, echo) as made:
            made.front.behind = newcomer(mesh)
            asked = made.front.asked
            for _ in range(10):
                assert await made.refuses()
            assert made.front.asked <= asked + 1
            assert len(made.told) <= 2

    run(body())


def test_the_port_is_on_the_loopback_alone_and_closed_at_the_end(mesh: Mesh, tmp_path: Path) -> None:
    async def body() -> None:
        async with place(tmp_path, mesh, echo) as made:
            link = await talking(made)
            assert listening(made.port) == {"0100007F"}
            with pytest.raises(UsageError) as caught:
                await made.forwarder.serve(made.port, asyncio.Event(), lambda port: None)
            assert caught.value.reason is Reason.USAGE
        assert await is_cut(link)
        assert listening(made.port) == set()

    run(body())


def test_a_member_that_cannot_be_dialled_is_told(mesh: Mesh, tmp_path: Path) -> None:
    async def body() -> None:
        async with place(tmp_path, mesh, echo) as made:
            with socket.create_server(("127.0.0.1", 0)) as closed:
                port = closed.getsockname()[1]
            made.forwarder._target = Endpoint.parse_target(f"127.0.0.1:{port}")
            assert await made.refuses()
            await made.says("no connection: ")

    run(body())


def test_an_error_of_the_verification_is_told_as_any(mesh: Mesh, tmp_path: Path) -> None:
    def nobody() -> VerifiedMesh:
        raise NetworkError.of(Reason.NETWORK, "connection", "nothing", "an answer")

    async def body() -> None:
        async with place(tmp_path, mesh, echo) as made:
            made.forwarder._verify = nobody
            made.due()
            await made.says("NOT VERIFIED, nothing new is forwarded: connection: found nothing")

    run(body())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_defect_in_a_verification_ends_all(mesh: Mesh, tmp_path: Path) -> None:
    def broken() -> VerifiedMesh:
        raise RuntimeError("a defect")

    async def body() -> None:
        async with place(tmp_path, mesh, echo) as made:
            link = await talking(made)
            made.forwarder._verify = broken
            made.due()
            assert await is_cut(link)
            assert listening(made.port) == set()

    with pytest.raises(RuntimeError, match="a defect"):
        run(body())


def test_a_role_without_a_member_leads_nowhere(mesh: Mesh, tmp_path: Path) -> None:
    async def body() -> None:
        async with place(tmp_path, mesh, echo) as made:
            link = await talking(made)
            made.forwarder._standing = replace(made.forwarder._standing, members={})
            assert await is_cut(link)
            assert await made.refuses()
            assert made.told == []

    run(body())


Link = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def talking(made: Place) -> Link:
    link = await made.client()
    assert await answers(link)
    return link


async def answers(link: Link) -> bool:
    reader, writer = link
    writer.write(b"ping")
    return await asyncio.wait_for(reader.read(64), 10) == b"ping"


async def is_cut(link: Link, sent: bytes = b"") -> bool:
    reader, writer = link
    writer.write(sent)
    try:
        return await asyncio.wait_for(reader.read(64), 10) == b""
    except ConnectionError:
        return True


def listening(port: int) -> set[str]:
    """Local addresses of the sockets that listen on `port`, as /proc/net has them."""
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    places = [line[1].split(":") for line in lines if line[3] == "0A"]
    return {address for address, found in places if int(found, 16) == port}
