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

from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.listener.v3 import Listener

from support.forge import NOW, TestMember, pem
from toposeal.dataplane.discovery import Kind, Offer, Update
from toposeal.dataplane.envoy_json import discovered
from toposeal.dataplane.envoy_open import render
from toposeal.dataplane.envoy_plan import PodPlan
from toposeal.dataplane.envoy_readable import readable
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
from toposeal.host.connections import destroy_sockets
from toposeal.host.discovery_server import DiscoveryServer
from toposeal.host.envoy import Envoy, find_envoy
from toposeal.host.gate import Gate, GateParts
from toposeal.host.probe import Probe
from toposeal.host.renderer import Renderer
from toposeal.host.xds_files import XdsDirectory, prepare
from toposeal.limits import DAEMON_UID, ENVOY_UID
from toposeal.pki.mint import mint_ingress_leaf, serial_number
from toposeal.topology.model import Topology

ENVOY = find_envoy(None)


def resources(response: bytes) -> list[dict[str, Any]]:
    """The resources of a readable response, without the type that it repeats in each."""
    found = json.loads(response)["resources"]
    return [{key: value for key, value in item.items() if key != "@type"} for item in found]


def validate(files: Mapping[str, bytes], directory: Path) -> str:
    """Write `files` and run Envoy's own validation over bootstrap, LDS and CDS at once, as a reader
    of them would; its complaint, or nothing. Where certificates come from is said in another way: without a
    stream, and it opens none, Envoy's validation crashes at a secret that comes over it.
    """
    for name, data in files.items():
        (directory / name).write_bytes(data)
    bootstrap = json.loads(files[BOOTSTRAP_FILE])
    stream = bootstrap.pop("dynamic_resources")["ads_config"]
    static = bootstrap["static_resources"]
    static["listeners"] = resources(files[LISTENERS_FILE])
    static["clusters"] += resources(files[CLUSTERS_FILE])
    grpc = {key: stream[key] for key in ("api_type", "transport_api_version", "grpc_services")}
    source = {"api_config_source": grpc, "resource_api_version": "V3"}
    text = json.dumps(bootstrap).replace(json.dumps(discovered()), json.dumps(source))
    (directory / "validate.json").write_text(text)
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


def leaf_secrets(member: TestMember, lifetime_s: int = 3600) -> Update:
    """The secrets of a member as its daemon offers them."""
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

    def __init__(
        self, layout: Layout, gate: Gate, discovery: DiscoveryServer, faults: list[Mismatch]
    ) -> None:
        self.layout, self.gate, self.discovery, self.faults = layout, gate, discovery, faults

    async def open(self, view: PodView, member: TestMember) -> None:
        """With fresh leaves of `member`, as often as the gate asks."""
        await self.gate.open(lambda: (view, lambda: leaf_secrets(member)))

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in Path(self.layout.xds).iterdir()}


class InProcess(Renderer):
    """Renders here, where the types are imported already; the child has tests of its own."""

    async def render(self, plan: PodPlan) -> Update:
        return render(plan, ENVOY_LAYOUT)


def altered(update: Update, old: bytes, new: bytes) -> Update:
    """`update` with text of its readable form replaced, which has to occur."""
    files = readable(update)
    assert any(old in data for data in files.values())
    return update_of({name: data.replace(old, new) for name, data in files.items()})


def update_of(files: Mapping[str, bytes]) -> Update:
    """What the readable LDS and CDS say."""
    version = json.loads(files[CLUSTERS_FILE])["version_info"]
    clusters = (Cluster.from_dict(value) for value in resources(files[CLUSTERS_FILE]))
    listeners = (Listener.from_dict(value) for value in resources(files[LISTENERS_FILE]))
    return {
        Kind.CLUSTER: Offer(version, {cluster.name: bytes(cluster) for cluster in clusters}),
        Kind.LISTENER: Offer(version, {listener.name: bytes(listener) for listener in listeners}),
    }


@asynccontextmanager
async def running_gate(
    state_dir: Path, probe: Probe | None = None, renderer: Renderer | None = None
) -> AsyncIterator[Opened]:
    """A started gate, closed; fenced at the end. The caller is inside the pod's network."""
    layout = layout_under(str(state_dir))
    faults: list[Mismatch] = []
    directory = XdsDirectory(layout.xds, group=ENVOY_UID)
    discovery = DiscoveryServer()
    await discovery.start(layout.discovery, ENVOY_UID)
    parts = GateParts(
        directory=directory,
        discovery=discovery,
        start_envoy=lambda: Envoy.start(ENVOY, layout),
        renderer=renderer or InProcess(),
        probe=probe or await Probe.start(layout.probe),
        cut=lambda addresses: destroy_sockets(addresses, spared=DAEMON_UID),
    )
    gate = Gate(parts, faults.append)
    try:
        await gate.start()
        yield Opened(layout, gate, discovery, faults)
    finally:
        await asyncio.shield(gate.fence())
        await discovery.stop()
        directory.close()
