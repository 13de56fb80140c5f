"""What a quote commits to: the 64 bytes of report_data (PROTOCOL.md 2.4). No IO."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum

from toposeal.encoding import lp, u64
from toposeal.limits import DIGEST_SIZE, NONCE_SIZE

ZERO_DIGEST = bytes(DIGEST_SIZE)
ZERO_NONCE = bytes(NONCE_SIZE)
_TAG = b"toposeal/v1/rd"


class Purpose(IntEnum):
    """Why a quote was made. A quote of one purpose is worth nothing for another (E3)."""

    JOIN = 1
    SEAL = 2
    LIVE = 3
    KEYREL = 4  # always refused: attested storage is open
    GPUBIND = 5


class Status(IntEnum):
    """How far the quoting member had come when it asked for the quote."""

    NONE = 0
    COMMITTED = 1
    SEALED = 2
    ACTIVE = 3


@dataclass(frozen=True)
class Binding:
    """Every field of report_data. Sizes in bytes: the digests 48, `challenge` 32."""

    purpose: Purpose
    mesh_id: bytes
    topology_digest: bytes
    epoch: int
    manifest_digest: bytes
    role: str
    iid: bytes
    anchor: bytes  # id_digest for JOIN, hello_digest for SEAL and LIVE
    challenge: bytes
    status: Status

    def report_data(self) -> bytes:
        """SHA-512 over the transcript, 64 bytes. Raises ValueError for a field of another size."""
        digests = (self.mesh_id, self.topology_digest, self.manifest_digest, self.iid, self.anchor)
        if any(len(d) != DIGEST_SIZE for d in digests) or len(self.challenge) != NONCE_SIZE:
            raise ValueError("a digest of the binding is not 48 bytes or its challenge not 32")
        return hashlib.sha512(
            _TAG
            + bytes([self.purpose])
            + self.mesh_id
            + self.topology_digest
            + u64(self.epoch)
            + self.manifest_digest
            + lp(self.role.encode("ascii"))
            + self.iid
            + self.anchor
            + self.challenge
            + bytes([self.status])
        ).digest()


def join_binding(mesh_id: bytes, role: str, iid: bytes, id_digest: bytes) -> Binding:
    """JOIN: once per boot, before any topology is agreed; binds the identity alone."""
    return Binding(
        Purpose.JOIN, mesh_id, ZERO_DIGEST, 0, ZERO_DIGEST, role, iid, id_digest, ZERO_NONCE, Status.NONE
    )


def seal_binding(
    mesh_id: bytes,
    topology_digest: bytes,
    epoch: int,
    manifest_digest: bytes,
    role: str,
    iid: bytes,
    hello: bytes,
) -> Binding:
    """SEAL: the commitment of one member to one manifest; fresh to all, since D holds every nonce."""
    return Binding(
        Purpose.SEAL,
        mesh_id,
        topology_digest,
        epoch,
        manifest_digest,
        role,
        iid,
        hello,
        ZERO_NONCE,
        Status.COMMITTED,
    )


def gpu_binding(mesh_id: bytes, role: str, iid: bytes, id_digest: bytes) -> Binding:
    """GPUBIND: what a member's GPUs are asked with, once per boot, so that they vouch for this member."""
    return Binding(
        Purpose.GPUBIND, mesh_id, ZERO_DIGEST, 0, ZERO_DIGEST, role, iid, id_digest, ZERO_NONCE, Status.NONE
    )


def gpu_nonce(binding: Binding) -> bytes:
    """The SPDM nonce of a GPUBIND binding: the first 32 bytes of its report_data.

    Raises ValueError for a binding of another purpose.
    """
    if binding.purpose is not Purpose.GPUBIND:
        raise ValueError("only GPUBIND becomes an SPDM nonce")
    return binding.report_data()[:NONCE_SIZE]


def live_binding(seal: Binding, challenge: bytes) -> Binding:
    """LIVE: the SEAL binding again, active now, on an outside verifier's `challenge` (32 bytes)."""
    return Binding(
        Purpose.LIVE,
        seal.mesh_id,
        seal.topology_digest,
        seal.epoch,
        seal.manifest_digest,
        seal.role,
        seal.iid,
        seal.anchor,
        challenge,
        Status.ACTIVE,
    )
