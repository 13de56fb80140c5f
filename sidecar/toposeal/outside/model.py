"""What an outside verifier asks, and what it gets when everything holds. No IO."""

from __future__ import annotations

from dataclasses import dataclass

from toposeal.errors import Reason, UsageError
from toposeal.limits import MAX_VERSION, NONCE_SIZE
from toposeal.names import is_name
from toposeal.topology.model import Topology
from toposeal.topology.owner import OwnerRoot
from toposeal.verification.model import AppraisalContext, GpuDevice


@dataclass(frozen=True)
class VerifyRequest:
    """What the caller knows before anything is fetched. `nonce` is 32 fresh random bytes, used once."""

    owner: OwnerRoot
    mesh: str
    min_version: int
    nonce: bytes
    context: AppraisalContext  # for what it has none of the document's own is used, after the same checks

    def __post_init__(self) -> None:
        """Raise UsageError for a request that could be satisfied by anything (V9)."""
        if not is_name(self.mesh):
            raise UsageError.of(Reason.USAGE, "mesh", self.mesh, "a name of 1 to 40 of a-z, 0-9 and -")
        if not 1 <= self.min_version <= MAX_VERSION:
            raise UsageError.of(Reason.USAGE, "min_version", self.min_version, f"1 to {MAX_VERSION}")
        if len(self.nonce) != NONCE_SIZE or not any(self.nonce):
            raise UsageError.of(Reason.ENTROPY, "nonce", "no nonce", f"{NONCE_SIZE} random bytes")


@dataclass(frozen=True)
class VerifiedMember:
    """One member: what runs there by measurement, and which CA is its own."""

    iid: bytes  # 48
    role: str
    tee: str
    tcb_status: str  # the vendor's spelling
    advisories: tuple[str, ...]
    platform: bytes  # TDX: PPID, 16; SNP: CHIP_ID, 64, or nothing where none is confirmed
    gpus: tuple[GpuDevice, ...]
    ca_spki_sha384: bytes  # plain SHA-384 of the CA's SubjectPublicKeyInfo
    ca_pem: str
    domain: str  # the only DNS name that this CA can certify
    addresses: tuple[str, ...]  # as the member announced them; nobody checks where it really is
    ingress: tuple[int, ...]  # ports open to outside clients, by the topology
    quote: bytes  # the SEAL quote or report that was verified


@dataclass(frozen=True)
class VerifiedMesh:
    """The one result: a mesh that the owner declared and that all its members committed to.

    `proven` answered nonces of this call, the first of them the one that was asked first; all others
    proved only that they committed to this manifest.
    Constructed by `verify_document` alone.
    """

    mesh: str
    mesh_id: bytes  # 48, of owner root and name
    owner_root: bytes  # SHA-384 of the owner root
    topology_version: int
    lineage: bytes  # D of the genesis; another value than last time means a new mesh (V6)
    epoch: int
    manifest_digest: bytes  # D, 48
    attestation_port: int  # where every member answers
    members: tuple[VerifiedMember, ...]  # ascending (role, iid)
    proven: tuple[VerifiedMember, ...]  # never empty
    expires_at: int  # Unix seconds: the earliest expiry of the collateral and certificates used
    topology: Topology  # that the owner signed

    @property
    def proven_now(self) -> VerifiedMember:
        """The member that was asked first."""
        return self.proven[0]

    @property
    def pins(self) -> str:
        """The members' CA certificates, PEM: trust anchors for new connections and for nothing else."""
        return "".join(member.ca_pem for member in self.members)
