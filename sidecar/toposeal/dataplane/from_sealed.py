"""A sealed manifest as the renderer's input. No IO."""

from __future__ import annotations

from toposeal.dataplane.view import MeshMember, PodView
from toposeal.membership.identity import Identity
from toposeal.membership.sealed import SealedManifest


def pod_view(sealed: SealedManifest, own: bytes, generation: int) -> PodView:
    """What member `own` (iid) sees. Raises KeyError when the manifest does not list it."""
    return PodView(
        topology=sealed.topology,
        own=mesh_member(sealed.member(own).identity, sealed.member(own).hello.addresses),
        members=tuple(mesh_member(m.identity, m.hello.addresses) for m in sealed.members),
        generation=generation,
    )


def mesh_member(identity: Identity, addresses: tuple[str, ...]) -> MeshMember:
    """One member as its peers' Envoys need it; the addresses are those of its HELLO."""
    return MeshMember(
        iid=identity.iid,
        role=identity.role,
        domain=identity.ca.domain,
        ca_pem=identity.ca.pem,
        addresses=addresses,
    )
