"""Proof values that later stages demand: an admitted peer, a sealed manifest. No IO."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from toposeal.errors import LocalProtocolError, Reason
from toposeal.evidence.binding import Binding, join_binding, seal_binding
from toposeal.evidence.gpu_certs import GpuEvidence
from toposeal.membership.hello import Hello
from toposeal.membership.identity import Identity, SignedIdentity
from toposeal.membership.manifest import Entry, Manifest
from toposeal.membership.votes import SignedCommit
from toposeal.topology.model import Topology
from toposeal.verification.model import VerifiedEvidence


@dataclass(frozen=True)
class AdmittedPeer:
    """An identity whose JOIN evidence names, by measurement, the role that it claims.

    Constructed by `membership.exchange` alone.
    """

    signed: SignedIdentity
    join: VerifiedEvidence
    topology: bytes  # topo_digest that admits it


@dataclass(frozen=True)
class SealedMember:
    """One member of a sealed manifest with everything that proves its entry."""

    signed: SignedIdentity
    hello: Hello
    commit: SignedCommit
    seal: VerifiedEvidence
    gpus: tuple[GpuEvidence, ...] = ()  # what the entry's aux_digest is of

    @property
    def identity(self) -> Identity:
        return self.signed.identity


@dataclass(frozen=True)
class SealedManifest:
    """n verified COMMITs over one D: the certificate. Constructed by `membership.sealing` alone."""

    manifest: Manifest
    topology: Topology
    members: tuple[SealedMember, ...]  # in the manifest's order

    @cached_property
    def iids(self) -> frozenset[bytes]:
        return frozenset(m.identity.iid for m in self.members)

    def member(self, iid: bytes) -> SealedMember:
        """Raises KeyError for an instance that the manifest does not list."""
        for member in self.members:
            if member.identity.iid == iid:
                return member
        raise KeyError(iid.hex())


def check_verified(verified: VerifiedEvidence, expected: Binding) -> None:
    """Raise LocalProtocolError unless the verifier answered what it was asked: a second wall (E3, E6)."""
    if verified.binding != expected:
        found = f"{verified.binding.purpose.name} of another binding"
        raise LocalProtocolError.of(Reason.REPORT_DATA, "verified.binding", found, expected.purpose.name)
    if verified.role != expected.role:
        raise LocalProtocolError.of(Reason.ROLE_MISMATCH, "verified.role", verified.role, expected.role)


def join_of(identity: Identity) -> Binding:
    """What the JOIN evidence of `identity` must say."""
    return join_binding(identity.mesh_id, identity.role, identity.iid, identity.id_digest)


def seal_of(manifest: Manifest, entry: Entry) -> Binding:
    """What the SEAL evidence of `entry` must say."""
    return seal_binding(
        manifest.mesh_id,
        manifest.topology_digest,
        manifest.epoch,
        manifest.digest,
        entry.role,
        entry.iid,
        entry.hello_digest,
    )
