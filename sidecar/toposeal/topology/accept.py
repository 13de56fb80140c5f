"""An envelope becomes the topology that a member or a verifier goes by. No IO.

`accept` is the only maker of SignedTopology.
"""

from __future__ import annotations

from dataclasses import dataclass

from toposeal.errors import Reason, TopologyError
from toposeal.limits import MAX_VERSION_STEP
from toposeal.topology.dsse import open_envelope
from toposeal.topology.model import Topology
from toposeal.topology.owner import OwnerRoot
from toposeal.topology.parse import parse_topology


@dataclass(frozen=True)
class SignedTopology:
    """Proof that the owner signed `topology` for this mesh; `envelope` convinces others."""

    topology: Topology
    envelope: bytes


def accept(envelope: bytes, root: OwnerRoot, mesh: str, min_version: int) -> SignedTopology:
    """Verify, parse and place a topology. Raises TopologyError at the first step that fails:

    (1) the owner root's groups signed the exact payload (TOPOLOGY_SIGNATURE, TOPOLOGY_THRESHOLD);
    (2) the payload is a valid topology (schema and meaning);
    (3) it names this owner root (TOPOLOGY_OWNER): a key may serve several roots;
    (4) it is for `mesh` (TOPOLOGY_MESH);
    (5) its version is at least `min_version`, the measured floor (TOPOLOGY_ROLLBACK).
    """
    payload = open_envelope(envelope, root)  # (1)
    topology = parse_topology(payload)  # (2)
    if topology.owner_root_digest != root.digest:  # (3)
        raise TopologyError.of(
            Reason.TOPOLOGY_OWNER, "owner_root", topology.owner_root_digest, root.digest.hex()
        )
    if topology.mesh != mesh:  # (4)
        raise TopologyError.of(Reason.TOPOLOGY_MESH, "mesh", topology.mesh, mesh)
    if topology.version < min_version:  # (5)
        raise _rollback(topology.version, min_version)
    return SignedTopology(topology, envelope)


def check_succession(known: Topology, new: Topology, max_step: int = MAX_VERSION_STEP) -> None:
    """Raise TopologyError unless `new`, already accepted, may follow or is `known`.

    TOPOLOGY_ROLLBACK for a lower version (T4), TOPOLOGY_EQUIVOCATION for another content under
    the same version (T5: an alarm), TOPOLOGY_FAST_FORWARD for a step above `max_step` (T6).
    """
    if new.version < known.version:
        raise _rollback(new.version, known.version)
    if new.version == known.version and new.digest != known.digest:
        expected = f"{known.digest.hex()} for version {known.version}"
        raise TopologyError.of(Reason.TOPOLOGY_EQUIVOCATION, "digest", new.digest, expected)
    if new.version - known.version > max_step:
        expected = f"at most {known.version + max_step}"
        raise TopologyError.of(Reason.TOPOLOGY_FAST_FORWARD, "version", new.version, expected)


def _rollback(found: int, floor: int) -> TopologyError:
    return TopologyError.of(Reason.TOPOLOGY_ROLLBACK, "version", found, f"at least {floor}")
