"""Members that come and go while connections stand, and a pod that may not serve: real Envoys, real sockets.

One mesh for the whole file: `web` and `batch` call `api`, of which there are two. Whoever is removed goes on
with what it had: one honest end has to be enough. Each test leaves the mesh as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest
from support.daemons import command_name, eventually, gone
from support.datapath import TIMEOUT, Hand, in_background, talk
from support.envoy import (
    InProcess,
    Opened,
    leaf_secrets,
    mesh_member,
    pod_view,
    running_gate,
    state_directory,
)
from support.forge import TestMember
from support.held import Held, echo, hold
from support.inside import lockdown
from support.keys import admin
from support.shop import role, topology

from toposeal.daemon.opening import Opening
from toposeal.dataplane.discovery import Kind, Update
from toposeal.dataplane.envoy_plan import PodPlan
from toposeal.dataplane.layout import CLOSED_MARK, OPEN_MARK
from toposeal.dataplane.view import MeshMember, PodView
from toposeal.dataplane.vips import vip
from toposeal.errors import PodError, Reason
from toposeal.gate.machine import State
from toposeal.host import netlink
from toposeal.host.connections import destroy_sockets
from toposeal.host.gate import Gate
from toposeal.limits import CONNECT_TIMEOUT, DAEMON_UID
from toposeal.membership.sealed import SealedManifest
from toposeal.membership.state import Own
from toposeal.topology.model import Call, Ingress
from toposeal_lab.pods import Node, Pod

PORT, INGRESS = 8080, 8443
CALLS = (Call("api", PORT),)
MESH = topology(
    role("api", 3, serves=(PORT,), calls=CALLS, ingress=(Ingress(INGRESS, PORT),)),
    role("batch", 1, calls=CALLS),
    role("web", 1, calls=CALLS),
)
VIP = vip(MESH, "api")
SOON = 3.0  # seconds; what a topology gives for draining by default is 10
NOBODYS = "10.77.0.250"
T = TypeVar("T")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


class Spoilt(InProcess):
    """Renders what Envoy refuses while `spoilt`."""

    spoilt = False

    async def render(self, plan: PodPlan) -> Update:
        update = await super().render(plan)
        if not self.spoilt:
            return update
        listeners = {name: data + b"\xfa\x7f\x00" for name, data in update[Kind.LISTENER].resources.items()}
        return {**update, Kind.LISTENER: replace(update[Kind.LISTENER], resources=listeners)}


@dataclass(frozen=True)
class Manifest:
    """As much of a sealed one as the opening looks at, and whose it is."""

    view: PodView
    epoch: int = 1

    @property
    def manifest(self) -> Manifest:
        return self


class Place:
    """A pod, who is in it, and what opens it."""

    iid = b""  # for the opening, to ask a manifest for its own entry
    topology = SimpleNamespace(topology=MESH)

    def __init__(self, world: World, pod: Pod, name: str, state: Path) -> None:
        self.world, self.pod, self.name, self.state = world, pod, name, state
        self.member = TestMember(name.partition("-")[0])
        self.renderer = Spoilt()
        self.opened: Opened
        self.opening: Opening
        self.names: set[str] = set()  # of roles, that the pod's DNS would know

    @property
    def gate(self) -> Gate:
        return self.opened.gate

    def known(self) -> MeshMember:
        """As its peers know it."""
        return mesh_member(self.member, *self.pod.addresses)

    async def start(self, *others: MeshMember) -> None:
        running = running_gate(self.state, renderer=self.renderer)
        self.opened = await self.world.stack.enter_async_context(running)
        self.opening = Opening(self.gate, cast(Own, self), self.publish, lambda view: None)
        await self.seal(*others)

    async def seal(self, *others: MeshMember) -> None:
        """The next manifest, of these others and itself."""
        view = pod_view(MESH, self.known(), [self.known(), *others])
        await self.opening.open(cast(SealedManifest, Manifest(view)))

    def publish(self, view: PodView) -> None:
        self.names = {member.role for member in view.members}

    def change(self, *others: MeshMember) -> float:
        """When it was asked for."""
        before = time.monotonic()
        self.do(lambda: self.seal(*others))
        return before

    def do(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """In the loop of the gates and the pod's network."""

        async def inside() -> T:
            with self.pod.inside():
                return await work()

        return asyncio.run_coroutine_threadsafe(inside(), self.world.loop).result(20)

    def envoys(self) -> list[int]:
        return [pid for pid in self.pod.processes() if command_name(pid) == "envoy" and not gone(pid)]

    def hold(self, *names: str) -> dict[str, list[Held]]:
        """An idle and a busy connection to each of these members of `api`."""
        held: dict[str, list[Held]] = {name: [] for name in names}
        while any(len(found) < 2 for found in held.values()):
            last = hold(self.pod, VIP, PORT)
            assert last is not None
            if len(held.get(last.said, [1, 2])) < 2:
                last.busy = bool(held[last.said])
                held[last.said].append(last)
                assert last.answers()
            else:
                last.close()
        return held

    def reached(self, calls: int = 40) -> set[str | None]:
        """Who answers new calls; None where nobody does."""
        return set(self.shares(calls))

    def shares(self, calls: int) -> Counter[str | None]:
        """How many new calls each of them answers."""
        found = [hold(self.pod, VIP, PORT) for _ in range(calls)]
        for one in found:
            if one is not None:
                one.close()
        return Counter(one.said if one else None for one in found)


class World:
    def __init__(self) -> None:
        self.places: dict[str, Place] = {}
        self.ends: dict[str, list[Held]] = {}  # of the programs of each api
        self.stack: AsyncExitStack
        self.loop: asyncio.AbstractEventLoop
        self.outside: Pod

    def __getitem__(self, name: str) -> Place:
        return self.places[name]

    def others(self, own: str, *without: str) -> list[MeshMember]:
        return [p.known() for name, p in self.places.items() if name not in (own, *without)]


@pytest.fixture(scope="module")
def mesh() -> Iterator[World]:
    world = World()
    with pytest.MonkeyPatch.context() as patch, Node() as node, contextlib.ExitStack() as stack:
        patch.setattr("toposeal.gate.restarts.RESTART_PAUSE", 50)
        patch.setattr("toposeal.daemon.opening.pod_view", lambda sealed, iid, generation: sealed.view)
        patch.setattr("toposeal.daemon.opening.new_leaves", lambda own, ms: leaf_secrets(own.member))
        world.outside = node.host()
        for name in ("web", "batch", "api-a", "api-b"):
            pod = node.pod(name)
            lockdown(pod)
            world.places[name] = Place(world, pod, name, stack.enter_context(state_directory()))
            if name.startswith("api"):
                world.ends[name] = stack.enter_context(echo(pod, PORT, name))

        async def run(ready: Callable[[], None], done: asyncio.Event) -> None:
            world.loop = asyncio.get_running_loop()
            async with AsyncExitStack() as world.stack:
                for name, place in world.places.items():
                    with place.pod.inside():
                        await netlink.route_synthetic_addresses()
                        await place.start(*world.others(name))
                ready()
                await done.wait()

        with in_background(run):
            yield world


@pytest.fixture(autouse=True)
def whole(mesh: World) -> Iterator[None]:
    yield
    for name, place in mesh.places.items():
        if place.gate.state is State.OPEN:
            place.change(*mesh.others(name))


def unhurt(held: list[Held]) -> bool:
    """Nothing was cut and nothing is lost: idle and busy ones still answer."""
    return all(one.ended is None and one.answers() for one in held)


def cut(held: list[Held], since: float) -> float:
    """Seconds until the last of them ended."""
    eventually(lambda: all_ended(held) or None)
    return max(one.ended or 0.0 for one in held) - since


def all_ended(held: list[Held]) -> bool:
    return all(one.ended is not None for one in held)


def sockets_left(place: Place, other: Place) -> int:
    """Of anybody but the daemon; destroyed by the question."""
    with place.pod.inside():
        return destroy_sockets(other.pod.addresses, spared=DAEMON_UID)


def test_D8_L2_a_member_that_joins_cuts_nobody_and_is_reached_at_once(mesh: World) -> None:
    web, newcomer = mesh["web"], mesh["api-b"]
    web.change(*mesh.others("web", "api-b"))
    newcomer.change(*mesh.others("api-b", "web"))
    held = web.hold("api-a")["api-a"]
    ends = mesh.ends["api-a"][-2:]
    assert web.reached() == {"api-a"}
    assert web.names == {"api", "batch", "web"}
    newcomer.change(*mesh.others("api-b"))
    web.change(*mesh.others("web"))
    assert web.reached() == {"api-a", "api-b"}  # and every single call was answered
    assert unhurt(held)
    assert all(end.ended is None for end in ends)


def test_a_member_with_two_addresses_is_called_no_more_often_than_one_with_one(mesh: World) -> None:
    web, one = mesh["web"], mesh["api-b"].known()
    assert len(mesh["api-a"].known().addresses) == 2
    web.change(*mesh.others("web", "api-b"), replace(one, addresses=one.addresses[:1]))
    found = web.shares(60)
    assert found["api-a"] + found["api-b"] == 60 and abs(found["api-a"] - found["api-b"]) <= 2


def test_a_member_is_reached_where_its_first_address_answers_nobody(mesh: World) -> None:
    """Well before the connection would be given up."""
    web, other = mesh["web"], mesh["api-b"].known()
    web.change(*mesh.others("web", "api-a", "api-b"), replace(other, addresses=(NOBODYS, *other.addresses)))
    before = time.monotonic()
    assert web.shares(3) == {"api-b": 3}
    assert time.monotonic() - before < CONNECT_TIMEOUT / 1000


def test_M5_D8_a_server_that_is_removed_is_cut_by_its_client_alone(mesh: World) -> None:
    """While a program goes on connecting: what is made by the old configuration is cut too."""
    web, removed = mesh["web"], mesh["api-b"]
    held = web.hold("api-a", "api-b")
    before = len(mesh.ends["api-b"])
    stop = threading.Event()
    crowd: list[Held | None] = []
    churning = threading.Thread(target=churn, args=(web, crowd, stop))
    churning.start()
    try:
        asked = web.change(*mesh.others("web", "api-b"))
        assert sockets_left(web, removed) == 0
        assert cut(held["api-b"], asked) < SOON
    finally:
        stop.set()
        churning.join()
    assert cut(mesh.ends["api-b"][:before], asked) < SOON
    assert unhurt(held["api-a"])
    assert web.reached() == {"api-a"}
    made = [one for one in crowd if one is not None]
    eventually(lambda: {one.said for one in made if one.ended is None} == {"api-a"} or None)
    for one in crowd:
        if one is not None:
            one.close()


def churn(place: Place, crowd: list[Held | None], stop: threading.Event) -> None:
    while not stop.is_set():
        crowd.append(hold(place.pod, VIP, PORT))


def test_M5_D8_a_client_that_is_removed_is_cut_by_its_server_alone(mesh: World) -> None:
    """Wherever its connections come from: there Envoy alone can know whose they are."""
    batch, server = mesh["batch"], mesh["api-a"]
    member = batch.member
    hand = Hand(mesh.outside, member.chain_pem, member.key_pem, member.domain)
    elsewhere = tls(hand, server.pod, PORT)
    held, survivors = batch.hold("api-a"), mesh["web"].hold("api-a", "api-b")
    asked = server.change(*mesh.others("api-a", "batch"))
    assert cut([elsewhere, *held["api-a"]], asked) < SOON
    assert sockets_left(server, batch) == 0
    assert unhurt([*survivors["api-a"], *survivors["api-b"]])
    assert batch.reached() == {"api-b"}
    assert server.names == {"api", "web"}
    assert hand.call(server.pod.ipv4, PORT) == b""


def tls(hand: Hand, pod: Pod, port: int) -> Held:
    """An idle connection of somebody without an Envoy, who has been answered."""
    with hand.place.inside():
        raw = socket.create_connection((pod.ipv4, port), TIMEOUT)
    connection = hand.context().wrap_socket(raw, server_hostname=hand.sni)
    said = connection.recv(100).decode()
    assert said != ""
    connection.settimeout(None)
    return Held(connection, said).start()


def test_M5_L2_a_member_that_is_replaced_at_its_address_is_cut_and_the_new_one_reached(mesh: World) -> None:
    web, place = mesh["web"], mesh["api-b"]
    held = web.hold("api-a", "api-b")
    place.member = TestMember("api")
    asked = web.change(*mesh.others("web"))
    assert cut(held["api-b"], asked) < SOON
    assert web.reached() == {"api-a"}  # the old one still serves there
    place.do(place.gate.fence)
    place.do(lambda: place.start(*mesh.others("api-b")))
    assert web.reached() == {"api-a", "api-b"}
    assert unhurt(held["api-a"])
    mesh["api-a"].change(*mesh.others("api-a"))
    mesh["batch"].change(*mesh.others("batch"))


def test_S1_a_suspended_pod_neither_serves_nor_is_served_and_keeps_no_key_to_serve(mesh: World) -> None:
    place = mesh["api-b"]
    inbound, outbound = mesh["web"].hold("api-a", "api-b"), place.hold("api-a", "api-b")
    ends = list(mesh.ends["api-b"])
    (envoy,) = place.envoys()
    client = tls(Hand(mesh.outside), place.pod, INGRESS)
    assert certificates(place) > 2
    asked = time.monotonic()
    place.do(place.opening.suspend)
    held = [*inbound["api-b"], *outbound["api-a"], *outbound["api-b"], client, *ends]
    assert cut(held, asked) < SOON
    assert_closed(mesh, place)
    assert place.envoys() == [envoy]
    assert unhurt(inbound["api-a"])
    place.do(place.opening.resume)
    assert (place.gate.state, place.envoys()) == (State.OPEN, [envoy])
    assert mesh["web"].reached() == place.reached() == {"api-a", "api-b"}
    assert OPEN_MARK in place.opened.files()
    assert unhurt(inbound["api-a"])


def assert_closed(mesh: World, place: Place) -> None:
    """No answer in either direction, with or without a good certificate; not a byte for the program."""
    web, seen = mesh["web"].member, len(mesh.ends[place.name])
    assert place.gate.state is State.SUSPENDED
    assert place.reached(3) == {None}
    assert mesh["web"].reached() == {"api-a"}
    assert Hand(mesh.outside, web.chain_pem, web.key_pem, web.domain).call(place.pod.ipv4, PORT) == b""
    assert Hand(mesh.outside).call(place.pod.ipv4, INGRESS) == b""
    with mesh.outside.inside():
        assert talk(place.pod.ipv4, PORT, b"GET / HTTP/1.1\r\n\r\n") == b""
    assert len(mesh.ends[place.name]) == seen
    assert certificates(place) == 0
    assert [chain["name"] for listener in listeners(place) for chain in listener["filter_chains"]] == (
        ["sentinel"] * 2
    )
    assert CLOSED_MARK in place.opened.files()


def certificates(place: Place) -> int:
    """In all that Envoy runs: its own, and those of others that it trusts."""
    dump = admin(place.opened.layout.admin, "/config_dump")
    return dump.count(b"BEGIN CERTIFICATE") + dump.count(b"certificate_chain")


def listeners(place: Place) -> list[Any]:
    dump = json.loads(admin(place.opened.layout.admin, "/config_dump?resource=dynamic_listeners"))
    return [entry["active_state"]["listener"] for entry in dump["configs"]]


def test_a_pod_may_be_suspended_and_resumed_at_any_pace(mesh: World) -> None:
    """Also while Envoy is still saying what it needs no more."""
    place = mesh["api-b"]

    async def often() -> None:
        for _ in range(10):
            await place.opening.suspend()
            await place.opening.resume()

    place.do(often)
    assert place.gate.state is State.OPEN
    assert mesh["web"].reached() == {"api-a", "api-b"}


def test_D7_fault_16_an_envoy_that_is_killed_while_suspended_is_replaced_and_stays_closed(
    mesh: World,
) -> None:
    place = mesh["api-b"]
    place.do(place.opening.suspend)
    (old,) = place.envoys()

    async def replaced() -> None:
        """In the pod's network, where the other one has to start."""
        os.kill(old, signal.SIGKILL)
        for state in (State.REPLACING, State.SUSPENDED):
            async with asyncio.timeout(20):
                while place.gate.state is not state:
                    await asyncio.sleep(0.005)

    place.do(replaced)
    assert place.envoys() not in ([], [old])
    place.change(*mesh.others("api-b"))
    assert place.do(lambda: place.opening.resolved({"api.example.com": ("8.8.8.8",)}))
    assert_closed(mesh, place)
    place.do(place.opening.resume)
    assert mesh["web"].reached() == place.reached() == {"api-a", "api-b"}


def test_D7_a_newcomer_whom_envoy_refuses_leaves_everything_as_it_was(
    mesh: World, capfd: pytest.CaptureFixture[str]
) -> None:
    web = mesh["web"]
    held = web.hold("api-a", "api-b")
    web.renderer.spoilt = True
    web.change(*mesh.others("web"), mesh_member(TestMember("api"), mesh.outside.ipv4))
    web.renderer.spoilt = False
    assert '"event": "alarm", "reason": "envoy_rejected"' in capfd.readouterr().out
    assert unhurt([*held["api-a"], *held["api-b"]])
    assert web.reached() == {"api-a", "api-b"}


def test_D7_M5_a_removal_that_envoy_refuses_kills_it_and_leaves_the_pod_closed(mesh: World) -> None:
    """Last: this pod does not come back."""
    web = mesh["web"]
    held, ends = web.hold("api-a", "api-b"), [*mesh.ends["api-a"], *mesh.ends["api-b"]]
    web.renderer.spoilt = True
    with pytest.raises(PodError) as caught:
        web.change(*mesh.others("web", "api-b"))
    assert caught.value.reason is Reason.ENVOY_REJECTED
    assert (web.gate.state, web.envoys()) == (State.FENCED, [])
    assert [fault.reason for fault in web.opened.faults] == [Reason.ENVOY_REJECTED]
    assert eventually(lambda: all_ended([*held["api-a"], *held["api-b"], *ends]) or None, SOON)
    assert web.reached(2) == {None}
