"""One JSON object per line and event on stdout; the reader is the host, so nothing secret is ever said."""

from __future__ import annotations

import json
import sys
import time

from toposeal.errors import Mismatch, printable

Value = str | int | float | bool


def clock_ms() -> int:
    """Milliseconds on CLOCK_BOOTTIME, the clock of every timer."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def event(name: str, **values: Value) -> None:
    """Write one line: `t` in seconds since boot, `event`, then `values`, made printable."""
    clean = {k: printable(v) if isinstance(v, str) else v for k, v in values.items()}
    line = json.dumps({"t": clock_ms() / 1000, "event": name, **clean}, ensure_ascii=True)
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def mismatch(name: str, what: Mismatch) -> None:
    """An event that carries one refusal."""
    event(name, reason=what.reason.value, field=what.field, found=what.found, expected=what.expected)
