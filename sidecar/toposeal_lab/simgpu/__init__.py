"""Simulated NVIDIA devices: values in, bytes out. Structurally genuine, trusted by the lab alone.

Nothing here reads or writes a file, and nothing in the production package imports it.
"""

from toposeal_lab.simgpu.device import GpuShape, LabGpu
from toposeal_lab.simgpu.pki import DeviceShape, LabNvidia
from toposeal_lab.simgpu.rim import LabRimSigner

__all__ = ["DeviceShape", "GpuShape", "LabGpu", "LabNvidia", "LabRimSigner"]
