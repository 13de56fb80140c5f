"""Evidence comes from every device that the driver knows, for our nonce, or from none.

The library is a real one, compiled here, which answers from files as NVIDIA's does from devices.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.gpu import NONCE, NOW, anchors, gpu

from toposeal.errors import QuoteSourceError, Reason
from toposeal.host.gpu import GpuSource
from toposeal.limits import MAX_GPUS
from toposeal.topology.gpu import GpuDemand
from toposeal.verification.gpu_authentic import authenticate_gpu
from toposeal.verification.gpu_policy import require_gpus

GCC = shutil.which("gcc")
NOT_SUPPORTED, NO_PERMISSION, DRIVER_NOT_LOADED, GPU_IS_LOST, UNKNOWN = 3, 4, 9, 15, 999
pytestmark = pytest.mark.skipif(GCC is None, reason="no gcc to compile the stand-in for NVML")

# Layouts of nvml.h. Each function fails with the number in the file of its name, if there is one.
SOURCE = r"""
#include <stdio.h>
#include <string.h>
#include <unistd.h>
static char home[512];
typedef struct { unsigned environment, ccFeature, devToolsMode; } state_t;
typedef struct {
  unsigned certChainSize, attestationCertChainSize;
  unsigned char certChain[0x1000], attestationCertChain[0x1400];
} certificate_t;
typedef struct {
  unsigned isCecAttestationReportPresent, attestationReportSize, cecAttestationReportSize;
  unsigned char nonce[0x20], attestationReport[0x2000], cecAttestationReport[0x1000];
} report_t;
static int number(const char *name, int otherwise) {
  char path[600]; int found = otherwise;
  snprintf(path, sizeof path, "%s/%s", home, name);
  FILE *file = fopen(path, "r");
  if (file) { if (fscanf(file, "%d", &found) != 1) found = otherwise; fclose(file); }
  return found;
}
static unsigned filled(const char *name, long index, unsigned char *into, size_t limit) {
  char path[600];
  snprintf(path, sizeof path, "%s/%s.%ld", home, name, index);
  FILE *file = fopen(path, "rb");
  if (!file) return 0;
  size_t size = fread(into, 1, limit, file);
  fclose(file);
  snprintf(path, sizeof path, "%s.size.%ld", name, index);
  return (unsigned)number(path, (int)size);
}
void stand_in_home(const char *path) { snprintf(home, sizeof home, "%s", path); }
int nvmlInit_v2(void) {
  while (number("hangs", 0)) usleep(10000);
  return number("nvmlInit_v2", 0);
}
int nvmlShutdown(void) {
  char path[600];
  snprintf(path, sizeof path, "%s/ended", home);
  FILE *file = fopen(path, "w");
  if (file) fclose(file);
  return 0;
}
int nvmlSystemGetConfComputeState(state_t *state) {
  state->environment = 2;
  state->ccFeature = number("ccFeature", 1);
  state->devToolsMode = number("devToolsMode", 0);
  return number("nvmlSystemGetConfComputeState", 0);
}
int nvmlDeviceGetCount_v2(unsigned *count) {
  *count = number("count", 0);
  return number("nvmlDeviceGetCount_v2", 0);
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
  *device = (void *)((long)index + 1);
  return number("nvmlDeviceGetHandleByIndex_v2", 0);
}
int nvmlDeviceGetConfComputeGpuAttestationReport(void *device, report_t *report) {
  char path[600];
  long index = (long)device - 1;
  snprintf(path, sizeof path, "%s/asked.%ld", home, index);
  FILE *file = fopen(path, "wb");
  if (file) { fwrite(report->nonce, 1, sizeof report->nonce, file); fclose(file); }
  report->attestationReportSize =
      filled("report", index, report->attestationReport, sizeof report->attestationReport);
  snprintf(path, sizeof path, "report.error.%ld", index);
  return number(path, 0);
}
#ifndef OLD
int nvmlDeviceGetConfComputeGpuCertificate(void *device, certificate_t *certificate) {
  certificate->attestationCertChainSize = filled(
      "chain", (long)device - 1, certificate->attestationCertChain, sizeof certificate->attestationCertChain);
  return 0;
}
#endif
"""


@dataclass(frozen=True)
class Machine:
    """One pod: the driver's directory, its library, and the files that the library answers from."""

    home: Path
    library: Path

    def say(self, name: str, value: int) -> None:
        (self.home / name).write_text(str(value))

    def attach(self, *devices: tuple[bytes, bytes]) -> None:
        """Devices with report and certificates."""
        self.say("count", len(devices))
        for index, (report, chain) in enumerate(devices):
            (self.home / f"report.{index}").write_bytes(report)
            (self.home / f"chain.{index}").write_bytes(chain)
            (self.home / "gpus" / f"0000:{index:02x}:00.0").mkdir(exist_ok=True)

    def source(self) -> GpuSource:
        return GpuSource(str(self.library), str(self.home / "gpus"))


def compiled(folder: Path, *flags: str) -> Path:
    source, library = folder / "nvml.c", folder / f"libnvml{'-'.join(flags)}.so"
    source.write_text(SOURCE)
    command = [str(GCC), "-shared", "-fPIC", "-Wall", "-Werror", *flags, "-o", str(library), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return library


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def machine(tmp_path: Path, library: Path) -> Iterator[Machine]:
    (tmp_path / "gpus").mkdir()
    ctypes.CDLL(str(library)).stand_in_home(str(tmp_path).encode())
    yield Machine(tmp_path, library)
    (tmp_path / "hangs").unlink(missing_ok=True)


def both() -> list[tuple[bytes, bytes]]:
    return [(device.report(NONCE), device.chain) for device in (gpu(), gpu("GH100", 2))]


def refused(source: GpuSource, nonce: bytes = NONCE, deadline_s: float = 5.0) -> QuoteSourceError:
    with pytest.raises(QuoteSourceError) as raised:
        source.collect(nonce, deadline_s)
    return raised.value


def test_every_device_is_asked_with_our_nonce(machine: Machine) -> None:
    devices = both()
    machine.attach(*devices)
    found = machine.source().collect(NONCE, 5.0)
    assert [(each.report, each.chain) for each in found] == devices
    assert [(machine.home / f"asked.{index}").read_bytes() for index in (0, 1)] == [NONCE, NONCE]
    assert (machine.home / "ended").exists()
    authentic = [authenticate_gpu(each, NONCE, anchors(), NOW) for each in found]
    require_gpus(authentic, GpuDemand(2, frozenset({"GH100"})))


def test_a_pod_without_library_driver_or_devices_has_none(machine: Machine, tmp_path: Path) -> None:
    assert GpuSource(str(tmp_path / "missing.so"), str(tmp_path / "none")).collect(NONCE, 5.0) == ()
    assert machine.source().collect(NONCE, 5.0) == ()
    machine.say("nvmlInit_v2", DRIVER_NOT_LOADED)
    assert machine.source().collect(NONCE, 5.0) == ()


def test_E18_devices_that_cannot_be_asked_are_not_passed_over(machine: Machine, tmp_path: Path) -> None:
    machine.attach(*both())
    assert (
        refused(GpuSource(str(tmp_path / "missing.so"), str(tmp_path / "gpus"))).reason is Reason.GPU_SOURCE
    )
    machine.say("nvmlInit_v2", DRIVER_NOT_LOADED)
    assert refused(machine.source()).reason is Reason.GPU_SOURCE
    file = tmp_path / "file"
    file.write_text("")
    assert refused(GpuSource(str(machine.library), str(file))).reason is Reason.GPU_SOURCE


def test_E18_one_more_device_without_evidence_refuses_all(machine: Machine) -> None:
    """It is not confidential: what the others hand it, the host can read."""
    machine.attach(*both())
    machine.say("count", 3)
    assert refused(machine.source()).reason is Reason.GPU_SOURCE
    machine.attach(*both())
    machine.say("report.error.1", NOT_SUPPORTED)
    assert refused(machine.source()).mismatches[0].found == f"error {NOT_SUPPORTED}"


@pytest.mark.parametrize("count", [0, 1])
def test_E18_a_device_that_nvml_does_not_count_is_not_passed_over(machine: Machine, count: int) -> None:
    """The kernel's driver serves two."""
    machine.attach(*both())
    machine.say("count", count)
    refusal = refused(machine.source())
    assert (refusal.reason, refusal.mismatches[0].field) == (Reason.GPU_SOURCE, "nvml.nvmlDeviceGetCount_v2")
    assert refusal.mismatches[0].found == str(count)


@pytest.mark.parametrize(("name", "value"), [("ccFeature", 0), ("ccFeature", 2), ("devToolsMode", 1)])
def test_E18_devices_that_are_open_are_refused(machine: Machine, name: str, value: int) -> None:
    machine.attach(*both())
    machine.say(name, value)
    refusal = refused(machine.source())
    assert (refusal.reason, refusal.mismatches[0].field) == (Reason.GPU_MODE, f"nvml.{name}")


def test_E18_fault_26_an_old_report_is_refused(machine: Machine) -> None:
    machine.attach((gpu().report(bytes(32)), gpu().chain))
    refusal = refused(machine.source())
    assert (refusal.reason, refusal.retry) == (Reason.GPU_SOURCE, True)


@pytest.mark.parametrize("function", ["nvmlDeviceGetCount_v2", "nvmlSystemGetConfComputeState"])
def test_an_error_of_the_driver_is_typed(machine: Machine, function: str) -> None:
    machine.attach(*both())
    machine.say(function, UNKNOWN)
    assert refused(machine.source()).mismatches[0].field == f"nvml.{function}"


@pytest.mark.parametrize("call", ["nvmlDeviceGetHandleByIndex_v2", "report.error.1"])
def test_E18_fault_26_a_device_that_fell_off_the_bus_is_not_passed_over(machine: Machine, call: str) -> None:
    machine.attach(*both())
    machine.say(call, GPU_IS_LOST)
    refusal = refused(machine.source())
    assert (refusal.reason, refusal.mismatches[0].found) == (Reason.GPU_SOURCE, f"error {GPU_IS_LOST}")


def test_a_device_that_we_may_not_open_is_an_error(machine: Machine) -> None:
    machine.attach(*both())
    machine.say("nvmlDeviceGetHandleByIndex_v2", NO_PERMISSION)
    assert refused(machine.source()).reason is Reason.GPU_SOURCE
    machine.say("nvmlInit_v2", NO_PERMISSION)
    assert refused(machine.source()).mismatches[0].field == "nvml.nvmlInit_v2"


@pytest.mark.parametrize("name", ["report", "chain"])
@pytest.mark.parametrize("size", [0, -1, 0x2001, 1 << 30])
def test_E14_a_size_beyond_the_buffer_is_never_followed(machine: Machine, name: str, size: int) -> None:
    machine.attach(*both())
    machine.say(f"{name}.size.1", size)
    assert refused(machine.source()).mismatches[0].field == f"nvml.device[1].{name}"


def test_E14_a_report_that_is_none_is_refused(machine: Machine) -> None:
    machine.attach((b"no report", gpu().chain))
    assert refused(machine.source()).mismatches[0].field == "nvml.device[0].report"


def test_more_devices_than_any_pod_has_are_refused(machine: Machine) -> None:
    machine.say("count", MAX_GPUS + 1)
    refusal = refused(machine.source())
    assert (refusal.reason, refusal.mismatches[0].field) == (Reason.GPU_SOURCE, "nvml.nvmlDeviceGetCount_v2")


def test_an_older_driver_is_refused_where_it_has_devices(machine: Machine, tmp_path: Path) -> None:
    machine.attach(*both())
    old = compiled(tmp_path, "-DOLD")
    ctypes.CDLL(str(old)).stand_in_home(str(tmp_path).encode())
    assert "no such function" in str(refused(GpuSource(str(old), str(tmp_path / "gpus"))))


def test_fault_26_a_driver_that_hangs_is_abandoned(machine: Machine) -> None:
    machine.attach(*both())
    machine.say("hangs", 1)
    source = machine.source()
    refusal = refused(source, deadline_s=0.1)
    assert (refusal.retry, refusal.mismatches[0].field) == (True, "nvml.driver")
    assert refused(source, deadline_s=0.05).mismatches[0].field == "nvml.request"
    (machine.home / "hangs").unlink()
    end = time.monotonic() + 5
    while not (machine.home / "ended").exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert len(source.collect(NONCE, 5.0)) == 2


def test_a_machine_without_threads_is_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    source = machine.source()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert refused(source).mismatches[0].field == "nvml.thread"
    assert source.collect(NONCE, 5.0) == ()


@pytest.mark.parametrize("nonce", [b"", bytes(31), bytes(64)])
def test_another_nonce_is_a_defect_of_ours(machine: Machine, nonce: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        machine.source().collect(nonce, 1.0)
