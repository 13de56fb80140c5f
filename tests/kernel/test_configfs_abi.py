"""Our reader on the configfs-tsm of a real kernel, and how far the lab's file system is from that.

Run by `make kernel`. The kernel is Debian's, in an emulated machine; the one thing that is ours in it is
the driver behind the interface (module/tsm_soft.c), since real ones need a TEE.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.snp import chip, guest
from support.tdx import HOST, WEB
from support.tsm import served

from kernel.conformance import SCENARIOS, Scenario
from kernel.machine import BUILT, HERE, ROOT, boot, initial_filesystem
from toposeal.limits import MAX_QUOTE_SIZE
from toposeal_lab.simsnp import HostTable, host_table
from toposeal_lab.tsm import CLOUD_QUOTE_SIZE, DICE_SIZE, ReportDirectory
from toposeal_lab.tsm_faults import Fault, Faults
from toposeal_lab.tsm_providers import Blobs, Provider, SnpProvider, TdxProvider

LASTS = 99
TABLE = host_table(chip(), HostTable.FULL)
EFFECTS = {"empty": "empty", "padded": "pad", "dice": "dice", "oversized": "EFBIG"}
EFFECTS |= {"foreign": "foreign", "garbage": "garbage"}

Transcript = dict[str, str]  # "scenario: step" to outcome

_NEVER_ARRIVES = "FUSE is not asked to write nothing; the kernel counts the attempt"
# Every line in which the lab's file system is not the kernel: kernel, lab, why.
DIFFERENCES = {
    "abi: (0,) write 0": ("EFAULT", "0", _NEVER_ARRIVES),
    "abi: generation after (0,)": ("6", "5", _NEVER_ARRIVES),
    "abi: generation after ()": ("6", "5", _NEVER_ARRIVES),
    "abi: generation after opens": ("6", "5", _NEVER_ARRIVES),
    "abi: privlevel b''": ("EFAULT", "0", _NEVER_ARRIVES),
    "abi: generation after levels": ("10", "9", _NEVER_ARRIVES),
    "abi: lseek": ("ESPIPE", "0", "FUSE seeks without asking the file system"),
}
# What only a machine with drivers that come and go can show.
ONLY_KERNEL = "leaving: "


class RealmProvider:
    """A driver of a TEE that is not ours."""

    name = "arm_cca_guest"
    attributes = TdxProvider.attributes
    privlevel_floor = 0

    def report(self, inblob: bytes, privlevel: int) -> Blobs:
        return Blobs(inblob)


def lab_directory(chosen: Scenario) -> ReportDirectory:
    """A scenario as the lab brings it about."""
    delay = chosen.delay_ms / 1000
    providers: dict[str, Provider] = {
        "tdx_guest": TdxProvider(HOST, WEB, delay),
        "sev_guest": SnpProvider(chip(), guest(vmpl=chosen.floor), TABLE, delay),
        "arm_cca_guest": RealmProvider(),
    }
    faults = [Fault("outblob", chosen.fail, chosen.times)] if chosen.fail else []
    if chosen.blob in EFFECTS:
        faults.append(Fault("outblob", EFFECTS[chosen.blob], LASTS))
    return ReportDirectory(providers[chosen.provider], Faults(faults))


def templates() -> dict[str, bytes]:
    """What the driver in the virtual machine answers with, by the names of Scenario.blob."""
    quote, report = HOST.quote(bytes(64), WEB), chip().report(bytes(64), guest())
    blobs = {
        "tdx": quote,
        "snp": report,
        "table": TABLE,
        "empty": b"",
        "padded": quote.ljust(CLOUD_QUOTE_SIZE, b"\0"),
        "dice": quote.ljust(DICE_SIZE, b"\1"),
        "oversized": quote.ljust(MAX_QUOTE_SIZE + 1, b"\0"),
        "foreign": quote,
        "garbage": b"\xff" * 600,
    }
    return {f"/templates/{name}": blob for name, blob in blobs.items()}


def in_lab(mount: Path, modules: Path) -> str:
    """The transcript of the lab's file system; `modules` gets what the script needed."""
    path = os.pathsep.join([str(HERE.parent), str(ROOT / "sidecar")])
    done = subprocess.run(
        [sys.executable, "-P", "-m", "kernel.in_lab", str(mount), str(modules)],
        env={"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def lab_and_modules(tmp_path_factory: pytest.TempPathFactory) -> tuple[Transcript, list[str]]:
    """The lab's transcript, and the files that the script needed for it."""
    modules = tmp_path_factory.mktemp("kernel") / "modules"
    with served({name: lab_directory(chosen) for name, chosen in SCENARIOS.items()}) as mount:
        lines = in_lab(mount, modules)
    return parsed(lines), modules.read_text().splitlines()


@pytest.fixture(scope="module")
def lab(lab_and_modules: tuple[Transcript, list[str]]) -> Transcript:
    return lab_and_modules[0]


@pytest.fixture(scope="module")
def kernel(lab_and_modules: tuple[Transcript, list[str]]) -> Transcript:
    """The kernel's transcript; its console stays in build/kernel/console.log."""
    if not (BUILT / "stamp").exists():
        pytest.skip("no kernel in build/kernel: make kernel")
    initrd = BUILT / "initrd"
    initial_filesystem(lab_and_modules[1], templates(), initrd)
    console = boot(initrd)
    (BUILT / "console.log").write_text(console)
    assert "\ntranscript\n" in console and "\nstatus 0 " in console, console[-3000:]
    return parsed(console.partition("\ntranscript\n")[2].partition("\nstatus ")[0])


def parsed(text: str) -> Transcript:
    """Every line is a step, and no step comes twice."""
    steps = [line.partition(" = ")[::2] for line in text.splitlines()]
    assert len(dict(steps)) == len(steps)
    assert steps[-1] == ("script: end", "reached")
    return dict(steps)


TDX_REPORT = f"tdx_guest outblob {len(HOST.quote(bytes(64), WEB))} auxblob 0 own report data True"
SNP_REPORT = f"sev_guest outblob 1184 auxblob {len(TABLE)} level {{}} own report data True"


def test_every_difference_between_the_lab_and_a_kernel_is_known(kernel: Transcript, lab: Transcript) -> None:
    steps = {step for step in kernel | lab if not step.startswith(ONLY_KERNEL)}
    found = {step: (kernel.get(step), lab.get(step)) for step in steps if kernel.get(step) != lab.get(step)}
    assert found == {step: known[:2] for step, known in DIFFERENCES.items()}
    assert not [step for step in lab if step.startswith(ONLY_KERNEL)]


@pytest.mark.parametrize(
    ("scenario", "report"),
    [
        ("tdx", TDX_REPORT),
        ("snp", SNP_REPORT.format(0)),
        ("svsm", SNP_REPORT.format(2)),
        ("padded", TDX_REPORT.replace(f"outblob {len(HOST.quote(bytes(64), WEB))}", "outblob 8000")),
        ("slow", TDX_REPORT),
        ("busy", TDX_REPORT),
        ("late", TDX_REPORT),
        ("interrupted", TDX_REPORT),
        ("no-memory", TDX_REPORT),
    ],
)
def test_fault_11_12_a_kernels_report_is_had_whatever_passes(
    kernel: Transcript, scenario: str, report: str
) -> None:
    assert kernel[f"{scenario}: reader"] == report
    assert kernel[f"{scenario}: left"] == "[]"


@pytest.mark.parametrize(
    ("scenario", "refusal"),
    [
        ("cca", "refused at provider: another value, lasts"),
        ("refused", "refused at outblob: EIO, lasts"),
        ("bad-input", "refused at outblob: EINVAL, lasts"),
        ("gone", "refused at outblob: ENXIO, lasts"),
        ("wiped", "refused at outblob: ENOTTY, lasts"),
        ("empty", "refused at outblob: another value, may pass"),
        ("dice", "refused at outblob: another value, lasts"),
        ("oversized", "refused at outblob: EFBIG, lasts"),
        ("foreign", "refused at outblob.report_data: another value, may pass"),
        ("garbage", "refused at outblob: another value, may pass"),
    ],
)
def test_fault_12_13_a_kernels_refusal_is_understood(kernel: Transcript, scenario: str, refusal: str) -> None:
    assert kernel[f"{scenario}: reader"] == refusal
    assert kernel[f"{scenario}: left"] == "[]"


def test_fault_10_a_driver_that_leaves_and_what_it_leaves_behind(kernel: Transcript) -> None:
    assert kernel["leaving: provider"] == kernel["leaving: outblob"] == kernel["leaving: mkdir"] == "ENXIO"
    assert kernel["leaving: reader"] == "refused at an entry: ENXIO, lasts"
    assert kernel["leaving: another driver"] == "EBUSY"  # while an entry is left
    assert kernel["leaving: another driver then"] == "comes"


def test_E15_in_a_kernel_another_writer_is_seen(kernel: Transcript) -> None:
    assert kernel["writers: generation after two"] == "2"
    assert kernel["writers: outblob"] == "62626262..62626262"
    assert kernel["racing: another wrote"] == "True"
    assert kernel["racing: own report or a refusal that may pass"] == "True"
    assert kernel["racing: afterwards"] == SNP_REPORT.format(0)
    assert kernel["parallel: 8 readers"] == TDX_REPORT


def test_fault_12_a_read_that_a_kernel_does_not_return_from_is_abandoned(kernel: Transcript) -> None:
    assert kernel["hanging: first"] == "refused at quote_source.outblob, may pass: True"
    assert kernel["hanging: second"] == "refused at quote_source.request, may pass: True"
    assert kernel["hanging: left"] == "[]"
