"""A member's auxiliary evidence, its GPUs', and the digest under which a manifest carries it. No IO."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from toposeal._wire import evidence_pb2 as wire
from toposeal.encoding import digest
from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.binding import ZERO_DIGEST
from toposeal.evidence.gpu_certs import GpuEvidence
from toposeal.limits import MAX_GPU_CHAIN_SIZE, MAX_GPU_REPORT_SIZE, MAX_GPUS


def aux_digest(gpus: Sequence[GpuEvidence]) -> bytes:
    """`H("toposeal/v1/aux" | LP(report) | LP(chain) ...)`, 48 bytes; zero without any (PROTOCOL.md 2.4)."""
    if not gpus:
        return ZERO_DIGEST
    return digest("toposeal/v1/aux", *(part for gpu in gpus for part in (gpu.report, gpu.chain)))


def read_gpus(messages: Sequence[wire.GpuEvidence], field: str) -> tuple[GpuEvidence, ...]:
    """Bounded and not yet looked at. Raises EvidenceError(TOO_LARGE) naming `field`."""
    if len(messages) > MAX_GPUS:
        raise EvidenceError.of(Reason.TOO_LARGE, field, f"{len(messages)} devices", f"at most {MAX_GPUS}")
    for message in messages:
        for name, limit in (("report", MAX_GPU_REPORT_SIZE), ("chain", MAX_GPU_CHAIN_SIZE)):
            size = len(getattr(message, name))
            if size > limit:
                raise EvidenceError.of(
                    Reason.TOO_LARGE, f"{field}.{name}", f"{size} bytes", f"at most {limit}"
                )
    return tuple(GpuEvidence(message.report, message.chain) for message in messages)


def gpu_messages(gpus: Iterable[GpuEvidence]) -> list[wire.GpuEvidence]:
    """As they travel."""
    return [wire.GpuEvidence(report=gpu.report, chain=gpu.chain) for gpu in gpus]
