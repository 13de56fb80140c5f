"""Stand-ins for everything that a pod is joined of: they write down what is done to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from toposeal.daemon import pod
from toposeal.daemon.config import RunConfig
from toposeal.dataplane.firewall import Backend
from toposeal.dataplane.view import PodView
from toposeal.errors import Mismatch, PodError
from toposeal.gate.machine import State
from toposeal.host import netlink
from toposeal.membership.events import Left, Send
from toposeal.membership.state import Own
from toposeal.outside.pushed import Pushed


class Parts:
    """What the pod is made of; `fails` names the step that fails, `hangs` the one that never ends."""

    def __init__(self, own: Own) -> None:
        self.own = own
        self.done: list[str] = []
        self.expected: list[int] = []  # versions of topologies that the gate was told of
        self.fails, self.hangs = "", ""
        self.stays = False  # nobody can do without it
        self.farewell: tuple[Send, ...] = ()
        self.error: BaseException = ZeroDivisionError()
        self.on_change: Callable[[PodError], None] = lambda error: None
        self.on_local: Callable[[tuple[str, ...]], None] = lambda addresses: None
        self.on_fault: Callable[[Mismatch], None] = lambda mismatch: None
        self.deliver: Callable[[bytes], None] = lambda data: None
        self.calls: Mapping[str, Callable[[bytes], bytes]] = {}
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
    """In the place of all that the pod's module is given, and of what it asks of the kernel's network."""
    for subject in (_link, _rules, _gate_parts, _gate, _names, _answers, _member):
        for name, stand_in in subject(parts).items():
            monkeypatch.setattr(pod, name, stand_in)
    for name, stand_in in _network(parts).items():
        monkeypatch.setattr(netlink, name, stand_in)


def _link(parts: Parts) -> dict[str, object]:
    class Server:
        def __init__(
            self,
            deliver: Callable[[bytes], None],
            identity: object,
            heard: object,
            calls: Mapping[str, Callable[[bytes], bytes]],
        ) -> None:
            parts.deliver, parts.calls = deliver, calls

        async def start(self, address: str) -> None:
            await parts.do("port")

        async def stop(self) -> None:
            parts.done.append("no port")

    class Client:
        def __init__(self, *_: object) -> None:
            pass

        def send(self, addresses: tuple[str, ...], data: bytes) -> None:
            parts.done.append(f"sent {data!r} to {addresses}")

        async def close(self) -> None:
            parts.done.append("no link")

    return {"PeerServer": Server, "PeerClient": Client}


def _rules(parts: Parts) -> dict[str, object]:
    class Monitor:
        def __init__(self, backend: Backend, on_change: Callable[[PodError], None]) -> None:
            parts.on_change = on_change

        async def run(self) -> None:
            parts.done.append("watch rules")
            await parts.watch_ends.wait()

    return {"Monitor": Monitor}


def _gate_parts(parts: Parts) -> dict[str, object]:
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

    class Discovery:
        async def start(self, path: str, group: int) -> None:
            await parts.do("discovery")

        async def stop(self) -> None:
            parts.done.append("no discovery")

    return {"XdsDirectory": Directory, "DiscoveryServer": Discovery, "Renderer": Renderer, "Probe": Probe}


def _gate(parts: Parts) -> dict[str, object]:
    class FakeGate:
        state = State.CLOSED

        def __init__(self, made_of: object, on_fault: Callable[[Mismatch], None]) -> None:
            parts.on_fault = on_fault

        async def start(self) -> None:
            await parts.do("envoy")

        async def expect(self, view: PodView) -> None:
            parts.expected.append(view.topology.version)

        async def fence(self) -> None:
            parts.done.append("no envoy")

    class Identity:
        """Of the application."""

        def __init__(self, own: Own, path: str) -> None:
            parts.done.append(f"identity at {path}")

        def entitle(self, view: PodView | None) -> None:
            parts.done.append("no identity" if view is None else "identity")

        async def run(self) -> None:
            await asyncio.Event().wait()

        async def close(self) -> None:
            parts.done.append("no socket")

    return {"Gate": FakeGate, "AppIdentity": Identity}


def _names(parts: Parts) -> dict[str, object]:
    class Dns:
        names: object = None

        async def start(self) -> None:
            await parts.do("names")

        def close(self) -> None:
            parts.done.append("no names")

    return {"DnsServer": Dns}


def _answers(parts: Parts) -> dict[str, object]:
    class Answers:
        def __init__(self, answer: object, push: object, status: object, history: object) -> None:
            pass

        async def start(self, path: str, group: int) -> None:
            await parts.do("answers")

        def close(self) -> None:
            parts.done.append("no answers")

    class MetricsServer:
        def __init__(self, text: object, healthy: object) -> None:
            pass

        async def start(self, path: str, group: int) -> None:
            await parts.do(f"figures at {path} for {group}")

        def close(self) -> None:
            parts.done.append("no figures")

    return {"AttestationServer": Answers, "MetricsServer": MetricsServer}


def _member(parts: Parts) -> dict[str, object]:
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

        async def leave(self) -> Left:
            parts.done.append("leave")
            if parts.stays:
                await asyncio.Event().wait()
            return Left(bool(parts.farewell), parts.farewell)

        def receive(self, data: bytes) -> None:
            parts.done.append(f"received {data!r}")

        def push(self, envelope: bytes) -> Pushed:
            parts.done.append(f"pushed {envelope!r}")
            return Pushed(True, 8)

    def keys(config: RunConfig, found: tuple[str, ...]) -> Own:
        parts.now("keys")
        return parts.own

    return {"Node": Node, "new_boot": keys}


def _network(parts: Parts) -> dict[str, object]:
    async def addresses() -> tuple[str, ...]:
        await parts.do("address")
        return () if parts.hangs == "no address" else ("10.0.0.1",)

    async def forever(*_: object) -> None:
        await asyncio.Event().wait()

    async def locals_(on_found: Callable[[tuple[str, ...]], None]) -> None:
        parts.on_local = on_found
        await forever()

    async def nothing() -> None:
        pass

    return {
        "own_addresses": addresses,
        "watch_addresses": forever,
        "watch_local_addresses": locals_,
        "route_synthetic_addresses": nothing,
        "reuse_time_wait": lambda: None,
    }
