"""What /proc says of processes and of this machine. Sizes in MiB, times in seconds."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """Resident memory and CPU time so far of a set of processes."""

    rss_mib: float
    cpu_seconds: float


def usage(pids: Iterable[int]) -> Usage:
    """The sum over `pids`; one that has ended counts as nothing."""
    rss_kib, ticks = 0, 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            status = Path(f"/proc/{pid}/status").read_text()
            rss_kib += int(status.partition("VmRSS:")[2].split()[0])
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return Usage(rss_kib / 1024, ticks / _TICKS)


def is_python(pid: int) -> bool:
    """Whether process `pid` is an interpreter, by its executable."""
    with suppress(OSError):
        return "python" in os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    return False


def median(values: Sequence[float]) -> float:
    """Rounded to a tenth of a millisecond."""
    return round(statistics.median(values), 4)


def machine() -> dict[str, object]:
    """What the numbers were measured on, and how busy it was."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = next((line for line in cpuinfo.splitlines() if line.startswith("model name")), "unknown")
    return {
        "cpu": model.partition(":")[2].strip() or model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }
