"""Two roles for measuring: members minted as by their pods, real Envoys with what we render for them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from ssl import DER_cert_to_PEM_cert
from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric import ec

from toposeal.dataplane.discovery import Update
from toposeal.dataplane.envoy_closed import CLOSED, bootstrap
from toposeal.dataplane.envoy_plan import plan
from toposeal.dataplane.envoy_secrets import secrets as encoded_secrets
from toposeal.dataplane.layout import ENVOY_LAYOUT, layout_under
from toposeal.dataplane.view import MeshMember, PodView
from toposeal.dataplane.vips import vip
from toposeal.host import firewall, netlink
from toposeal.host.discovery_server import DiscoveryServer
from toposeal.host.envoy import Envoy, find_envoy
from toposeal.host.renderer import Renderer
from toposeal.host.xds_files import XdsDirectory, prepare
from toposeal.limits import ENVOY_UID, MAX_REPLICAS
from toposeal.names import ca_digest, member_domain
from toposeal.pki.mint import mint_ca, mint_ingress_leaf, mint_mesh_leaf, serial_number
from toposeal.topology.model import Call, Http, Platforms, Role, Timers, Topology
from toposeal.verification.ca_profile import encode_spki
from toposeal_lab.forge import key_pem
from toposeal_lab.pods import Pod

MESH = "bench"
CLIENT, SERVER = "client", "server"
PORT = 8080
_ATTESTATION_PORT = 8444
_LEAF_LIFETIME_S = 3600


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

    def secrets(self) -> Update:
        """Both leaves, with a new key each time."""
        key = ec.generate_private_key(ec.SECP256R1())
        mesh = mint_mesh_leaf(
            self.ca_key, self.ca_der, self.member.role, key, _serial(), self.now, _LEAF_LIFETIME_S
        )
        ingress = mint_ingress_leaf(self.ca_key, self.ca_der, key, _serial(), self.now, _LEAF_LIFETIME_S)
        return encoded_secrets(
            DER_cert_to_PEM_cert(mesh), key_pem(key), DER_cert_to_PEM_cert(ingress), key_pem(key)
        )

    def leaf(self, role: str) -> tuple[str, str]:
        """A leaf for `role` and its key, PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        der = mint_mesh_leaf(self.ca_key, self.ca_der, role, key, _serial(), self.now, _LEAF_LIFETIME_S)
        return DER_cert_to_PEM_cert(der), key_pem(key)


def topology(*, speaks_http: bool = False) -> Topology:
    """One server, and of the role that may call it as many members as there can be: they come and go, and the
    topology stays as it is. `speaks_http`: the server's port is declared to be HTTP."""
    server = _role(SERVER, 1, serves=(PORT,))
    roles = [
        _role(CLIENT, MAX_REPLICAS, calls=(Call(SERVER, PORT),)),
        replace(server, http=(Http(PORT, logs_requests=False),)) if speaks_http else server,
    ]
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
    return vip(topology(), SERVER)


def view(own: MeshMember, members: Sequence[MeshMember], *, speaks_http: bool = False) -> PodView:
    ordered = tuple(sorted(members, key=lambda member: (member.role, member.iid)))
    return PodView(topology(speaks_http=speaks_http), own, ordered, generation=1)


def strangers(count: int) -> list[MeshMember]:
    """Clients that are admitted and never call."""
    return [
        Identity.mint(CLIENT, [f"10.78.{number // 250}.{number % 250 + 1}"]).member for number in range(count)
    ]


class Rendered:
    """What our renderer made once, for the mesh with and without one member."""

    def __init__(self, whole: Update, without: Update) -> None:
        self._whole, self._without = whole, without

    def update(self, version: str, *, whole: bool = True) -> Update:
        """What the daemon's child makes for `version`."""
        update = self._whole if whole else self._without
        return {kind: replace(offer, version=version) for kind, offer in update.items()}


class SealedPod:
    """A pod under the real rules whose Envoy runs what it is offered. `sealed` makes it."""

    def __init__(self, pod: Pod, envoy: Envoy, discovery: DiscoveryServer) -> None:
        self.pod, self._envoy, self._discovery = pod, envoy, discovery
        self._updates = 0

    def next_version(self) -> str:
        self._updates += 1
        return f"generation-{self._updates}"

    async def open(self, rendered: Rendered, leaves: Update) -> None:
        await self.update({**leaves, **rendered.update(self.next_version())})

    async def update(self, update: Update) -> float:
        """Milliseconds from the offer until Envoy runs it. Raises PodError when Envoy does not take it."""
        offered = time.monotonic()
        self._discovery.offer(update)
        await self._envoy.settled(self._discovery.acknowledged())
        return 1000 * (time.monotonic() - offered)


@asynccontextmanager
async def sealed(pod: Pod, state: Path) -> AsyncIterator[SealedPod]:
    """`pod` locked down, its Envoy started closed, as its daemon would; ended with the block."""
    prepare(str(state), owner=os.geteuid(), group=ENVOY_UID)
    layout = layout_under(str(state))
    directory = XdsDirectory(layout.xds, group=ENVOY_UID)
    directory.reset(bootstrap(ENVOY_LAYOUT))
    directory.close()
    discovery = DiscoveryServer()
    await discovery.start(layout.discovery, ENVOY_UID)
    discovery.reset(CLOSED)
    try:
        await asyncio.to_thread(_lock_down, pod)
        with pod.inside():
            envoy = await Envoy.start(find_envoy(None), layout)
        try:
            await envoy.settled(discovery.acknowledged())
            yield SealedPod(pod, envoy, discovery)
        finally:
            await envoy.kill()
    finally:
        await discovery.stop()


async def render(seen: PodView, gone: MeshMember | None = None) -> tuple[Rendered, float]:
    """What the daemon's own child makes of a view, and how many milliseconds that takes from its start; and
    the same without the member that is `gone`.
    """
    started = time.monotonic()
    whole = await _rendered(seen)
    took = 1000 * (time.monotonic() - started)
    left = tuple(member for member in seen.members if member != gone)
    return Rendered(whole, await _rendered(replace(seen, members=left)) if gone else whole), took


async def _rendered(seen: PodView) -> Update:
    renderer = Renderer()
    try:
        return await renderer.render(plan(seen))
    finally:
        await renderer.close()


def _lock_down(pod: Pod) -> None:
    with pod.inside():
        firewall.apply()
        asyncio.run(netlink.route_synthetic_addresses())
        netlink.reuse_time_wait()


def _role(name: str, most: int, serves: tuple[int, ...] = (), calls: tuple[Call, ...] = ()) -> Role:
    return Role(
        name=name,
        min_replicas=1,
        max_replicas=most,
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
