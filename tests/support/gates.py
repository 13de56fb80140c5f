"""The gate of one pod with a real Envoy in it, and who calls from outside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

from support.datapath import Hand
from support.envoy import InProcess, Opened, mesh_member, pod_view, running_gate
from support.forge import TestMember
from support.inside import lockdown
from support.keys import admin
from support.shop import role, topology
from toposeal.dataplane.discovery import Update
from toposeal.dataplane.envoy_closed import bootstrap
from toposeal.dataplane.envoy_plan import PodPlan
from toposeal.dataplane.layout import BOOTSTRAP_FILE, CLOSED_MARK, ENVOY_LAYOUT, OPEN_MARK
from toposeal.dataplane.view import PodView
from toposeal.host import netlink
from toposeal.host.renderer import Renderer
from toposeal.topology.model import Call, Ingress
from toposeal_lab.pods import Node, Pod

PORT, INGRESS, ATTESTATION = 8080, 8443, 8444
ALONE = topology(
    role("api", 1, serves=(PORT,), calls=(Call("api", PORT),), ingress=(Ingress(INGRESS, PORT),)),
    role("web", 1, calls=(Call("api", PORT),)),
)
OWN, CALLER = TestMember("api"), TestMember("web")
# All that is in the directory that Envoy starts in.
FILES = {BOOTSTRAP_FILE: bootstrap(ENVOY_LAYOUT), CLOSED_MARK: b""}
OPEN_FILES = {BOOTSTRAP_FILE: bootstrap(ENVOY_LAYOUT), OPEN_MARK: b""}


def locked_pod(node: Node) -> Pod:
    """One pod under the real rules."""
    made = node.pod("a")
    lockdown(made)
    with made.inside():
        asyncio.run(netlink.route_synthetic_addresses())
    return made


def view(pod: Pod) -> PodView:
    own = mesh_member(OWN, *pod.addresses)
    return pod_view(ALONE, own, [own, mesh_member(CALLER, "10.77.0.99")])


def with_gate(
    pod: Pod, state: Path, test: Callable[[Opened], Awaitable[None]], renderer: Renderer | None = None
) -> None:
    """Run `test` inside the pod with a started, closed gate."""

    async def run() -> None:
        async with running_gate(state, renderer=renderer) as opened:
            await test(opened)

    with pod.inside():
        asyncio.run(run())


def call(pod: Pod, member: TestMember = CALLER) -> bytes:
    """What the caller's Envoy would get at the served port."""
    hand = Hand(pod, member.chain_pem, member.key_pem, member.domain)
    return hand.call(pod.ipv4, PORT)


async def in_thread(work: Callable[[], object]) -> object:
    return await asyncio.to_thread(work)


def caller_outside(node: Node, pod: Pod) -> Callable[[], bytes]:
    hand = Hand(node.host(), CALLER.chain_pem, CALLER.key_pem, CALLER.domain)
    return lambda: hand.call(pod.ipv4, PORT)


def envoy_pids(pod: Pod) -> list[int]:
    return [pid for pid in pod.processes() if Path(f"/proc/{pid}/comm").read_text().strip() == "envoy"]


def chains(opened: Opened) -> dict[str, set[str]]:
    """What Envoy runs, by listener."""
    dump = json.loads(admin(opened.layout.admin, "/config_dump?resource=dynamic_listeners"))
    active = [entry["active_state"]["listener"] for entry in dump["configs"]]
    return {found["name"]: {chain["name"] for chain in found["filter_chains"]} for found in active}


class Changed(InProcess):
    """Renders, and then has `change` replace one thing by another."""

    def __init__(self, change: Callable[[Update, bytes, bytes], Update], old: bytes, new: bytes) -> None:
        super().__init__()
        self._change, self._what = change, (old, new)

    async def render(self, plan: PodPlan) -> Update:
        return self._change(await super().render(plan), *self._what)
