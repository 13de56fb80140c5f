"""The verdict over a member's GPUs, all of them together. No IO."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from toposeal.errors import Mismatch, PolicyError, Reason
from toposeal.evidence.binding import Binding, gpu_nonce
from toposeal.evidence.gpu_certs import GpuEvidence
from toposeal.topology.model import Role
from toposeal.verification.gpu_authentic import authenticate_gpu
from toposeal.verification.gpu_policy import require_gpus
from toposeal.verification.model import AppraisalContext, GpuDevice, VerifiedEvidence


def appraise_gpus(
    gpus: Sequence[GpuEvidence], expected: Binding, role: Role, context: AppraisalContext
) -> tuple[GpuDevice, ...]:
    """Verify that the member that `expected` (GPUBIND) names has exactly the devices that `role` demands.

    A role that demands none may show none: nothing is carried that nobody has asked for. Raises
    EvidenceError or PolicyError with the reason (E18).
    """
    demand = role.gpus
    if demand is None:
        if gpus:
            found, wanted = f"{len(gpus)} devices", f"none: {role.name} demands none"
            raise PolicyError(Mismatch(Reason.EVIDENCE_KIND, "evidence.gpus", found, wanted))
        return ()
    nonce = gpu_nonce(expected)
    authentic = [authenticate_gpu(gpu, nonce, context.anchors, context.now) for gpu in gpus]
    require_gpus(authentic, demand)
    return tuple(
        GpuDevice(each.model, each.device_id, each.driver_version, each.vbios_version, each.expires_at)
        for each in authentic
    )


def with_gpus(verified: VerifiedEvidence, gpus: tuple[GpuDevice, ...]) -> VerifiedEvidence:
    """`verified` with the devices that answered for its member: it rests on their certificates too."""
    expires_at = min([verified.expires_at, *(gpu.expires_at for gpu in gpus)])
    return replace(verified, gpus=gpus, expires_at=expires_at)
