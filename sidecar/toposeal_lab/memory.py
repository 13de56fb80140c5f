"""What a process holds in memory, as root of the machine reads it: where else should keys be found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def memory(pid: int) -> Iterator[bytes]:
    """Every writable mapping of a process that is in use."""
    place = mode = ""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
        for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
            words = line.split()
            if not words[0].endswith(":"):
                place, mode = words[:2]
            elif words[0] == "Rss:" and words[1] != "0" and "w" in mode:
                start, end = (int(number, 16) for number in place.split("-"))
                with suppress(OSError, ValueError):  # a guard page, or a mapping of a device
                    file.seek(start)
                    yield file.read(end - start)
