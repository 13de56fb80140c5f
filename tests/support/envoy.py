"""Real Envoys for tests: the binary, its validation mode, and gates of pods in network namespaces."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from support.forge import NOW, TestMember, pem
from toposeal.dataplane.envoy_open import render
from toposeal.dataplane.envoy_plan import PodPlan
from toposeal.dataplane.envoy_secrets import secrets
from toposeal.dataplane.layout import (
    BOOTSTRAP_FILE,
    CLUSTERS_FILE,
    ENVOY_LAYOUT,
    LISTENERS_FILE,
    layout_under,
)
from toposeal.dataplane.view import Layout, MeshMember, PodView
from toposeal.errors import Mismatch
from toposeal.host.envoy import Envoy, find_envoy
from toposeal.host.gate import Gate, GateParts
from toposeal.host.probe import Probe
from toposeal.host.renderer import Renderer
from toposeal.host.xds_files import XdsDirectory, prepare
from toposeal.limits import ENVOY_UID
from toposeal.pki.mint import mint_ingress_leaf, serial_number
from toposeal.topology.model import Topology

ENVOY = find_envoy(None)


def resources(response: bytes) -> list[dict[str, Any]]:
    """The resources of a discovery response, without the type that the file repeats in each."""
    found = json.loads(response)["resources"]
    return [{key: value for key, value in item.items() if key != "@type"} for item in found]


def validate(files: Mapping[str, bytes], directory: Path) -> str:
    """Write `files` and run Envoy's own validation over bootstrap, LDS and CDS at once, as a reader
    of them would; its complaint, or nothing.
    """
    for name, data in files.items():
        (directory / name).write_bytes(data)
    bootstrap = json.loads(files[BOOTSTRAP_FILE])
    del bootstrap["dynamic_resources"]
    bootstrap["static_resources"] = {
        "listeners": resources(files[LISTENERS_FILE]),
        "clusters": resources(files[CLUSTERS_FILE]),
    }
    (directory / "validate.json").write_text(json.dumps(bootstrap))
    return run_validation(directory, "validate.json")


def run_validation(directory: Path, bootstrap: str) -> str:
    command = [ENVOY, "--mode", "validate", "-c", bootstrap, "--reject-unknown-dynamic-fields", "-l", "error"]
    result = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=30, env={}, check=False
    )
    return "" if result.returncode == 0 else result.stdout + result.stderr


@contextmanager
def state_directory() -> Iterator[Path]:
    """A prepared state directory on a real tmpfs."""
    path = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="toposeal-test-"))
    try:
        prepare(str(path), owner=os.geteuid(), group=ENVOY_UID)
        yield path
    finally:
        shutil.rmtree(path)


def leaf_files(member: TestMember, lifetime_s: int = 3600) -> dict[str, bytes]:
    """The secrets of a member as its daemon writes them."""
    serial = serial_number(os.urandom(20))
    ingress = mint_ingress_leaf(member.ca_key, member.profile_der, member.leaf_key, serial, NOW, lifetime_s)
    return secrets(member.chain_pem, member.key_pem, pem(ingress), member.key_pem)


def mesh_member(member: TestMember, *addresses: str) -> MeshMember:
    """`member` as its peers' Envoys know it."""
    return MeshMember(member.domain.encode(), member.role, member.domain, member.ca_pem, addresses)


def pod_view(
    topology: Topology, own: MeshMember, members: Sequence[MeshMember], generation: int = 1
) -> PodView:
    return PodView(topology, own, tuple(sorted(members, key=lambda m: (m.role, m.iid))), generation)


class Opened:
    """A gate and what a test wants to look at."""

    def __init__(self, layout: Layout, gate: Gate, faults: list[Mismatch]) -> None:
        self.layout, self.gate, self.faults = layout, gate, faults

    async def open(self, view: PodView, member: TestMember) -> None:
        """With fresh leaves of `member`, as often as the gate asks."""
        await self.gate.open(lambda: (view, leaf_files(member)))

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in Path(self.layout.xds).iterdir()}


class InProcess(Renderer):
    """Renders here, where the types are imported already; the child has tests of its own."""

    async def render(self, plan: PodPlan) -> dict[str, bytes]:
        return render(plan, ENVOY_LAYOUT)


@asynccontextmanager
async def running_gate(
    state_dir: Path, probe: Probe | None = None, renderer: Renderer | None = None
) -> AsyncIterator[Opened]:
    """A started gate, closed; fenced at the end. The caller is inside the pod's network."""
    layout = layout_under(str(state_dir))
    faults: list[Mismatch] = []
    directory = XdsDirectory(layout.xds, group=ENVOY_UID)
    parts = GateParts(
        directory=directory,
        start_envoy=lambda: Envoy.start(ENVOY, layout),
        renderer=renderer or InProcess(),
        probe=probe or await Probe.start(layout.probe),
    )
    gate = Gate(parts, faults.append)
    try:
        await gate.start()
        yield Opened(layout, gate, faults)
    finally:
        await asyncio.shield(gate.fence())
        directory.close()
