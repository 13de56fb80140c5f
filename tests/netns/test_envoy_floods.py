"""Whoever has used up its share of connections leaves the others theirs (R1).

One pod with a real Envoy, shares so small that a test can use them up, and clients outside of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from support.daemons import eventually
from support.datapath import Hand
from support.envoy import InProcess, Opened, altered, mesh_member, pod_view, running_gate, state_directory
from support.forge import TestMember
from support.inside import lockdown
from support.shop import role, topology

from toposeal.dataplane.discovery import Update
from toposeal.dataplane.envoy_closed import _LISTENER_LIMITS as LISTENER_LIMITS
from toposeal.dataplane.envoy_plan import PodPlan
from toposeal.host import netlink
from toposeal.topology.model import Call, Ingress
from toposeal_lab.pods import Node, Pod

PORT, INGRESS = 8080, 8443
SHARE, OUTBOUND, FLOOD = 10, 5, 25
POURED = 4 << 20  # more than every buffer on the way takes
SMALL_HEAP = 28 << 20  # without a connection 18 MiB are in use
CALL = (Call("db", PORT),)
CROWD = topology(
    role("web", 2, calls=CALL),
    role("db", 1, serves=(PORT,), calls=CALL, ingress=(Ingress(INGRESS, PORT),)),
)
LOUD, QUIET, DB = TestMember("web"), TestMember("web"), TestMember("db")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@pytest.fixture
def pod(node: Node, monkeypatch: pytest.MonkeyPatch) -> Pod:
    """Its own calls to itself take a part too: three times SHARE are divided."""
    monkeypatch.setattr("toposeal.dataplane.shares.MEMBER_CONNECTIONS", 3 * SHARE)
    monkeypatch.setattr("toposeal.dataplane.shares.MIN_MEMBER_CONNECTIONS", 1)
    monkeypatch.setattr("toposeal.dataplane.shares.INGRESS_CONNECTIONS", SHARE)
    monkeypatch.setitem(LISTENER_LIMITS, "envoy.resource_limits.listener.out.connection_limit", str(OUTBOUND))
    made = node.pod("db")
    lockdown(made)
    with made.inside():
        asyncio.run(netlink.route_synthetic_addresses())
    return made


def with_db(pod: Pod, test: Callable[[], None], renderer: InProcess | None = None) -> None:
    """Run `test` in a thread while the pod is open and its application greets whoever comes."""

    async def run(state: Path) -> None:
        async with running_gate(state, renderer=renderer) as opened:
            server = await asyncio.start_server(greet, "0.0.0.0", PORT)
            await open_to_both(opened, pod)
            await asyncio.to_thread(test)
            server.close()

    with state_directory() as state, pod.inside():
        asyncio.run(run(state))


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Once at the start, and once more for all that it is told."""
    writer.write(b"served")
    with suppress(ConnectionError):
        while said := await reader.read(100):
            writer.write(b"still" if said != b"pour" else bytes(POURED))
    writer.close()


def open_to_both(opened: Opened, pod: Pod) -> Awaitable[None]:
    own = mesh_member(DB, *pod.addresses)
    others = [mesh_member(LOUD, "10.77.0.98"), mesh_member(QUIET, "10.77.0.99")]
    return opened.open(pod_view(CROWD, own, [own, *others]), DB)


def hand(node: Node, member: TestMember) -> Hand:
    return Hand(node.host(), member.chain_pem, member.key_pem, member.domain)


def dial(client: Hand, pod: Pod, port: int, held: ExitStack) -> ssl.SSLSocket | None:
    """A connection that the application has greeted, open until `held` ends; None if it is refused."""
    with client.place.inside():
        raw = held.enter_context(socket.create_connection((pod.ipv4, port), 3))
    with suppress(ConnectionResetError, ssl.SSLEOFError):
        connection = held.enter_context(client.context().wrap_socket(raw, server_hostname=client.sni))
        return connection if connection.recv(100) == b"served" else None
    return None


@contextmanager
def flood(client: Hand, pod: Pod, port: int = PORT) -> Iterator[list[ssl.SSLSocket]]:
    """FLOOD connections at once; those that the application has greeted."""
    with ExitStack() as held:
        dialled = [dial(client, pod, port, held) for _ in range(FLOOD)]
        yield [connection for connection in dialled if connection is not None]


def is_served(client: Hand, pod: Pod, port: int = PORT) -> bool:
    with ExitStack() as held:
        return dial(client, pod, port, held) is not None


def test_R1_D7_a_member_that_floods_uses_up_its_own_share_and_no_other(
    node: Node, pod: Pod, capfd: pytest.CaptureFixture[str]
) -> None:
    loud, quiet = hand(node, LOUD), hand(node, QUIET)

    def test() -> None:
        with flood(loud, pod) as served:
            assert len(served) == SHARE
            assert (is_served(loud, pod), is_served(quiet, pod)) == (False, True)
            for connection in served:  # what was let in is not touched
                speaks(connection)
        eventually(lambda: is_served(loud, pod) or None)

    with_db(pod, test)  # what Envoy has said is read to the end
    refused = [json.loads(line) for line in capfd.readouterr().out.splitlines() if "too_many" in line]
    assert {event["chain"] for event in refused} == {f"in|{PORT}|{LOUD.domain}"}


class OneShare(InProcess):
    """Both clients lead to one cluster."""

    async def render(self, plan: PodPlan) -> Update:
        old, new = (f'"cluster": "app|{PORT}|{member.domain}"'.encode() for member in (QUIET, LOUD))
        return altered(await super().render(plan), old, new)


def test_R1_with_one_share_for_both_the_flood_shuts_the_other_out(node: Node, pod: Pod) -> None:
    """Positive control."""

    def test() -> None:
        with flood(hand(node, LOUD), pod):
            assert not is_served(hand(node, QUIET), pod)

    with_db(pod, test, OneShare())


def test_R1_strangers_who_show_a_members_name_use_up_nothing_of_its_share(node: Node, pod: Pod) -> None:
    """They begin a handshake that they cannot end: with the name, which anybody reads on the wire."""

    def test() -> None:
        hello = client_hello(LOUD.domain)
        with ExitStack() as held:
            for _ in range(3 * FLOOD):
                with node.host().inside():
                    raw = held.enter_context(socket.create_connection((pod.ipv4, PORT), 3))
                raw.sendall(hello)
                assert raw.recv(1) == b"\x16"  # Envoy has answered it
            assert (is_served(hand(node, LOUD), pod), is_served(hand(node, QUIET), pod)) == (True, True)

    with_db(pod, test)


def client_hello(name: str) -> bytes:
    context = ssl.create_default_context()
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def test_R1_outside_clients_use_up_nothing_of_what_members_have(node: Node, pod: Pod) -> None:
    def test() -> None:
        anybody = Hand(node.host(), sni=DB.domain)
        with flood(anybody, pod, INGRESS) as served:
            assert len(served) == SHARE
            assert not is_served(anybody, pod, INGRESS)
            assert is_served(hand(node, QUIET), pod)

    with_db(pod, test)


def test_R1_a_program_that_floods_leaves_whoever_comes_in_alone(node: Node, pod: Pod) -> None:
    """The pod's own application, outbound; to itself, which is the shortest way."""

    def test() -> None:
        with ExitStack() as held:
            answers = []
            for _ in range(FLOOD):
                connection = held.enter_context(socket.create_connection(("240.10.0.1", PORT), 3))
                try:
                    answers.append(connection.recv(100))
                except OSError:
                    answers.append(b"")
            assert answers == [b"served"] * OUTBOUND + [b""] * (FLOOD - OUTBOUND)
            assert is_served(hand(node, QUIET), pod)

    with_db(pod, test)


def test_R1_slow_readers_who_use_up_envoys_memory_shut_others_out_only_while_they_stay(
    node: Node, pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was let in before is served on, and Envoy is neither killed nor replaced."""
    monkeypatch.setattr("toposeal.dataplane.shares.MEMBER_CONNECTIONS", 3_000)
    monkeypatch.setattr("toposeal.dataplane.envoy_closed.ENVOY_HEAP", SMALL_HEAP)
    loud, quiet = hand(node, LOUD), hand(node, QUIET)

    def test() -> None:
        with ExitStack() as early:
            kept = dial(quiet, pod, PORT, early)
            assert kept is not None
            with ExitStack() as held:
                while (slow := dial(loud, pod, PORT, held)) is not None:
                    slow.sendall(b"pour")
                assert not is_served(quiet, pod)
                speaks(kept)
            eventually(lambda: is_served(quiet, pod) or None)
            speaks(kept)

    with_db(pod, test)


def speaks(connection: ssl.SSLSocket) -> None:
    connection.sendall(b"hello")
    assert connection.recv(100) == b"still"
