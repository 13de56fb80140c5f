"""host.attestation_server over its real Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import os
import stat
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.tls import tls_server

from toposeal.errors import (
    LocalProtocolError,
    QuoteSourceError,
    Reason,
    RemoteProtocolError,
    TopologyError,
    ToposealError,
)
from toposeal.host import attestation_server, document_server
from toposeal.host.attestation_server import Answer, AttestationServer, Parts, Push
from toposeal.host.fetch import fetch_document
from toposeal.limits import MAX_LIVE_NONCES
from toposeal.outside.endpoint import Endpoint
from toposeal.outside.pushed import Pushed
from toposeal.outside.status import Status

PATH = b"/.well-known/toposeal/attestation"
NONCE = bytes(range(32))
GOOD = b"GET " + PATH + b"?nonce=" + NONCE.hex().encode() + b" HTTP/1.1\r\nHost: shop\r\n\r\n"

Ask = Callable[[bytes], Coroutine[Any, Any, bytes]]


async def echo(nonce: bytes) -> Parts:
    return lambda: iter((b"document for ", nonce))


def refuse(envelope: bytes) -> Pushed:
    raise TopologyError.of(Reason.TOPOLOGY_ROLLBACK, "version", 6, "at least 7")


def no_history() -> Callable[[], bytes]:
    raise AssertionError("no history was asked for")


def nothing() -> Status:
    raise RemoteProtocolError.of(Reason.NOT_ACTIVE, "phase", "boot", "active")


def serving(
    tmp_path: Path,
    answer: Answer,
    scenario: Callable[[Ask], Coroutine[Any, Any, None]],
    push: Push | None = None,
) -> None:
    """Run `scenario` against a server; it gets a function that sends bytes and reads to the end."""
    path = str(tmp_path / "attestation.sock")

    async def ask(request: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(request)
        await writer.drain()
        response = await reader.read()
        writer.close()
        return response

    async def main() -> None:
        server = AttestationServer(answer, push or refuse, nothing, no_history)
        await server.start(path, os.getgid())
        try:
            await asyncio.wait_for(scenario(ask), 20)
        finally:
            server.close()

    asyncio.run(main())


def status_of(response: bytes) -> int:
    return int(response.split(b" ", 2)[1])


def exchange(tmp_path: Path, request: bytes, answer: Answer = echo, push: Push | None = None) -> bytes:
    responses = []

    async def scenario(ask: Ask) -> None:
        responses.append(await ask(request))

    serving(tmp_path, answer, scenario, push)
    return responses[0]


def test_the_document_for_the_nonce_is_served_and_the_connection_closed(tmp_path: Path) -> None:
    head, _, body = exchange(tmp_path, GOOD).partition(b"\r\n\r\n")
    assert body == b"document for " + NONCE
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 200 OK",
        b"Content-Type: application/vnd.toposeal.attestation.v1+protobuf",
        b"Content-Length: 45",
        b"Cache-Control: no-store",
        b"X-Content-Type-Options: nosniff",
        b"Connection: close",
    ]


def test_the_verifier_reads_what_the_server_writes(tmp_path: Path) -> None:
    with tls_server(tmp_path, lambda tls: tls.sendall(exchange(tmp_path, server.requests[0]))) as server:
        assert fetch_document(Endpoint.parse(server.url), NONCE) == b"document for " + NONCE


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET " + PATH + b"/x?nonce=" + b"0" * 64 + b" HTTP/1.1\r\n\r\n", 404),
        (GOOD.replace(b"GET", b"POST"), 405),
        (GOOD.replace(b"GET", b"HEAD"), 405),
        (b"GET " + PATH + b" HTTP/1.1\r\n\r\n", 400),
        (GOOD.replace(b"00", b"0", 1), 400),
        (GOOD.replace(b"00", b"000", 1), 400),
        (GOOD.replace(b"1f", b"1F"), 400),
        (GOOD.replace(b"1f", b"1g"), 400),
        (GOOD.replace(b" HTTP", b"&x=1 HTTP"), 400),
        (GOOD.replace(b"nonce", b"Nonce"), 400),
        (GOOD.replace(b"?", b"?x=1&"), 400),
        (GOOD.replace(b"/1.1", b"/2.0"), 400),
        (b" " + GOOD, 400),
        (GOOD.replace(b"GET ", b"GET  "), 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"GET " + PATH + b"?nonce=" + b"0" * 2000 + b" HTTP/1.1\r\n\r\n", 400),
        (GOOD.replace(b"Host: shop", b"X: " + b"a" * 20_000), 431),
    ],
)
def test_anything_but_the_exact_request_is_refused_and_not_reflected(
    tmp_path: Path, request_head: bytes, status: int
) -> None:
    response = exchange(tmp_path, request_head)
    head, _, body = response.partition(b"\r\n\r\n")
    assert status_of(response) == status
    assert b"Connection: close" in head
    assert len(body) < 64
    assert b"nonce" not in body
    assert (b"Allow: GET" in head) == (status == 405)


def test_a_request_that_ends_early_is_refused(tmp_path: Path) -> None:
    async def scenario(ask: Ask) -> None:
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "attestation.sock"))
        writer.write(GOOD[:20])
        writer.write_eof()
        assert status_of(await reader.read()) == 400
        writer.close()

    serving(tmp_path, echo, scenario)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LocalProtocolError.of(Reason.NOT_ACTIVE, "state", "sealed", "active"), 503),
        (QuoteSourceError.of(Reason.QUOTE_SOURCE, "outblob", "EIO", "a quote"), 503),
        (RemoteProtocolError.of(Reason.RATE_LIMITED, "callers", MAX_LIVE_NONCES, "a free place"), 429),
        (LocalProtocolError.of(Reason.INTERNAL, "x", "secret detail", "y"), 500),
    ],
)
def test_V4_V10_a_member_that_is_not_active_or_is_asked_too_much_answers_no_document(
    tmp_path: Path, error: ToposealError, status: int
) -> None:
    async def refuse(nonce: bytes) -> Parts:
        raise error

    response = exchange(tmp_path, GOOD, refuse)
    assert status_of(response) == status
    assert b"secret detail" not in response


def test_a_defect_of_ours_closes_the_connection_and_is_reported(tmp_path: Path) -> None:
    reported: list[dict[str, Any]] = []

    async def broken(nonce: bytes) -> Parts:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
        raise ZeroDivisionError

    async def scenario(ask: Ask) -> None:
        assert await ask(GOOD) == b""

    serving(tmp_path, broken, scenario)
    assert any(isinstance(context.get("exception"), ZeroDivisionError) for context in reported)


def test_V10_only_so_many_documents_are_in_memory_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three callers, room for one document, and a first reader that takes none of it: the others wait until
    it is cut off."""
    monkeypatch.setattr(document_server, "_MAX_DOCUMENTS", 1)
    monkeypatch.setattr(document_server, "_EXCHANGE_TIMEOUT_S", 1.0)
    made: list[float] = []

    def large() -> Iterator[bytes]:
        made.append(time.monotonic())
        yield bytes(32 << 20) if len(made) <= 2 else b"small"

    async def answer(nonce: bytes) -> Parts:
        return large

    async def scenario(ask: Ask) -> None:
        _, writer = await asyncio.open_unix_connection(str(tmp_path / "attestation.sock"))
        writer.write(GOOD)
        await asyncio.sleep(0.3)
        assert len(made) == 2  # once for its length, once to be sent
        responses = await asyncio.gather(ask(GOOD), ask(GOOD))
        assert [status_of(r) for r in responses] == [200, 200]
        assert made[2] - made[1] > 0.9
        writer.close()

    serving(tmp_path, answer, scenario)


async def large(nonce: bytes) -> Parts:
    return lambda: iter((bytes(2 << 20),))


@contextlib.asynccontextmanager
async def readers(tmp_path: Path, count: int) -> AsyncIterator[list[asyncio.StreamReader]]:
    """As many as have asked for a document and read nothing yet."""
    opened = [await asyncio.open_unix_connection(str(tmp_path / "attestation.sock")) for _ in range(count)]
    for _, writer in opened:
        writer.write(GOOD)
    await asyncio.sleep(0.2)
    yield [reader for reader, _ in opened]
    for _, writer in opened:
        writer.close()


def test_V10_readers_that_take_nothing_do_not_hold_every_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document_server, "_STALLED_S", 0.3)

    async def scenario(ask: Ask) -> None:
        async with readers(tmp_path, 64):
            started = time.monotonic()
            assert status_of(await ask(GOOD)) == 200
            assert time.monotonic() - started < 2

    serving(tmp_path, large, scenario)


def test_V10_a_slow_reader_keeps_its_place_while_it_takes_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside one that takes nothing, and with somebody waiting: that one alone is cut off."""
    monkeypatch.setattr(document_server, "_STALLED_S", 0.4)
    monkeypatch.setattr(document_server, "_MAX_DOCUMENTS", 2)

    async def scenario(ask: Ask) -> None:
        async with readers(tmp_path, 2) as (slow, stalled):
            waiting = asyncio.gather(*(ask(GOOD) for _ in range(3)))
            taken = 0
            while part := await slow.read(256 << 10):
                taken += len(part)
                await asyncio.sleep(0.1)
            assert taken > 2 << 20
            assert len(await stalled.read()) < 2 << 20
            assert [status_of(response) for response in await waiting] == [200] * 3

    serving(tmp_path, large, scenario)


def test_V10_many_slow_readers_of_a_large_document_cost_a_part_each(tmp_path: Path) -> None:
    part, parts, count = 1 << 18, 200, 32

    async def fifty_mebibytes(nonce: bytes) -> Parts:
        return lambda: (bytes([number % 251]) * part for number in range(parts))

    async def scenario(ask: Ask) -> None:
        async with readers(tmp_path, count) as slow:
            tracemalloc.start()
            for _ in range(10):
                await asyncio.gather(*(reader.readexactly(part) for reader in slow))
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < 6 * count * part < part * parts
            whole = await ask(GOOD)
            assert whole.partition(b"\r\n\r\n")[2] == b"".join((await fifty_mebibytes(NONCE))())

    serving(tmp_path, fifty_mebibytes, scenario)


def test_a_reader_may_pause_while_there_are_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document_server, "_STALLED_S", 0.1)
    monkeypatch.setattr(document_server, "_MAX_DOCUMENTS", 2)

    async def scenario(ask: Ask) -> None:
        async with readers(tmp_path, 1) as (reader,):
            await asyncio.sleep(0.5)
            assert len(await reader.read()) > 2 << 20

    serving(tmp_path, large, scenario)


def test_a_request_that_drips_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document_server, "_REQUEST_TIMEOUT_S", 0.2)

    async def scenario(ask: Ask) -> None:
        started = time.monotonic()
        assert await ask(GOOD[:-2]) == b""
        assert time.monotonic() - started < 2

    serving(tmp_path, echo, scenario)


def test_a_reader_that_never_reads_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document_server, "_EXCHANGE_TIMEOUT_S", 0.3)

    async def largest(nonce: bytes) -> Parts:
        return lambda: iter((bytes(16 << 20),))

    async def scenario(ask: Ask) -> None:
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "attestation.sock"))
        writer.write(GOOD)
        await asyncio.sleep(0.8)
        assert len(await reader.read()) < 16 << 20
        writer.close()

    serving(tmp_path, largest, scenario)


def test_R1_an_answer_that_does_not_come_gives_its_place_to_the_next_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document_server, "_EXCHANGE_TIMEOUT_S", 0.3)
    monkeypatch.setattr(attestation_server, "_MAX_CONNECTIONS", 1)
    asked: list[bytes] = []

    async def answer(nonce: bytes) -> Parts:
        asked.append(nonce)
        if len(asked) == 1:
            await asyncio.sleep(10)
        return await echo(nonce)

    async def scenario(ask: Ask) -> None:
        started = time.monotonic()
        assert await ask(GOOD) == b""
        assert 0.2 < time.monotonic() - started < 5
        assert status_of(await ask(GOOD)) == 200
        assert asked == [NONCE, NONCE]

    serving(tmp_path, answer, scenario)


def test_R1_connections_above_the_cap_are_closed_at_once(tmp_path: Path) -> None:
    async def scenario(ask: Ask) -> None:
        path = str(tmp_path / "attestation.sock")
        idle = [await asyncio.open_unix_connection(path) for _ in range(MAX_LIVE_NONCES)]
        await asyncio.sleep(0.1)
        reader, writer = await asyncio.open_unix_connection(path)
        assert await reader.read() == b""
        writer.close()
        for _, held in idle:
            held.close()
        await asyncio.sleep(0.1)
        assert status_of(await ask(GOOD)) == 200

    serving(tmp_path, echo, scenario)


def test_the_socket_is_for_its_owner_and_one_group_alone(tmp_path: Path) -> None:
    group = max(entry.gr_gid for entry in grp.getgrall() if entry.gr_gid < 60_000)
    if os.geteuid() != 0:
        group = os.getgid()

    async def main() -> os.stat_result:
        server = AttestationServer(echo, refuse, nothing, no_history)
        server.close()
        await server.start(str(tmp_path / "s"), group)
        server.close()
        return os.stat(tmp_path / "s")

    found = asyncio.run(main())
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert found.st_gid == group


def test_a_path_that_cannot_be_bound_is_an_error_and_leaks_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError):
        asyncio.run(
            AttestationServer(echo, refuse, nothing, no_history).start(str(tmp_path / "taken"), os.getgid())
        )
    assert len(os.listdir("/proc/self/fd")) == before


def test_there_is_no_status_before_there_is_a_member(tmp_path: Path) -> None:
    request = b"GET /.well-known/toposeal/status HTTP/1.1\r\n\r\n"
    assert status_of(exchange(tmp_path, request)) == 503
