"""What can go wrong in configfs-tsm, by script: faults of the kernel, its drivers, hosts and neighbours.

`EFFECTS` is the list of all of them; catalogue faults 10 to 13 and cases E15 are made of these.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

HANG_SECONDS = 1.2
THROTTLE_SECONDS = 0.2  # a kernel waits up to 60 for a host that throttles
IN_FLIGHT_SECONDS = 0.3

_READ_ERRORS = {
    "EBUSY": "the previous request is still with the host",
    "EINTR": "a signal came while the driver waited",
    "ETIMEDOUT": "the host did not answer, or throttled for too long",
    "EIO": "the host refused the request",
    "EINVAL": "the driver or the security processor does not take the input",
    "ENXIO": "the provider is gone, or the security processor refuses",
    "ENOTTY": "the key to the security processor was wiped earlier in this boot",
    "ENOMEM": "the kernel has no memory",
    "EFBIG": "the blob is larger than the interface allows",
}
_READ_EFFECTS = {
    "empty": "a blob of no bytes, as from a host without a quoting service",
    "garbage": "600 bytes of nothing",
    "short": "the first half of the blob",
    "oversized": "one byte more than the interface allows",
    "race": "another writer of the same entry came in between",
    "hang": f"the answer takes {HANG_SECONDS} s",
}
EFFECTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "mkdir": {
            "ENXIO": "no provider is registered",
            "ENOENT": "configfs is not mounted",
            "EACCES": "the process may not make an entry",
            "EEXIST": "the name is taken",
            "ENOSPC": "no space",
            "ENOMEM": "the kernel has no memory",
            "leftover": "beside the entry appears one that a killed process left",
        },
        "provider": {
            "foreign": "the text of a TEE that is neither TDX nor SNP",
            "garbage": "bytes that are no text",
            "empty": "an empty line",
        },
        "generation": {
            "jump": "the counter moves by five after it was read, without a reason to be seen",
            "garbage": "no number",
        },
        "commit": {
            "swallow": "the store fails at close, which tells nobody",
            "race": "another writer of the same entry comes second",
        },
        "outblob": {
            **_READ_ERRORS,
            **_READ_EFFECTS,
            "pad": "zeros behind the report, up to the 8000 bytes that one cloud's hosts send",
            "dice": "a report of more than 8 KiB, as of TDX with DICE",
            "foreign": "a report for other data, without a trace of its writer",
            "throttle": f"the host lets the driver wait for {THROTTLE_SECONDS} s",
            "in-flight": f"ETIMEDOUT, and then EBUSY for {IN_FLIGHT_SECONDS} s",
            "wipe": "EIO, and then ENOTTY for ever: the key to the security processor is wiped",
        },
        "auxblob": {**_READ_ERRORS, **_READ_EFFECTS},
    }
)


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong `times` times at one point. Raises ValueError for what EFFECTS lacks."""

    at: str
    effect: str
    times: int = 1

    def __post_init__(self) -> None:
        if self.effect not in EFFECTS.get(self.at, {}):
            raise ValueError(f"there is no fault {self.effect!r} at {self.at!r}")


class Faults:
    """A script of faults, consumed in order at each point; safe to ask from several threads."""

    def __init__(self, script: Iterable[Fault] = ()) -> None:
        self._pending = [fault for each in script for fault in [each] * each.times]
        self._lock = threading.Lock()
        self._wiped = False
        self._busy_until = 0.0

    def take(self, at: str) -> str | None:
        """The next effect at this point; an errno name is raised as that OSError."""
        with self._lock:
            fault = next((each for each in self._pending if each.at == at), None)
            if fault is not None:
                self._pending.remove(fault)
        if fault is None:
            return None
        number = getattr(errno, fault.effect, None)
        if number is not None:
            raise OSError(number, f"scripted {fault.effect}")
        return fault.effect

    def driver(self, effect: str | None) -> None:
        """What a driver's state does to a request. Raises OSError while that state lasts."""
        if self._wiped:
            raise OSError(errno.ENOTTY, "the key is wiped")
        if time.monotonic() < self._busy_until:
            raise OSError(errno.EBUSY, "the host still has the previous request")
        if effect == "wipe":
            self._wiped = True
            raise OSError(errno.EIO, "the security processor lost count")
        if effect == "in-flight":
            self._busy_until = time.monotonic() + IN_FLIGHT_SECONDS
            raise OSError(errno.ETIMEDOUT, "the host did not answer in time")
