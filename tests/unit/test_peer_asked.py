"""What strangers may ask at the peer port: seldom, few at once, read strictly, and never called a proof."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from support.actors import Bench

from toposeal._wire import peer_pb2 as wire
from toposeal.cli.main import entry
from toposeal.encoding import encode
from toposeal.errors import NetworkError, Reason, RemoteProtocolError, TopologyError
from toposeal.host.asking_peer import ask_peer_status, push_to_peer
from toposeal.host.operator_calls import PUSH, STATUS, operator_calls
from toposeal.host.peer_server import METHOD, SERVICE, Asking, Call, PeerServer
from toposeal.host.throwaway import SERVER_NAME, make_throwaway, shown_certificate
from toposeal.limits import (
    ASKED_AT_ONCE,
    ASKED_AT_ONCE_IN_ALL,
    ASKED_PER_SECOND,
    ASKED_PER_SECOND_IN_ALL,
    MAX_ENVELOPE_SIZE,
)
from toposeal.outside.endpoint import Endpoint
from toposeal.outside.pushed import Pushed
from toposeal.outside.status import Status, status_of

ASKED = encode(wire.Asked())


@pytest.fixture
def status() -> Status:
    """Of a member that waits for a role."""
    bench = Bench({"db": (1, 1), "web": (1, 1)}).gathering()
    return status_of(bench.member, bench.now)


def nothing(envelope: bytes) -> Pushed:
    raise AssertionError("nothing was pushed")


def never() -> Status:
    raise AssertionError("no status was asked for")


class Serving:
    """A peer port on loopback; `faults` is what its event loop was told."""

    def __init__(self, calls: Mapping[str, Call] | None) -> None:
        self.calls, self.delivered = calls, list[bytes]()
        self.faults: list[dict[str, Any]] = []
        self.port = 0

    def run(self, test: Callable[[Serving], Awaitable[None]]) -> None:
        async def go() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: self.faults.append(context))
            server = PeerServer(self.delivered.append, make_throwaway(), None, self.calls)
            self.port = await server.start("127.0.0.1:0")
            try:
                async with asyncio.timeout(30):
                    await test(self)
            finally:
                await server.stop()

        asyncio.run(go())

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint.parse_peer(f"127.0.0.1:{self.port}")

    async def codes(self, method: str, *messages: bytes) -> list[grpc.StatusCode | bytes]:
        """What each of these gets over one connection; a refusal has no text of ours."""
        root = await shown_certificate("127.0.0.1", self.port, 5)
        found: list[grpc.StatusCode | bytes] = []
        options = [("grpc.ssl_target_name_override", SERVER_NAME)]
        credentials = grpc.ssl_channel_credentials(root)
        async with grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options=options) as channel:
            call: Any = channel.unary_unary(f"/{SERVICE}/{method}")
            for message in messages:
                try:
                    found.append(bytes(await call(message, timeout=5)))
                except grpc.aio.AioRpcError as error:
                    assert "canary" not in (error.details() or "")
                    found.append(error.code())
        return found

    async def command(self, *words: str) -> int:
        return await asyncio.to_thread(entry, [*words, "--peer", f"127.0.0.1:{self.port}"])


# What is answered.


def test_the_status_is_what_the_member_says(status: Status) -> None:
    async def test(serving: Serving) -> None:
        assert await asyncio.to_thread(ask_peer_status, serving.endpoint) == status

    Serving(operator_calls(lambda: status, nothing)).run(test)


@pytest.mark.parametrize("as_json", [False, True])
def test_V_the_command_says_that_nothing_is_attested(
    as_json: bool, status: Status, capsys: pytest.CaptureFixture[str]
) -> None:
    async def test(serving: Serving) -> None:
        assert await serving.command("status", *(["--json"] if as_json else [])) == 0

    Serving(operator_calls(lambda: status, nothing)).run(test)
    out = capsys.readouterr().out
    if as_json:
        document = json.loads(out)
        assert (document.pop("attested"), document.pop("verified")) == (False, False)
        assert document == json.loads(json.dumps(status.as_json()))
    else:
        assert out.startswith("not attested: the word of whoever answered")
        assert "waits: roles.db: found 0 within reach" in out


def test_a_pushed_topology_arrives_byte_for_byte(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pushed: list[bytes] = []

    def push(envelope: bytes) -> Pushed:
        pushed.append(envelope)
        return Pushed(len(pushed) == 1, 8)

    file = tmp_path / "topology.json"
    file.write_bytes(b"{}\n")

    async def test(serving: Serving) -> None:
        words = ("topology", "push", "--file", str(file))
        assert await serving.command(*words) == 0
        assert await serving.command(*words, "--json") == 0

    Serving(operator_calls(never, push)).run(test)
    assert pushed == [b"{}\n", b"{}\n"]
    *text, last = capsys.readouterr().out.splitlines()
    assert text[0].startswith("not attested") and text[1] == "accepted: version 8"
    assert json.loads(last) == {"attested": False, "result": "known", "version": 8}


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Reason.TOPOLOGY_THRESHOLD, 2),
        (Reason.TOPOLOGY_ROLLBACK, 4),
        (Reason.TOPOLOGY_EQUIVOCATION, 2),
        (Reason.NOT_ACTIVE, 3),
    ],
)
def test_a_refused_topology_is_refused_by_its_reason_alone(
    reason: Reason, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(envelope: bytes) -> Pushed:
        raise TopologyError.of(reason, "topology", "canary-4711", "nothing")

    file = tmp_path / "topology.json"
    file.write_bytes(b"{}")

    async def test(serving: Serving) -> None:
        assert await serving.command("topology", "push", "--file", str(file)) == code

    Serving(operator_calls(never, refuse)).run(test)
    said = capsys.readouterr().err
    assert f"[{reason.value}]" in said and "canary" not in said


def test_before_there_are_keys_there_is_nothing_to_say() -> None:
    def not_yet() -> Status:
        raise RemoteProtocolError.of(Reason.NOT_ACTIVE, "phase", "canary-4711", "active")

    async def test(serving: Serving) -> None:
        with pytest.raises(NetworkError) as refused:
            await asyncio.to_thread(ask_peer_status, serving.endpoint)
        assert refused.value.reason is Reason.NOT_ACTIVE and "canary" not in str(refused.value)

    Serving(operator_calls(not_yet, nothing)).run(test)


# What is asked.


@pytest.mark.parametrize("method", [STATUS, PUSH])
@pytest.mark.parametrize("data", [b"\x08", b"\x10\x01", b"\x0a\x05abc", b"\xff" * 100, b"\x0a\x00"])
def test_R1_what_is_no_question_is_refused_without_a_word(method: str, data: bytes) -> None:
    async def test(serving: Serving) -> None:
        assert await serving.codes(method, data) == [grpc.StatusCode.INVALID_ARGUMENT]

    Serving(operator_calls(never, nothing)).run(test)


def test_R1_an_oversized_topology_is_not_even_read() -> None:
    async def test(serving: Serving) -> None:
        data = encode(wire.Handed(topology=bytes(MAX_ENVELOPE_SIZE)))
        assert await serving.codes(PUSH, data) == [grpc.StatusCode.RESOURCE_EXHAUSTED]

    Serving(operator_calls(never, nothing)).run(test)


def test_S9_a_defect_of_ours_is_told_to_the_daemon_and_not_to_the_stranger() -> None:
    def defect() -> Status:
        raise ZeroDivisionError("canary-4711")

    serving = Serving(operator_calls(defect, nothing))

    async def test(serving: Serving) -> None:
        assert await serving.codes(STATUS, ASKED) == [grpc.StatusCode.INTERNAL]

    serving.run(test)
    assert [type(fault["exception"]) for fault in serving.faults] == [ZeroDivisionError]


# How often, and how many at once.


def test_R1_one_source_asks_so_often_and_keeps_nobody_from_delivering(status: Status) -> None:
    asked = 0

    def count() -> Status:
        nonlocal asked
        asked += 1
        return status

    async def test(serving: Serving) -> None:
        codes = await serving.codes(STATUS, *[ASKED] * 4 * ASKED_PER_SECOND)
        assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == len(codes) - asked
        assert ASKED_PER_SECOND <= asked < 3 * ASKED_PER_SECOND
        assert await serving.codes(METHOD, b"one", b"two") == [b"", b""]
        assert serving.delivered == [b"one", b"two"]

    Serving(operator_calls(count, nothing)).run(test)


def test_R1_all_sources_together_ask_so_often() -> None:
    now = 0.0
    asking = Asking(lambda: now)

    def ask(source: str) -> bool:
        allowed = asking.begin(source)
        if allowed:
            asking.end(source)
        return allowed

    greedy = [ask("greedy") for _ in range(1000)]
    assert sum(greedy) == ASKED_PER_SECOND  # and has taken no more turns of the others
    others = [ask(str(number)) for number in range(100)]
    assert sum(others) == ASKED_PER_SECOND_IN_ALL - ASKED_PER_SECOND
    now = 1.0
    assert ask("greedy") and ask("late")


def test_R1_so_many_are_under_way_of_one_source_and_of_all() -> None:
    now = 0.0
    asking = Asking(lambda: now)
    assert [asking.begin("slow") for _ in range(ASKED_AT_ONCE + 1)] == [True] * ASKED_AT_ONCE + [False]
    more = [asking.begin(str(number)) for number in range(ASKED_AT_ONCE_IN_ALL)]
    assert sum(more) == ASKED_AT_ONCE_IN_ALL - ASKED_AT_ONCE
    now = 10.0
    assert not asking.begin("another")
    asking.end("slow")
    assert asking.begin("another") and not asking.begin("one more")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags])
    return head + stream.to_bytes(4, "big") + payload


def literal(name: str, value: str) -> bytes:
    """HPACK without index and without Huffman (RFC 7541, 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


@contextmanager
def deaf(port: int, method: str) -> Iterator[ssl.SSLSocket]:
    """A client that asks and whose window for the answer is zero (RFC 9113, 6.9.2)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    fields = {
        ":method": "POST", ":scheme": "https", ":path": f"/{SERVICE}/{method}", ":authority": "x",
        "content-type": "application/grpc", "te": "trailers",
    }  # fmt: skip
    head = b"".join(literal(name, value) for name, value in fields.items())
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port), 5)) as tls:
        tls.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + frame(4, 0, 0, b"\x00\x04\x00\x00\x00\x00")  # SETTINGS_INITIAL_WINDOW_SIZE 0
            + frame(1, 4, 1, head)
            + frame(0, 1, 1, bytes(5))  # an empty message
        )
        yield tls


def test_R1_who_asks_and_does_not_read_holds_places_of_its_own_alone(status: Status) -> None:
    asked = 0

    def count() -> Status:
        nonlocal asked
        asked += 1
        return status

    async def test(serving: Serving) -> None:
        held = [deaf(serving.port, STATUS) for _ in range(ASKED_AT_ONCE)]
        clients = [await asyncio.to_thread(client.__enter__) for client in held]
        while asked < ASKED_AT_ONCE:
            await asyncio.sleep(0.01)
        await asyncio.sleep(1.2)  # the rate is not what refuses
        assert await serving.codes(STATUS, ASKED) == [grpc.StatusCode.RESOURCE_EXHAUSTED]
        for client in clients:
            client.close()
        while not isinstance((await serving.codes(STATUS, ASKED))[0], bytes):
            await asyncio.sleep(0.3)

    Serving(operator_calls(count, nothing)).run(test)


# What the command believes.


@pytest.mark.parametrize("answer", [b"", b"junk", encode(wire.Told(said=b"[]")), os.urandom(2000)])
def test_C2_what_is_no_answer_is_a_network_error(answer: bytes, tmp_path: Path) -> None:
    async def test(serving: Serving) -> None:
        with pytest.raises(NetworkError):
            await asyncio.to_thread(ask_peer_status, serving.endpoint)
        with pytest.raises(NetworkError):
            await asyncio.to_thread(push_to_peer, serving.endpoint, b"{}")

    Serving({STATUS: lambda data: answer, PUSH: lambda data: answer}).run(test)


def test_a_member_of_an_older_release_does_not_know_the_question() -> None:
    async def test(serving: Serving) -> None:
        with pytest.raises(NetworkError) as refused:
            await asyncio.to_thread(ask_peer_status, serving.endpoint)
        assert refused.value.reason is Reason.UNKNOWN_VERSION

    Serving(None).run(test)


def test_nobody_there_is_a_network_error() -> None:
    assert entry(["status", "--peer", "127.0.0.1:1"]) == 3


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["https://web", "--peer", "web"],
        ["--peer", "web", "--connect", "web:1"],
        ["--peer", "web:0"],
        ["--peer", "https://web"],
        ["--peer", ""],
    ],
)
def test_one_place_is_asked(words: list[str]) -> None:
    assert entry(["status", *words]) == 1


def test_without_grpc_there_is_nothing_to_ask_with(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert entry(["status", "--peer", "127.0.0.1"]) == 1
    assert "toposeal[sidecar]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "dial"),
    [
        ("web", ("web", 15443)),
        ("10.0.0.1:7", ("10.0.0.1", 7)),
        ("[fd00::1]", ("fd00::1", 15443)),
        ("[fd00::1]:7", ("fd00::1", 7)),
    ],
)
def test_the_port_may_be_left_out(text: str, dial: tuple[str, int]) -> None:
    assert Endpoint.parse_peer(text).dial == dial
