"""What an owner demands of a role's GPUs, as a frozen value. No IO."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GpuDemand:
    """Exactly `count` devices, each of one of `models`, no two of them the same."""

    count: int  # 1 or more
    models: frozenset[str]  # never empty; as the device certificate names the model
