"""One member of the lab's mesh: its daemon's process and what that says of itself on stdout."""

from __future__ import annotations

import io
import json
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from toposeal.dataplane.layout import layout_under
from toposeal_lab.checks import CheckFailed
from toposeal_lab.pods import Pod
from toposeal_lab.timeline import boottime

Event = Mapping[str, object]
Listener = Callable[[str, Event], None]

_MAX_LINE = 1 << 16
_STDERR_SHOWN = 600


class Member:
    """The daemon in `pod`; `directory` is its state directory, a tmpfs."""

    def __init__(self, pod: Pod, role: str, directory: Path, listener: Listener) -> None:
        self.pod = pod
        self.role = role
        self.directory = directory
        self.layout = layout_under(str(directory))
        self.started = 0.0  # boot time of the process start
        self._listener = listener
        self._events: list[Event] = []
        self._changed = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._first = 0  # of the events of this start
        self._over = False  # whether all that this start had to say is among the events
        self._errors = directory.with_name(f"{directory.name}.stderr")

    @property
    def name(self) -> str:
        return self.pod.name

    def start(self, argv: Sequence[str]) -> None:
        """Start the daemon; its journal goes to the listener and to `wait`."""
        self._first, self._over = len(self._events), False
        with self._errors.open("wb") as errors:
            self.started = boottime()
            self._process = self.pod.spawn(argv, stdout=subprocess.PIPE, stderr=errors)
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    def journal(self) -> list[Event]:
        """Every event so far, oldest first, those of earlier starts included."""
        with self._changed:
            return list(self._events)

    def events(self, name: str) -> list[Event]:
        """Those called `name`."""
        return [event for event in self.journal() if event.get("event") == name]

    def wait(self, name: str, timeout_s: float, **values: object) -> float:
        """Wait until an event `name` with these values was seen since the start; returns its boot time.

        Raises CheckFailed when the daemon ends before, or time does.
        """
        end = time.monotonic() + timeout_s
        with self._changed:
            while True:
                for event in self._events[self._first :]:
                    if event.get("event") == name and values.items() <= event.items():
                        return float(str(event["t"]))
                if self._over or not self._changed.wait(end - time.monotonic()):
                    raise CheckFailed(self._complaint(name, values))

    def ended(self, timeout_s: float | None = None) -> int:
        """Wait for the end, and for all that was said before it; the exit code, negative for a signal.

        Raises subprocess.TimeoutExpired.
        """
        if self._process is None or self._reader is None:
            raise RuntimeError(f"{self.name} was never started")
        code = self._process.wait(timeout_s)
        self._reader.join(timeout_s)
        return code

    def stop(self) -> None:
        """End the daemon as a container engine would, and wait for it."""
        if self._process is not None:
            self._process.terminate()
            self.ended()

    @property
    def code(self) -> int | None:
        """The daemon's exit code, negative for a signal; None while it runs or was never started."""
        return self._process.poll() if self._process is not None else None

    def processes(self) -> list[int]:
        """Process ids of the daemon itself and of its children."""
        return _family(self._process.pid) if self._process is not None and self._running() else []

    def _running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _complaint(self, name: str, values: Mapping[str, object]) -> str:
        last = self._events[-1] if self._events else "nothing"
        said = self._errors.read_text(errors="replace")[-_STDERR_SHOWN:].strip()
        state = "runs" if self._running() else "has ended"
        return f"{self.name} {state} without {name} {dict(values)}; its last event: {last}; stderr: {said}"

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        stdout: IO[bytes] = process.stdout or io.BytesIO()
        while line := stdout.readline(_MAX_LINE):
            event = _parse(line)
            self._listener(self.name, event)
            with self._changed:
                self._events.append(event)
                self._changed.notify_all()
        process.wait()
        with self._changed:
            self._over = True
            self._changed.notify_all()


def _parse(line: bytes) -> Event:
    """One object, or an event that says that there was none."""
    with suppress(ValueError):
        event = json.loads(line)
        if isinstance(event, dict):
            return event
    return {"event": "unreadable", "line": line.decode("ascii", "replace")}


def _family(pid: int) -> list[int]:
    """`pid` and its descendants, those that still exist."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):  # it ended meanwhile
                found += [int(child) for child in task.read_text().split()]
    return found
