"""Are a member's authentic GPUs what its role demands: how many, of which model, each once. No IO."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from toposeal.errors import Mismatch, PolicyError, Reason
from toposeal.evidence.gpu_report import GpuMode
from toposeal.topology.gpu import GpuDemand
from toposeal.verification.gpu_authentic import AuthenticGpu


def require_gpus(found: Sequence[AuthenticGpu], demand: GpuDemand | None) -> None:
    """Exactly as many devices as demanded, all of a listed model, all different; without a demand, none.

    One too many is refused like one too few: what nobody demanded, nobody has judged (E18). Raises
    PolicyError with every mismatch: GPU_COUNT, GPU_MODEL, GPU_MODE, GPU_DUPLICATE.
    """
    wrong = [*_count(found, demand), *_models(found, demand), *_modes(found), *_repeated(found)]
    if wrong:
        raise PolicyError(*wrong)


def _count(found: Sequence[AuthenticGpu], demand: GpuDemand | None) -> Iterator[Mismatch]:
    wanted = 0 if demand is None else demand.count
    if len(found) != wanted:
        yield Mismatch(Reason.GPU_COUNT, "gpus", str(len(found)), str(wanted))


def _models(found: Sequence[AuthenticGpu], demand: GpuDemand | None) -> Iterator[Mismatch]:
    listed = frozenset[str]() if demand is None else demand.models
    for place, each in enumerate(found):
        if each.model not in listed:
            expected = " or ".join(sorted(listed)) or "no device"
            yield Mismatch(Reason.GPU_MODEL, f"gpus[{place}].model", each.model, expected)


def _modes(found: Sequence[AuthenticGpu]) -> Iterator[Mismatch]:
    """Where NVLink is in the clear, the switches are within the trust; nobody shows their evidence."""
    for place, each in enumerate(found):
        if each.report.mode is GpuMode.PROTECTED_PCIE:
            yield Mismatch(Reason.GPU_MODE, f"gpus[{place}].mode", each.report.mode, "encrypted links")


def _repeated(found: Sequence[AuthenticGpu]) -> Iterator[Mismatch]:
    """By the key that NVIDIA certified, and by the name that the device gives itself."""
    for name in ("device_id", "pdi"):
        seen: set[bytes] = set()
        for place, each in enumerate(found):
            value: bytes = getattr(each, name)
            if value in seen:
                yield Mismatch(Reason.GPU_DUPLICATE, f"gpus[{place}].{name}", value.hex(), "each device once")
            seen.add(value)
