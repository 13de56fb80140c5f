"""A simulated NVIDIA with one device of each architecture, and a signer of reference manifests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from toposeal.verification.gpu_authentic import AuthenticGpu, authenticate_gpu
from toposeal.verification.model import TrustAnchors
from toposeal_lab.simgpu import DeviceShape, GpuShape, LabGpu, LabNvidia, LabRimSigner

NOW = 1_790_000_000
NONCE = bytes(range(32))
MODELS = ("GH100", "GB100", "LS_10")
SHAPE = GpuShape()


def nvidia(model: str = "GH100") -> LabNvidia:
    """One vendor for all models."""
    return _nvidia(model)


def gpu(model: str = "GH100", number: int = 1) -> LabGpu:
    return _gpu(model, number)


@cache
def _nvidia(model: str) -> LabNvidia:
    return LabNvidia.create(NOW, model, None if model == "GH100" else nvidia())


@cache
def _gpu(model: str, number: int) -> LabGpu:
    return LabGpu(nvidia(model), number)


def odd(**shape: object) -> LabGpu:
    """A Hopper whose certificates have something else in them; `model` chooses another architecture."""
    made = DeviceShape(**shape)  # type: ignore[arg-type]
    return LabGpu(nvidia(made.model if made.model in MODELS else "GH100"), 7, made)


@cache
def signer() -> LabRimSigner:
    return LabRimSigner.create(NOW)


def anchors() -> TrustAnchors:
    return signer().anchors(nvidia().anchors())


def authentic(device: LabGpu | None = None, shape: GpuShape = SHAPE) -> AuthenticGpu:
    made = device or gpu()
    return authenticate_gpu(made.evidence(NONCE, shape), NONCE, anchors(), NOW)


def golden(device: LabGpu, indices: Sequence[int]) -> Mapping[int, Sequence[bytes]]:
    """Manifest values: at each index another one, then the device's."""
    measured = device.measurements()
    return {index: [bytes([index]) * 48, measured[index]] for index in indices}


def manifests(device: LabGpu | None = None) -> tuple[bytes, bytes]:
    """Of driver and VBIOS, as the devices report them."""
    made = device or gpu()
    model = made.shape.model
    return (
        signer().manifest(model, "550.90.07", golden(made, range(10, 20))),
        signer().manifest(model, "96.00.9F.00.01", golden(made, range(10))),
    )
