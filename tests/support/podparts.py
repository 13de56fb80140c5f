"""Stand-ins for everything that a pod is joined of: they write down what is done to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from toposeal.daemon import pod
from toposeal.daemon.config import RunConfig
from toposeal.dataplane.firewall import Backend
from toposeal.errors import Mismatch, PodError
from toposeal.gate.machine import State
from toposeal.host import netlink
from toposeal.membership.state import Own


class Parts:
    """What the pod is made of; `fails` names the step that fails, `hangs` the one that never ends."""

    def __init__(self, own: Own) -> None:
        self.own = own
        self.done: list[str] = []
        self.fails, self.hangs = "", ""
        self.error: BaseException = ZeroDivisionError()
        self.on_change: Callable[[PodError], None] = lambda error: None
        self.on_fault: Callable[[Mismatch], None] = lambda mismatch: None
        self.deliver: Callable[[bytes], None] = lambda data: None
        self.node: Any = None
        self.watch_ends = asyncio.Event()

    def now(self, step: str) -> None:
        self.done.append(step)
        if step == self.fails:
            raise self.error

    async def do(self, step: str) -> None:
        await asyncio.sleep(0)
        self.now(step)
        if step == self.hangs:
            await asyncio.Event().wait()


def stand_ins(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    class Server:
        def __init__(self, deliver: Callable[[bytes], None], *_: object) -> None:
            parts.deliver = deliver

        async def start(self, address: str) -> None:
            await parts.do("port")

        async def stop(self) -> None:
            parts.done.append("no port")

    class Monitor:
        def __init__(self, backend: Backend, on_change: Callable[[PodError], None]) -> None:
            parts.on_change = on_change

        async def run(self) -> None:
            parts.done.append("watch rules")
            await parts.watch_ends.wait()

    class Directory:
        def __init__(self, *_: object, **__: object) -> None:
            parts.now("directory")

        def close(self) -> None:
            parts.done.append("no directory")

    class Renderer:
        def __init__(self, child: object) -> None:
            pass

        async def prepare(self) -> None:
            await parts.do("renderer")

        async def close(self) -> None:
            parts.done.append("no renderer")

    class Probe:
        @classmethod
        async def start(cls, path: str) -> Probe:
            await parts.do("probe")
            return cls()

        async def close(self) -> None:
            parts.done.append("no probe")

    class FakeGate:
        state = State.CLOSED

        def __init__(self, made_of: object, on_fault: Callable[[Mismatch], None]) -> None:
            parts.on_fault = on_fault

        async def start(self) -> None:
            await parts.do("envoy")

        async def fence(self) -> None:
            parts.done.append("no envoy")

    class Dns:
        names: object = None

        async def start(self) -> None:
            await parts.do("names")

        def close(self) -> None:
            parts.done.append("no names")

    class Answers:
        def __init__(self, answer: object) -> None:
            pass

        async def start(self, path: str, group: int) -> None:
            await parts.do("answers")

        def close(self) -> None:
            parts.done.append("no answers")

    class Client:
        def __init__(self, *_: object) -> None:
            pass

        async def close(self) -> None:
            parts.done.append("no link")

    class Node:
        def __init__(self, own: Own, ports: object) -> None:
            self.member: object = None
            self.ended: asyncio.Future[Mismatch] = asyncio.get_running_loop().create_future()
            parts.node = self

        async def run(self) -> Mismatch:
            await parts.do("node")
            self.member = object()
            return await self.ended

        def fault(self, mismatch: Mismatch) -> None:
            parts.done.append("fault")
            self.ended.set_result(mismatch)

        def receive(self, data: bytes) -> None:
            parts.done.append(f"received {data!r}")

    async def addresses() -> tuple[str, ...]:
        await parts.do("address")
        return () if parts.hangs == "no address" else ("10.0.0.1",)

    async def forever(*_: object) -> None:
        await asyncio.Event().wait()

    async def nothing() -> None:
        pass

    def keys(config: RunConfig, found: tuple[str, ...]) -> Own:
        parts.now("keys")
        return parts.own

    monkeypatch.setattr(pod, "PeerServer", Server)
    monkeypatch.setattr(pod, "Monitor", Monitor)
    monkeypatch.setattr(pod, "XdsDirectory", Directory)
    monkeypatch.setattr(pod, "Renderer", Renderer)
    monkeypatch.setattr(pod, "Probe", Probe)
    monkeypatch.setattr(pod, "Gate", FakeGate)
    monkeypatch.setattr(pod, "DnsServer", Dns)
    monkeypatch.setattr(pod, "AttestationServer", Answers)
    monkeypatch.setattr(pod, "PeerClient", Client)
    monkeypatch.setattr(pod, "Node", Node)
    monkeypatch.setattr(pod, "new_boot", keys)
    monkeypatch.setattr(netlink, "own_addresses", addresses)
    monkeypatch.setattr(netlink, "watch_addresses", forever)
    monkeypatch.setattr(netlink, "route_synthetic_addresses", nothing)
    monkeypatch.setattr(netlink, "reuse_time_wait", lambda: None)
