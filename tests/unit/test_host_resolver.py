"""The daemon's questions to DNS servers, over real sockets: patience, order, truncation, resolv.conf."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from toposeal.dataplane.dns_client import Answer, Kind
from toposeal.host import host_resolver
from toposeal.host.host_resolver import HostResolver, nameservers
from toposeal.limits import MAX_DNS_ANSWER

Says = Callable[[bytes], list[bytes]]


def reply(query: bytes, *addresses: bytes, flags: int = 0x8180, ttl: int = 60) -> bytes:
    end = query.index(b"\x00", 12) + 5
    kind = {4: 1, 16: 28}
    records = b"".join(
        b"\xc0\x0c" + struct.pack("!HHIH", kind[len(a)], 1, ttl, len(a)) + a
        for a in addresses
        if kind[len(a)] == int.from_bytes(query[end - 4 : end - 2], "big")
    )
    count = records.count(b"\xc0\x0c")
    return query[:2] + struct.pack("!5H", flags, 1, count, 0, 0) + query[12:end] + records


class Server(asyncio.DatagramProtocol):
    """Answers over UDP as `says`, over TCP as `says_at_length`; who was asked how often."""

    def __init__(self, says: Says, says_at_length: Says = lambda query: []) -> None:
        self.says, self.says_at_length, self.asked = says, says_at_length, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.asked += 1
        for answer in self.says(data):
            self.transport.sendto(answer, addr)  # type: ignore[attr-defined]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        for answer in self.says_at_length(query):
            writer.write(len(answer).to_bytes(2, "big") + answer)
        writer.close()


def ask(*servers: Server, kinds: tuple[Kind, ...] = (Kind.A,)) -> Answer | None:
    """What a resolver finds with servers at 127.0.0.1, 127.0.0.2 and so on."""

    async def run() -> Answer | None:
        loop = asyncio.get_running_loop()
        listening = await asyncio.start_server(servers[0].serve, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        names = [f"127.0.0.{n + 1}" for n in range(len(servers))]
        open_ = [
            await loop.create_datagram_endpoint(lambda s=server: s, local_addr=(name, port))  # type: ignore[misc]
            for name, server in zip(names, servers, strict=True)
        ]
        try:
            return await HostResolver(names, kinds, port).resolve("api.example.com")
        finally:
            for transport, _ in open_:
                transport.close()
            listening.close()

    return asyncio.run(run())


FOUR, SIX = bytes((192, 0, 2, 1)), bytes(15) + b"\x07"
GOOD: Says = lambda query: [reply(query, FOUR)]  # noqa: E731


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_resolver, "DNS_ANSWER_TIMEOUT", 300)


def test_both_kinds_are_one_answer() -> None:
    server = Server(lambda query: [reply(query, FOUR, SIX)])
    assert ask(server, kinds=(Kind.A, Kind.AAAA)) == Answer(("192.0.2.1", "::7"), 60, False)
    assert server.asked == 2


def test_only_kinds_that_the_pod_can_reach_are_asked_for() -> None:
    server = Server(GOOD)
    assert ask(server) == Answer(("192.0.2.1",), 60, False)
    assert server.asked == 1


@pytest.mark.parametrize(
    "says",
    [
        lambda query: [],
        lambda query: [reply(query, flags=0x8182)],
        lambda query: [reply(query)],
        lambda query: [b"", b"nonsense"],
    ],
    ids=["silent", "an error", "no address", "nonsense"],
)
def test_a_server_that_does_not_answer_is_followed_by_the_next(says: Says) -> None:
    second = Server(GOOD)
    assert ask(Server(says), second) == Answer(("192.0.2.1",), 60, False)
    assert ask(Server(says)) is None


def test_N2_datagrams_that_answer_something_else_are_passed_over() -> None:
    def says(query: bytes) -> list[bytes]:
        forged = bytes((query[0] ^ 1,)) + reply(query, bytes((10, 0, 0, 1)))[1:]
        return [forged, b"", reply(query, FOUR)]

    assert ask(Server(says)) == Answer(("192.0.2.1",), 60, False)


def test_what_does_not_fit_a_datagram_comes_over_tcp() -> None:
    assert ask(Server(lambda query: [reply(query, flags=0x8380)], GOOD)) == Answer(("192.0.2.1",), 60, False)


@pytest.mark.parametrize(
    "at_length",
    [lambda query: [], lambda query: [b"short"], lambda query: [bytes(MAX_DNS_ANSWER + 1)]],
    ids=["closed", "short", "long"],
)
def test_over_tcp_too_an_answer_has_to_be_one(at_length: Says) -> None:
    assert ask(Server(lambda query: [reply(query, flags=0x8380)], at_length)) is None


def test_without_servers_there_is_no_answer() -> None:
    assert asyncio.run(HostResolver((), (Kind.A,)).resolve("api.example.com")) is None
    assert asyncio.run(HostResolver(("192.0.2.255",), ()).resolve("api.example.com")) is None


def test_resolv_conf_names_the_servers(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("# x\nsearch a b\nnameserver 10.0.0.1\nnameserver nonsense\nnameserver\n")
    assert nameservers(str(path)) == ("10.0.0.1",)
    path.write_text("".join(f"nameserver fd00::{n} # more\n" for n in range(1, 9)))
    assert nameservers(str(path)) == ("fd00::1", "fd00::2", "fd00::3")
    assert nameservers(str(tmp_path / "missing")) == ()
