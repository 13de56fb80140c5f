"""One JSON object per line and event on stdout; the reader is the host, so nothing secret is ever said.

The host is not waited for either: with a reader that stops, a daemon that waits would leave rules and
leases unwatched while its pod goes on serving. What does not fit is dropped and counted.
"""

from __future__ import annotations

import json
import os
import select
import time

from toposeal.errors import Mismatch, printable

Value = str | int | float | bool

_STDOUT = 1
_unsaid = 0  # lines that nobody has read


def clock_ms() -> int:
    """Milliseconds on CLOCK_BOOTTIME, the clock of every timer."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def event(name: str, **values: Value) -> None:
    """Write one line: `t` in seconds since boot, `event`, then `values`, made printable."""
    global _unsaid
    if _unsaid and _write(_line("lost", lines=_unsaid)):
        _unsaid = 0
    if _unsaid or not _write(_line(name, **values)):
        _unsaid += 1


def mismatch(name: str, what: Mismatch) -> None:
    """An event that carries one refusal."""
    event(name, reason=what.reason.value, field=what.field, found=what.found, expected=what.expected)


def _line(name: str, **values: Value) -> bytes:
    clean = {k: printable(v) if isinstance(v, str) else v for k, v in values.items()}
    text = json.dumps({"t": clock_ms() / 1000, "event": name, **clean}, ensure_ascii=True)
    return text.encode("ascii") + b"\n"


def _write(line: bytes) -> bool:
    """Whether `line` went out whole. A pipe that is ready takes PIPE_BUF bytes without waiting (pipe(7));
    the flag O_NONBLOCK would change the pipe for everybody who has it.
    """
    ready = select.poll()
    ready.register(_STDOUT, select.POLLOUT)
    try:
        found = ready.poll(0)
        fits = bool(found) and found[0][1] & select.POLLOUT != 0 and len(line) <= select.PIPE_BUF
        return fits and os.write(_STDOUT, line) == len(line)
    except OSError:
        return False
