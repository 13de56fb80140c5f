"""Evidence of the pod's NVIDIA devices, asked of their driver through NVML (nvml.h, confidential compute).

The library is the driver's own and is loaded where it is found; without library and driver there are no
devices. What it hands out is believed by nobody: `verification.gpu_authentic` judges it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

from toposeal.errors import EvidenceError, QuoteSourceError, Reason
from toposeal.evidence.gpu_certs import GpuEvidence
from toposeal.evidence.spdm import parse_spdm_transcript
from toposeal.host.driver_call import DriverCalls
from toposeal.limits import MAX_GPUS, NONCE_SIZE

LIBRARY = "libnvidia-ml.so.1"
DRIVER_DIRECTORY = "/proc/driver/nvidia/gpus"  # one entry for each device that the driver serves
_SUCCESS, _DRIVER_NOT_LOADED = 0, 9
_ON, _OFF = 1, 0
_CHAIN_SIZE, _ATTESTATION_CHAIN_SIZE = 0x1000, 0x1400
_REPORT_SIZE, _CEC_REPORT_SIZE = 0x2000, 0x1000


class SystemState(ctypes.Structure):
    """nvmlConfComputeSystemState_t."""

    _fields_ = (
        ("environment", ctypes.c_uint),
        ("cc_feature", ctypes.c_uint),
        ("dev_tools_mode", ctypes.c_uint),
    )


class Certificate(ctypes.Structure):
    """nvmlConfComputeGpuCertificate_t."""

    _fields_ = (
        ("chain_size", ctypes.c_uint),
        ("attestation_chain_size", ctypes.c_uint),
        ("chain", ctypes.c_ubyte * _CHAIN_SIZE),
        ("attestation_chain", ctypes.c_ubyte * _ATTESTATION_CHAIN_SIZE),
    )


class Report(ctypes.Structure):
    """nvmlConfComputeGpuAttestationReport_t."""

    _fields_ = (
        ("has_cec_report", ctypes.c_uint),
        ("report_size", ctypes.c_uint),
        ("cec_report_size", ctypes.c_uint),
        ("nonce", ctypes.c_ubyte * NONCE_SIZE),
        ("report", ctypes.c_ubyte * _REPORT_SIZE),
        ("cec_report", ctypes.c_ubyte * _CEC_REPORT_SIZE),
    )


class GpuSource:
    """The pod's devices. One request at a time: the devices' firmware answers one."""

    def __init__(self, library: str = LIBRARY, driver_directory: str = DRIVER_DIRECTORY) -> None:
        self._library = library
        self._driver_directory = driver_directory
        self._calls = DriverCalls(_refusal, "driver")

    def collect(self, nonce: bytes, deadline_s: float) -> tuple[GpuEvidence, ...]:
        """Evidence of every device that the driver serves, for `nonce` (32 bytes); none where there is none.

        Blocks up to `deadline_s` seconds. A call that hangs in the driver is abandoned, and until it returns
        every further request is refused. A device that gives no evidence, or that NVML does not
        count, refuses them all: it could read what the others compute (E18). Raises QuoteSourceError:
        GPU_SOURCE, or GPU_MODE where the devices are not confidential or open to developer tools.
        """
        if len(nonce) != NONCE_SIZE:
            raise ValueError(f"a nonce has {NONCE_SIZE} bytes, not {len(nonce)}")
        return self._calls.call(lambda: self._collect(nonce), deadline_s)

    def _collect(self, nonce: bytes) -> tuple[GpuEvidence, ...]:
        served = _served(self._driver_directory)
        try:
            library = ctypes.CDLL(self._library)
        except OSError as error:
            if served:
                raise _refusal("library", error, f"{self._library}, for {served} devices") from error
            return ()
        with _session(library) as loaded:
            if not loaded and served:
                raise _refusal("nvmlInit_v2", "no driver", f"one, for {served} devices")
            return _devices(library, nonce, served) if loaded else ()


def _served(directory: str) -> int:
    """How many devices the kernel's driver serves; none where there is no such driver."""
    try:
        return len(os.listdir(directory))
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise _refusal("driver", error, f"a readable {directory}") from error


@contextmanager
def _session(library: ctypes.CDLL) -> Iterator[bool]:
    """Whether the driver is there, while its library is in use."""
    code = _code(library, "nvmlInit_v2")
    if code not in (_SUCCESS, _DRIVER_NOT_LOADED):
        raise _refusal("nvmlInit_v2", f"error {code}", "success")
    try:
        yield code == _SUCCESS
    finally:
        if code == _SUCCESS:
            _code(library, "nvmlShutdown")


def _devices(library: ctypes.CDLL, nonce: bytes, served: int) -> tuple[GpuEvidence, ...]:
    """Evidence of each. One that the library leaves out of `served`, the kernel's count, would be unasked."""
    count = ctypes.c_uint()
    _call(library, "nvmlDeviceGetCount_v2", ctypes.byref(count))
    if not served <= count.value <= MAX_GPUS:
        raise _refusal("nvmlDeviceGetCount_v2", count.value, f"at least {served}, at most {MAX_GPUS}")
    if count.value:
        _expect_confidential(library)
    return tuple(_device(library, index, nonce) for index in range(count.value))


def _expect_confidential(library: ctypes.CDLL) -> None:
    """Of the driver's word: a report says neither in so many words."""
    state = SystemState()
    _call(library, "nvmlSystemGetConfComputeState", ctypes.byref(state))
    for name, found, wanted in (
        ("ccFeature", state.cc_feature, _ON),
        ("devToolsMode", state.dev_tools_mode, _OFF),
    ):
        if found != wanted:
            raise QuoteSourceError.of(Reason.GPU_MODE, f"nvml.{name}", found, wanted)


def _device(library: ctypes.CDLL, index: int, nonce: bytes) -> GpuEvidence:
    """Report and certificates of one device. The report is ours only if it was made for our nonce."""
    device, report, certificate = ctypes.c_void_p(), Report(), Certificate()
    report.nonce[:] = list(nonce)
    _call(library, "nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(device))
    _call(library, "nvmlDeviceGetConfComputeGpuAttestationReport", device, ctypes.byref(report))
    _call(library, "nvmlDeviceGetConfComputeGpuCertificate", device, ctypes.byref(certificate))
    made = _filled(report.report, report.report_size, f"device[{index}].report")
    chain = _filled(
        certificate.attestation_chain, certificate.attestation_chain_size, f"device[{index}].chain"
    )
    try:
        found = parse_spdm_transcript(made).nonce
    except EvidenceError as error:
        raise _refusal(f"device[{index}].report", error, "an SPDM transcript") from error
    if found != nonce:
        raise _refusal(f"device[{index}].nonce", found, nonce, retry=True)
    return GpuEvidence(made, chain)


def _filled(buffer: ctypes.Array[ctypes.c_ubyte], size: int, field: str) -> bytes:
    """What the library filled of `buffer`; a size above its own buffer is never followed."""
    if not 0 < size <= len(buffer):
        raise _refusal(field, f"{size} bytes", f"1 to {len(buffer)}")
    return bytes(buffer)[:size]


def _call(library: ctypes.CDLL, name: str, *arguments: object) -> None:
    code = _code(library, name, *arguments)
    if code != _SUCCESS:
        raise _refusal(name, f"error {code}", "success")


def _code(library: ctypes.CDLL, name: str, *arguments: object) -> int:
    """nvmlReturn_t. A library without the function is older than confidential computing."""
    try:
        function = getattr(library, name)
    except AttributeError as error:
        raise _refusal(name, "no such function", "a driver that knows confidential computing") from error
    return int(function(*arguments))


def _refusal(name: str, found: object, expected: object, retry: bool = False) -> QuoteSourceError:
    refusal = QuoteSourceError.of(Reason.GPU_SOURCE, f"nvml.{name}", found, expected)
    refusal.retry = retry
    return refusal
