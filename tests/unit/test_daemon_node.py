"""The node drives production state machines in real time; only the vendor's evidence is symbolic."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import Any

import pytest

from toposeal._wire import evidence_pb2 as wire_evidence
from toposeal.daemon.node import Node, Ports
from toposeal.errors import (
    LocalProtocolError,
    Mismatch,
    PodError,
    QuoteSourceError,
    Reason,
    RemoteProtocolError,
    TopologyError,
    ToposealError,
)
from toposeal.evidence.binding import Binding, Purpose
from toposeal.host.entropy import random_bytes
from toposeal.host.journal import clock_ms
from toposeal.membership import machine
from toposeal.membership.events import Appraise, Received, Refused, Subject, Ticket
from toposeal.membership.sealed import SealedManifest
from toposeal.membership.state import Active, Boot, Own
from toposeal.outside.pushed import Pushed
from toposeal.topology.model import Topology
from toposeal.verification.model import VerifiedEvidence
from toposeal_lab.simulation.network import Network, signed_topology, symbolic_appraisal, symbolic_evidence


class Platform:
    """Symbolic quotes of one role; `broken` makes it fail."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.broken = False
        self.asked: list[Purpose] = []

    def quote(self, binding: Binding, deadline_s: float) -> wire_evidence.Evidence:
        self.asked.append(binding.purpose)
        if self.broken:
            raise QuoteSourceError.of(Reason.QUOTE_SOURCE, "outblob", "EIO", "a quote")
        return symbolic_evidence(binding, self.role)


class Wire:
    """Hands envelopes to the other nodes as the peer server would: refusals stay with the sender."""

    def __init__(self, nodes: dict[str, Node], own: str) -> None:
        self.nodes, self.own = nodes, own

    def send(self, addresses: tuple[str, ...], data: bytes) -> None:
        for address in addresses:
            if address in self.nodes and address != self.own:
                asyncio.get_running_loop().call_soon(self._deliver, self.nodes[address], data)

    def announce(self, messages: tuple[bytes, ...], known: Collection[str]) -> None:
        for data in messages:
            self.send(tuple(address for address in self.nodes if address not in known), data)

    def _deliver(self, node: Node, data: bytes) -> None:
        with suppress(ToposealError):
            node.receive(data)


ROLES = {"db": (1, 1), "web": (1, 1)}


def appraise(evidence: wire_evidence.Evidence, binding: Binding, topology: Topology) -> VerifiedEvidence:
    answer = symbolic_appraisal(Appraise(Ticket(Subject.JOIN, b"", b""), evidence, binding, topology))
    if isinstance(answer, Refused):
        raise RemoteProtocolError(answer.mismatch)
    return answer.verified


class Mesh:
    """Two roles, one member each, on one event loop."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.platforms: dict[str, Platform] = {}
        self.active: list[SealedManifest] = []
        self.expected: list[int] = []  # versions of topologies
        self.served: list[bool] = []  # what suspend (False) and resume (True) said, in order
        self._network = Network(signed_topology(ROLES, ping_ms=200))

    def add(
        self,
        role: str,
        activate: Callable[[SealedManifest], Any] | None = None,
        appraise: Callable[..., VerifiedEvidence] = appraise,
    ) -> Node:
        own: Own = self._network.boot(role).member.own
        platform = self.platforms[role] = Platform(role)
        wire = Wire(self.nodes, own.addresses[0])
        ports = Ports(
            platform,
            wire,
            appraise,
            random_bytes,
            clock_ms,
            activate or self._activate,
            self._expect,
            self._suspend,
            self._resume,
        )
        node = self.nodes[own.addresses[0]] = Node(own, ports)
        return node

    async def _activate(self, sealed: SealedManifest) -> None:
        self.active.append(sealed)

    async def _expect(self, topology: Topology) -> None:
        self.expected.append(topology.version)

    async def _suspend(self) -> None:
        self.served.append(False)

    async def _resume(self) -> None:
        self.served.append(True)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(bounded())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


FAULT = Mismatch(Reason.FIREWALL_CHANGED, "rules", "another rule", "the lockdown")


def test_two_nodes_seal_and_answer_live_and_a_fault_ends_one() -> None:
    async def go() -> None:
        mesh = Mesh()
        nodes = [mesh.add("web"), mesh.add("db")]
        tasks = [asyncio.create_task(node.run()) for node in nodes]
        await until(lambda: len(mesh.active) == 2)
        assert mesh.active[0].manifest.digest == mesh.active[1].manifest.digest
        assert mesh.platforms["web"].asked == [Purpose.JOIN, Purpose.SEAL]
        quoted_at = nodes[0].quoted_at
        assert quoted_at is not None
        _, sealed, evidence = await nodes[0].live(b"\x07" * 32)
        assert quoted_at <= (nodes[0].quoted_at or 0) <= clock_ms()
        assert sealed.manifest.digest == mesh.active[0].manifest.digest
        assert mesh.platforms["web"].asked[-1] is Purpose.LIVE
        assert evidence.quote
        for node in nodes:
            node.fault(FAULT)
        assert await asyncio.gather(*tasks) == [FAULT, FAULT]

    run(go)


def test_T4_a_topology_from_outside_is_news_once_and_an_older_one_is_refused() -> None:
    async def go() -> None:
        mesh = Mesh()
        nodes = [mesh.add("web"), mesh.add("db")]
        second, third, other = (
            signed_topology(ROLES, version=version, issued_at=issued, ping_ms=200).envelope
            for version, issued in ((2, 1), (3, 1), (3, 2))
        )
        with pytest.raises(RemoteProtocolError):
            nodes[0].push(second)
        tasks = [asyncio.create_task(node.run()) for node in nodes]
        await until(lambda: len(mesh.active) == 2)
        assert mesh.expected == []  # a change of members needs nothing made ready
        assert nodes[0].push(third) == Pushed(True, 3)
        assert nodes[0].push(third) == Pushed(False, 3)
        await until(lambda: {s.manifest.topology_version for s in mesh.active[2:]} == {3})
        await until(lambda: len(mesh.active) == 4)
        assert mesh.expected == [3, 3]
        signed, sealed, _ = await nodes[1].live(bytes([7]) * 32)
        assert signed.envelope == third and sealed.topology == signed.topology
        for envelope, reason in (
            (second, Reason.TOPOLOGY_ROLLBACK), (other, Reason.TOPOLOGY_EQUIVOCATION),
            (third, Reason.TOPOLOGY_EQUIVOCATION),
        ):  # fmt: skip
            with pytest.raises(TopologyError) as refused:
                nodes[0].push(envelope)
            assert refused.value.reason is reason
        leaving = asyncio.create_task(nodes[1].leave())
        await asyncio.sleep(0)
        with pytest.raises(RemoteProtocolError):
            nodes[1].push(third)
        leaving.cancel()
        for node in nodes:
            node.fault(FAULT)
        await asyncio.gather(*tasks)

    run(go)


def test_V4_live_is_refused_before_the_manifest_is_active() -> None:
    async def go() -> None:
        mesh = Mesh()
        node = mesh.add("web")
        assert node.quoted_at is None
        with pytest.raises(RemoteProtocolError) as refused:
            await node.live(bytes(32))
        assert refused.value.reason is Reason.NOT_ACTIVE
        task = asyncio.create_task(node.run())
        await until(lambda: Purpose.JOIN in mesh.platforms["web"].asked)
        with pytest.raises(RemoteProtocolError) as refused:
            await node.live(bytes(32))
        assert refused.value.reason is Reason.NOT_ACTIVE
        assert mesh.platforms["web"].asked == [Purpose.JOIN]
        node.fault(FAULT)
        await task

    run(go)


def test_a_platform_without_quotes_fences_with_its_reason() -> None:
    async def go() -> None:
        mesh = Mesh()
        node = mesh.add("web")
        mesh.platforms["web"].broken = True
        assert (await node.run()).reason is Reason.QUOTE_SOURCE

    run(go)


def test_evidence_of_another_role_keeps_the_member_from_beginning() -> None:
    """It waits for a topology that says otherwise, and takes one meanwhile."""

    async def go() -> None:
        mesh = Mesh()
        node = mesh.add("web")
        mesh.platforms["web"].role = "db"
        running = asyncio.create_task(node.run())
        while (reason := refusal(node)) is None:
            await asyncio.sleep(0.01)
        assert reason is Reason.ROLE_MISMATCH
        newer = signed_topology(ROLES, version=2, ping_ms=200)
        assert node.push(newer.envelope) == Pushed(True, 2)
        node.fault(FAULT)
        assert await running == FAULT

    run(go)


def refusal(node: Node) -> Reason | None:
    """Why a member that boots waits."""
    phase = node.member.phase if node.member else None
    return phase.refused.reason if isinstance(phase, Boot) and phase.refused else None


def test_S9_a_task_that_dies_ends_the_node() -> None:
    async def explode(sealed: SealedManifest) -> None:
        raise ZeroDivisionError

    async def go() -> None:
        mesh = Mesh()
        nodes = [mesh.add("web", explode), mesh.add("db")]
        tasks = [asyncio.create_task(node.run()) for node in nodes]
        with pytest.raises(ExceptionGroup) as died:
            await tasks[0]
        assert died.group_contains(ZeroDivisionError)
        nodes[1].fault(FAULT)
        await tasks[1]

    run(go)


class Panic(BaseException):
    """As a library in another language raises it."""


@pytest.mark.parametrize("error", [ValueError("canary"), MemoryError(), Panic("canary")], ids=repr)
def test_E14_evidence_that_breaks_a_parser_is_refused_and_the_pod_goes_on(
    error: BaseException, capfd: pytest.CaptureFixture[str]
) -> None:
    """Else a stranger's bytes would end whoever looks at them."""

    async def go() -> None:
        mesh = Mesh()
        node = mesh.add("web")
        other = mesh.add("db", appraise=_raising(error, "web"))
        tasks = [asyncio.create_task(each.run()) for each in (node, other)]
        told: list[str] = []

        def is_told() -> bool:
            told.append(capfd.readouterr().out)
            return type(error).__name__ in "".join(told)

        await until(is_told)
        assert '"field": "evidence"' in "".join(told) and "canary" not in "".join(told)
        assert not any(task.done() for task in tasks) and not mesh.active
        for each in (node, other):
            each.fault(FAULT)
        await asyncio.gather(*tasks)

    run(go)


def _raising(error: BaseException, role: str) -> Callable[..., VerifiedEvidence]:
    """An appraisal that fails so on evidence of `role`."""

    def fails(evidence: wire_evidence.Evidence, binding: Binding, topology: Topology) -> VerifiedEvidence:
        if binding.role == role:
            raise error
        return appraise(evidence, binding, topology)

    return fails


def test_a_refused_envelope_changes_nothing_and_names_its_reason(capfd: pytest.CaptureFixture[str]) -> None:
    async def go() -> None:
        mesh = Mesh()
        nodes = [mesh.add("web"), mesh.add("db")]
        with pytest.raises(RemoteProtocolError):
            nodes[0].receive(b"before boot")
        tasks = [asyncio.create_task(node.run()) for node in nodes]
        await until(lambda: len(mesh.active) == 2)
        before = nodes[0].member
        with pytest.raises(RemoteProtocolError):
            nodes[0].receive(b"\xff\xff garbage")
        assert nodes[0].member is before
        assert before is not None and isinstance(before.phase, Active)
        for node in nodes:
            node.fault(FAULT)
        await asyncio.gather(*tasks)

    run(go)
    assert '"event": "refused", "reason": "malformed"' in capfd.readouterr().out


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (LocalProtocolError.of(Reason.ILLEGAL_EVENT, "phase", "odd", "even"), "illegal_event"),
        (ZeroDivisionError("canary"), "ZeroDivisionError at"),
        (KeyError("canary"), "KeyError at"),
    ],
)
def test_S9_an_error_of_our_own_in_a_message_fences(
    error: Exception, told: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A stranger's message is refused and changes nothing; whatever else comes of one, the member ends."""

    def step(member: object, event: object, now: int) -> tuple[object, tuple[()]]:
        if isinstance(event, Received):
            raise error
        return member, ()

    async def go() -> None:
        mesh = Mesh()
        node = mesh.add("web")
        task = asyncio.create_task(node.run())
        await until(lambda: node.member is not None)
        monkeypatch.setattr(machine, "step", step)
        with pytest.raises(type(error)):
            node.receive(b"x")
        with pytest.raises(type(error)):
            node.receive(b"x")
        assert told in str(await task)

    run(go)
    out = capfd.readouterr().out
    assert out.count('"event": "fence"') == 1
    assert "canary" not in out


def test_what_fails_because_the_member_has_fenced_is_no_second_reason(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """As a gate that fences itself: it reports, and its opening fails."""

    async def go() -> None:
        mesh = Mesh()

        async def report_and_fail(sealed: SealedManifest) -> None:
            nodes[0].fault(FAULT)
            raise PodError.of(Reason.ENVOY_FAILED, "envoy", "gone", "running")

        nodes = [mesh.add("web", report_and_fail), mesh.add("db")]
        tasks = [asyncio.create_task(node.run()) for node in nodes]
        assert await tasks[0] == FAULT
        nodes[1].fault(FAULT)
        await tasks[1]

    run(go)
    assert capfd.readouterr().out.count('"event": "fence"') == 2
