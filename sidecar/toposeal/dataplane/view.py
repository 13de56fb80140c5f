"""What the data plane of one pod is rendered from: a sealed manifest seen by one member. No IO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from toposeal.dataplane.vips import Places
from toposeal.topology.model import Topology


@dataclass(frozen=True)
class MeshMember:
    """One sealed member as its peers' Envoys need it."""

    iid: bytes  # 48
    role: str
    domain: str  # member_domain: trust domain, SNI and DNS name
    ca_pem: str
    addresses: tuple[str, ...]  # IP literals, checked against the deny-list


@dataclass(frozen=True)
class PodView:
    """The whole input of the renderer: same view, same bytes."""

    topology: Topology
    own: MeshMember
    members: tuple[MeshMember, ...]  # all of the manifest, own included, ascending (role, iid)
    generation: int  # names the update; rises with each one
    resolved: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # egress host -> IP literals
    kept: Places | None = None  # of the topologies before this one; None: there was none

    @property
    def places(self) -> Places:
        """The synthetic addresses of this pod."""
        return (self.kept or Places((), ())).extended(self.topology)


@dataclass(frozen=True)
class Layout:
    """Where Envoy finds its file and sockets, as seen from where the paths are used."""

    xds: str  # directory of bootstrap.json
    admin: str  # Envoy's admin socket, outside the xds directory
    discovery: str  # the daemon's socket for the rest of Envoy's configuration
    attestation: str  # the daemon's HTTP socket for attestation documents
    probe: str  # the daemon's socket that answers the data path probe
    metrics: str  # the daemon's HTTP socket for figures
