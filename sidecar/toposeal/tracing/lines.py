"""A daemon's log, as a container runtime keeps it, as lines with their time. No IO.

Read are plain lines (`t` counts from the boot of the pod's guest), lines after an RFC 3339 time (CRI's log
format, `kubectl logs --timestamps`), and Docker's json-file. Whatever else stands in a log is passed over.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from toposeal.errors import printable

_TIMED = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) (?:std(?:out|err) [FP] )?", re.ASCII
)
_DOCKER_TIME = "time"
_MAX_UPTIME_S = 1 << 40  # no clock of any boot, and no number that its arithmetic would not bear


@dataclass(frozen=True)
class Line:
    """One event. Times are in nanoseconds."""

    since_boot: int
    read_at: int | None  # when the runtime read it, since 1970
    event: str
    values: Mapping[str, Any]

    def text(self, name: str) -> str:
        """A value that should be a string, made printable; empty for any other."""
        value = self.values.get(name)
        return printable(value) if isinstance(value, str) else ""

    def number(self, name: str) -> int:
        """A value that should be a whole number, not negative; 0 for any other."""
        value = self.values.get(name)
        return value if type(value) is int and value >= 0 else 0


def read_lines(text: str) -> Iterator[Line]:
    """The events of a log in their order."""
    for line in text.split("\n"):
        found = _read(line)
        if found is not None:
            yield found


def boot_time(lines: Iterable[Line]) -> int | None:
    """When the guest booted (ns since 1970): no line is read before it is written, so the one that was
    read soonest is nearest. None where no line has a time.
    """
    times = [line.read_at - line.since_boot for line in lines if line.read_at is not None]
    return max(0, min(times)) if times else None


def _read(line: str) -> Line | None:
    read_at, rest = _timed(line)
    values = _object(rest)
    if read_at is None and isinstance(values.get("log"), str):
        read_at, values = _timed(f"{values.get(_DOCKER_TIME)} ")[0], _object(values["log"])
    t, event = values.pop("t", None), values.pop("event", None)
    if type(t) not in (int, float) or not isinstance(event, str):
        return None
    if not math.isfinite(t) or not 0 <= t < _MAX_UPTIME_S:
        return None
    return Line(round(t * 1000) * 1_000_000, read_at, event, values)


def _timed(line: str) -> tuple[int | None, str]:
    """The time before a line in ns since 1970, if there is one, and the rest."""
    match = _TIMED.match(line)
    if match is None:
        return None, line
    second, fraction, zone = match.groups()
    try:
        at = datetime.fromisoformat(second + zone.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        return None, line
    return int(at) * 10**9 + int((fraction or "").ljust(9, "0")), line[match.end() :]


def _object(text: str) -> dict[str, Any]:
    """Empty for what is no JSON object: a log may hold anything."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
