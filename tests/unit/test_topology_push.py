"""A topology posted to a member: limits before anything else, its word read strictly, exit codes by cause."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.tls import tls_server

from toposeal.cli.main import entry
from toposeal.errors import NetworkError, Reason, TopologyError, ToposealError
from toposeal.host.attestation_server import AttestationServer, Parts
from toposeal.limits import MAX_TOPOLOGY_PUSH, TOPOLOGY_PUSHES_AT_ONCE, TOPOLOGY_PUSHES_PER_SECOND
from toposeal.outside.endpoint import TOPOLOGY_PATH
from toposeal.outside.pushed import Pushed, read_pushed
from toposeal.outside.status import Status

LINE = f"POST {TOPOLOGY_PATH} HTTP/1.1\r\n".encode()


def post(body: bytes, *headers: bytes, length: int | None = None) -> bytes:
    size = b"Content-Length: %d\r\n" % (len(body) if length is None else length)
    return LINE + b"Host: shop\r\n" + size + b"".join(h + b"\r\n" for h in headers) + b"\r\n" + body


def no_history() -> Callable[[], bytes]:
    raise AssertionError("no history was asked for")


def nothing() -> Status:
    raise AssertionError("no status was asked for")


class Served:
    """A server that notes what is pushed; `requests` are asked one after the other, or at once."""

    def __init__(self, tmp_path: Path, error: ToposealError | None = None) -> None:
        self.path, self.error = str(tmp_path / "attestation.sock"), error
        self.pushed: list[bytes] = []

    def push(self, envelope: bytes) -> Pushed:
        self.pushed.append(envelope)
        if self.error is not None:
            raise self.error
        return Pushed(True, 8)

    def ask(self, *requests: bytes, pause: float = 0.0, at_once: bool = False) -> list[tuple[int, bytes]]:
        async def one(request: bytes) -> tuple[int, bytes]:
            reader, writer = await asyncio.open_unix_connection(self.path)
            writer.write(request)
            answered = await reader.read()
            writer.close()
            return (int(answered.split(b" ", 2)[1]) if answered else 0), answered.partition(b"\r\n\r\n")[2]

        async def go() -> list[tuple[int, bytes]]:
            async def never(nonce: bytes) -> Parts:
                raise AssertionError("no document was asked for")

            server = AttestationServer(never, self.push, nothing, no_history)
            await server.start(self.path, os.getgid())
            try:
                if at_once:
                    return list(await asyncio.gather(*map(one, requests)))
                found = []
                for request in requests:
                    found.append(await one(request))
                    await asyncio.sleep(pause)
                return found
            finally:
                server.close()

        return asyncio.run(go())


def test_what_is_posted_is_pushed_and_answered(tmp_path: Path) -> None:
    served = Served(tmp_path)
    ((status, body),) = served.ask(post(b"{envelope}"))
    assert (status, json.loads(body)) == (200, {"result": "accepted", "version": 8})
    assert served.pushed == [b"{envelope}"]


def test_T4_a_refusal_is_told_by_its_reason_alone(tmp_path: Path) -> None:
    error = TopologyError.of(Reason.TOPOLOGY_ROLLBACK, "version", 6, "at least 7")
    ((status, body),) = Served(tmp_path, error).ask(post(b"{}"))
    assert (status, json.loads(body)) == (422, {"refused": "topology_rollback"})


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (LINE + b"Host: shop\r\n\r\n", 411),
        (post(b"", length=MAX_TOPOLOGY_PUSH + 1), 413),
        (post(b"x", b"Content-Length: 1"), 400),
        (post(b"x", b"Transfer-Encoding: chunked"), 400),
        (post(b"x", b"Expect: 100-continue"), 400),
        (post(b"x", b"no header"), 400),
        (post(b"x").replace(b"/topology ", b"/elsewhere "), 404),
    ],
)
def test_R1_what_is_no_push_is_refused_before_its_body_is_read(
    request_: bytes, status: int, tmp_path: Path
) -> None:
    served = Served(tmp_path)
    ((found, _),) = served.ask(request_)
    assert found == status and served.pushed == []


def test_R1_pushes_are_few_a_second_whoever_sends_them(tmp_path: Path) -> None:
    served = Served(tmp_path)
    answers = served.ask(*[post(b"{}")] * 3)
    assert [status for status, _ in answers] == [200, 429, 429]
    assert json.loads(answers[1][1]) == {"refused": "rate_limited"} and len(served.pushed) == 1
    again = Served(tmp_path).ask(*[post(b"{}")] * 2, pause=1.5 / TOPOLOGY_PUSHES_PER_SECOND)
    assert [status for status, _ in again] == [200, 200]


def test_R1_bodies_that_do_not_come_take_few_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toposeal.host.topology_pushes.TOPOLOGY_PUSHES_PER_SECOND", 1e9)
    monkeypatch.setattr("toposeal.host.document_server._REQUEST_TIMEOUT_S", 0.3)
    served = Served(tmp_path)
    answers = served.ask(*[post(b"", length=10)] * (TOPOLOGY_PUSHES_AT_ONCE + 1), at_once=True)
    assert sorted(status for status, _ in answers) == [0] * TOPOLOGY_PUSHES_AT_ONCE + [429]
    assert served.pushed == []


def test_a_body_that_ends_early_is_no_push(tmp_path: Path) -> None:
    served = Served(tmp_path)

    async def half(path: str) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(post(b"{}", length=10))
        writer.write_eof()
        assert await reader.read() == b""

    async def go() -> None:
        async def never(nonce: bytes) -> Parts:
            raise AssertionError

        server = AttestationServer(never, served.push, nothing, no_history)
        await server.start(served.path, os.getgid())
        await half(served.path)
        server.close()

    asyncio.run(go())
    assert served.pushed == []


# What the one who asks makes of the answer.


def test_an_answer_is_read_back() -> None:
    for pushed in (Pushed(True, 8), Pushed(False, 7)):
        assert read_pushed(json.dumps(pushed.as_json()).encode()) == pushed


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b'{"refused": "topology_rollback"}', TopologyError, Reason.TOPOLOGY_ROLLBACK),
        (b'{"refused": "rate_limited"}', NetworkError, Reason.RATE_LIMITED),
        (b'{"refused": "not_active"}', NetworkError, Reason.NOT_ACTIVE),
        (b'{"refused": "because"}', NetworkError, Reason.NETWORK),
        (b'{"refused": "rate_limited", "more": 1}', NetworkError, Reason.NETWORK),
        (b'{"result": "accepted"}', NetworkError, Reason.NETWORK),
        (b'{"result": "accepted", "version": 0}', NetworkError, Reason.NETWORK),
        (b'{"result": "accepted", "version": 1, "more": 1}', NetworkError, Reason.NETWORK),
        (b'{"result": "perhaps", "version": 1}', NetworkError, Reason.NETWORK),
        (b"[]", NetworkError, Reason.NETWORK),
        (b"<html>", NetworkError, Reason.NETWORK),
    ],
)
def test_a_strange_answer_is_none(body: bytes, kind: type[ToposealError], reason: Reason) -> None:
    with pytest.raises(kind) as error:
        read_pushed(body)
    assert error.value.reason is reason


def answer(status: str, body: bytes, kind: str = "application/vnd.toposeal.push.v1+json") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    ("answered", "code", "said"),
    [
        (answer("200 OK", b'{"result": "accepted", "version": 8}'), 0, "accepted: version 8"),
        (answer("200 OK", b'{"result": "known", "version": 8}'), 0, "already known: version 8"),
        (answer("422 No", b'{"refused": "topology_rollback"}'), 4, "[topology_rollback]"),
        (answer("422 No", b'{"refused": "topology_threshold"}'), 2, "[topology_threshold]"),
        (answer("422 No", b'{"refused": "topology_equivocation"}'), 2, "[topology_equivocation]"),
        (answer("429 No", b'{"refused": "rate_limited"}'), 3, "[rate_limited]"),
        (answer("404 Not Found", b"what?", "text/plain"), 3, "[network]"),
        (b"", 3, "[network]"),
    ],
)
def test_the_command_says_what_became_of_it(
    answered: bytes, code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    envelope = tmp_path / "topology.dsse"
    envelope.write_bytes(b"{}")
    with tls_server(tmp_path, lambda tls: tls.sendall(answered)) as server:
        found = entry(["topology", "push", server.url, "--file", str(envelope)])
    out, err = capsys.readouterr()
    assert found == code and said in out + err


def test_the_command_prints_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    envelope = tmp_path / "topology.dsse"
    envelope.write_bytes(b"{}")
    answered = answer("200 OK", b'{"result": "known", "version": 8}')
    with tls_server(tmp_path, lambda tls: tls.sendall(answered)) as server:
        assert entry(["topology", "push", server.url, "--file", str(envelope), "--json"]) == 0
        assert b"POST /.well-known/toposeal/topology HTTP/1.1\r\n" in server.requests[0]
    assert json.loads(capsys.readouterr().out) == {"attested": False, "result": "known", "version": 8}


def test_a_file_that_is_too_large_to_spread_is_not_sent(tmp_path: Path) -> None:
    envelope = tmp_path / "topology.dsse"
    envelope.write_bytes(bytes(MAX_TOPOLOGY_PUSH + 1))
    assert entry(["topology", "push", "https://127.0.0.1:1", "--file", str(envelope)]) == 1
