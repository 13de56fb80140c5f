"""Two roles for measuring: members minted as by their pods, real Envoys with what we render for them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from ssl import DER_cert_to_PEM_cert
from types import MappingProxyType
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from toposeal.dataplane.envoy_closed import closed
from toposeal.dataplane.envoy_json import xds
from toposeal.dataplane.envoy_plan import plan
from toposeal.dataplane.envoy_secrets import secret_versions
from toposeal.dataplane.envoy_secrets import secrets as secret_files
from toposeal.dataplane.layout import CLUSTERS_FILE, ENVOY_LAYOUT, LISTENERS_FILE, layout_under
from toposeal.dataplane.view import MeshMember, PodView
from toposeal.dataplane.vips import vip
from toposeal.host import firewall, netlink
from toposeal.host.envoy import CLUSTERS, LISTENERS, Envoy, find_envoy
from toposeal.host.renderer import Renderer
from toposeal.host.xds_files import XdsDirectory, prepare
from toposeal.limits import ENVOY_UID
from toposeal.names import ca_digest, member_domain
from toposeal.pki.mint import mint_ca, mint_ingress_leaf, mint_mesh_leaf, serial_number
from toposeal.topology.model import Call, Platforms, Role, Timers, Topology
from toposeal.verification.ca_profile import encode_spki
from toposeal_lab.forge import key_pem
from toposeal_lab.pods import Pod

MESH = "bench"
CLIENT, SERVER = "client", "server"
PORT = 8080
_ATTESTATION_PORT = 8444
_LEAF_LIFETIME_S = 3600

Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Identity:
    """A member with its CA key: what peers know of it, and leaves as its daemon would mint them."""

    member: MeshMember
    ca_key: ec.EllipticCurvePrivateKey
    ca_der: bytes
    now: int

    @classmethod
    def mint(cls, role: str, addresses: Sequence[str]) -> Identity:
        key, now = ec.generate_private_key(ec.SECP256R1()), int(time.time())
        ca = mint_ca(key, MESH, _serial(), now)
        domain = member_domain(ca_digest(encode_spki(key.public_key())), MESH)
        iid = hashlib.sha384(domain.encode("ascii")).digest()
        known = MeshMember(iid, role, domain, DER_cert_to_PEM_cert(ca), tuple(addresses))
        return cls(known, key, ca, now)

    def secrets(self) -> dict[str, bytes]:
        """Both secret files, with a new key each time."""
        key = ec.generate_private_key(ec.SECP256R1())
        mesh = mint_mesh_leaf(
            self.ca_key, self.ca_der, self.member.role, key, _serial(), self.now, _LEAF_LIFETIME_S
        )
        ingress = mint_ingress_leaf(self.ca_key, self.ca_der, key, _serial(), self.now, _LEAF_LIFETIME_S)
        return secret_files(
            DER_cert_to_PEM_cert(mesh), key_pem(key), DER_cert_to_PEM_cert(ingress), key_pem(key)
        )

    def leaf(self, role: str) -> tuple[str, str]:
        """A leaf for `role` and its key, PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        der = mint_mesh_leaf(self.ca_key, self.ca_der, role, key, _serial(), self.now, _LEAF_LIFETIME_S)
        return DER_cert_to_PEM_cert(der), key_pem(key)


def topology(clients: int) -> Topology:
    """One server, and `clients` members of the role that may call it."""
    roles = [_role(CLIENT, clients, calls=(Call(SERVER, PORT),)), _role(SERVER, 1, serves=(PORT,))]
    return Topology(
        mesh=MESH,
        version=1,
        issued_at=int(time.time()),
        owner_root_digest=bytes(48),
        attestation_port=_ATTESTATION_PORT,
        timers=Timers(),
        tdx=None,
        snp=None,
        roles=MappingProxyType({role.name: role for role in roles}),
        digest=bytes(48),
    )


def server_vip() -> str:
    return vip(topology(1), SERVER)


def view(own: MeshMember, members: Sequence[MeshMember], generation: int = 1) -> PodView:
    clients = sum(member.role == CLIENT for member in members)
    ordered = tuple(sorted(members, key=lambda member: (member.role, member.iid)))
    return PodView(topology(clients), own, ordered, generation)


def strangers(count: int) -> list[MeshMember]:
    """Clients that are admitted and never call."""
    return [
        Identity.mint(CLIENT, [f"10.78.{number // 250}.{number % 250 + 1}"]).member for number in range(count)
    ]


class Rendered:
    """What our renderer wrote once; later generations differ in their version and in what they leave out."""

    def __init__(self, files: Files) -> None:
        self._clusters = _resources(files[CLUSTERS_FILE])
        self._listeners = _resources(files[LISTENERS_FILE])

    def files(self, version: str, without: str = "") -> dict[str, bytes]:
        """The bytes that the renderer writes for the same mesh, or for the one without the member of the
        domain `without`: its chains are independent of each other.
        """
        listeners = [
            {**listener, "filter_chains": [c for c in listener["filter_chains"] if not _names(c, without)]}
            for listener in self._listeners
        ]
        return xds(version, self._clusters, listeners)


class SealedPod:
    """A pod under the real rules whose Envoy runs what its directory holds. `sealed` makes it."""

    def __init__(self, pod: Pod, envoy: Envoy, directory: XdsDirectory) -> None:
        self.pod, self._envoy, self._directory = pod, envoy, directory
        self._updates = 0

    def next_version(self) -> str:
        self._updates += 1
        return f"generation-{self._updates}"

    async def open(self, rendered: Rendered, leaves: Files) -> None:
        version = self.next_version()
        await self.update({**leaves, **rendered.files(version)}, version)

    async def update(self, files: Files, version: str = "") -> float:
        """Milliseconds from the renames to Envoy's acknowledgement. `version` is that of the LDS and CDS
        files, if there are any. Raises PodError when Envoy does not take it.
        """
        leaves = {name: data for name, data in files.items() if name.startswith("sds-")}
        expected = {f"sds.{name}": found for name, found in secret_versions(leaves).items()}
        if version:
            expected |= dict.fromkeys((LISTENERS, CLUSTERS), version)
        before = await self._envoy.stats()
        self._directory.write(files)
        renamed = time.monotonic()
        await self._envoy.acknowledged(before, expected)
        return 1000 * (time.monotonic() - renamed)


@asynccontextmanager
async def sealed(pod: Pod, state: Path) -> AsyncIterator[SealedPod]:
    """`pod` locked down, its Envoy started closed, as its daemon would; ended with the block."""
    prepare(str(state), owner=os.geteuid(), group=ENVOY_UID)
    layout = layout_under(str(state))
    directory = XdsDirectory(layout.xds, group=ENVOY_UID)
    directory.reset(closed(ENVOY_LAYOUT))
    await asyncio.to_thread(_lock_down, pod)
    try:
        with pod.inside():
            envoy = await Envoy.start(find_envoy(None), layout)
        try:
            yield SealedPod(pod, envoy, directory)
        finally:
            await envoy.kill()
    finally:
        directory.close()


async def render(seen: PodView) -> tuple[Rendered, float]:
    """What the daemon's own child makes of a view, and how many milliseconds that takes from its start."""
    renderer = Renderer()
    started = time.monotonic()
    try:
        files = await renderer.render(plan(seen))
    finally:
        await renderer.close()
    return Rendered(files), 1000 * (time.monotonic() - started)


def _lock_down(pod: Pod) -> None:
    with pod.inside():
        firewall.apply()
        asyncio.run(netlink.route_synthetic_addresses())
        netlink.reuse_time_wait()


def _resources(response: bytes) -> list[dict[str, Any]]:
    found = json.loads(response)["resources"]
    return [{key: value for key, value in resource.items() if key != "@type"} for resource in found]


def _names(chain: Mapping[str, Any], domain: str) -> bool:
    return bool(domain) and domain in chain.get("filter_chain_match", {}).get("server_names", [])


def _role(name: str, replicas: int, serves: tuple[int, ...] = (), calls: tuple[Call, ...] = ()) -> Role:
    return Role(
        name=name,
        min_replicas=replicas,
        max_replicas=replicas,
        tdx=(),
        snp=(),
        platforms=Platforms(None, None),
        gpus=None,
        serves=serves,
        calls=calls,
        ingress=(),
    )


def _serial() -> int:
    return serial_number(secrets.token_bytes(20))
