"""What happens in the lab, line by line as it happens, on the clock that every daemon stamps with."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import TextIO

from toposeal.errors import printable
from toposeal_lab.checks import Check

_SOURCE_WIDTH = 8
_NOT_SHOWN = frozenset({"t", "event"})


def boottime() -> float:
    """Seconds on CLOCK_BOOTTIME."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Timeline:
    """Writes to `out`; times are seconds since it was made. Any thread may write."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._start = boottime()
        self._lock = threading.Lock()

    @property
    def elapsed(self) -> float:
        return boottime() - self._start

    def note(self, source: str, text: str, at: float | None = None) -> None:
        """One line of `source`, now or `at` that boot time."""
        since = (boottime() if at is None else at) - self._start
        self._write(f"{since:8.3f}  {source:<{_SOURCE_WIDTH}}  {printable(text, 400)}")

    def event(self, member: str, event: Mapping[str, object]) -> None:
        """One line of a daemon's journal, which is a stranger's text: made printable."""
        values = "  ".join(f"{name}={value}" for name, value in event.items() if name not in _NOT_SHOWN)
        at = event.get("t")
        self.note(member, f"{event.get('event')}  {values}", at if isinstance(at, float) else None)

    def check(self, check: Check) -> None:
        """One result with its detail on lines of their own."""
        self._write(f"{'  ok  ' if check.ok else ' FAIL '}    {check.name}")
        for part in check.detail.split("; attack: "):
            self._write(f"              {printable(part, 600)}")

    def say(self, *lines: str) -> None:
        """Plain lines of our own."""
        self._write("\n".join(lines))

    def _write(self, text: str) -> None:
        with self._lock:
            print(text, file=self._out, flush=True)
