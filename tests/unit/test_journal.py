"""The journal: one line per event whatever its values are, and never a reason for the daemon to wait."""

from __future__ import annotations

import json
import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from toposeal.errors import Mismatch, Reason
from toposeal.host import journal


@contextmanager
def stdout_is(descriptor: int) -> Iterator[None]:
    """File descriptor 1 of this process, where the journal goes."""
    kept = os.dup(1)
    os.dup2(descriptor, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        if os.path.exists(f"/proc/self/fd/{descriptor}"):
            os.close(descriptor)


def fill(writing: int) -> None:
    """As much as fits, as when whoever reads the log has stopped to."""
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"\n" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)


def drain(reading: int) -> list[dict[str, object]]:
    """Every whole line that is there now."""
    data = b""
    while select.select([reading], [], [], 0)[0]:
        data += os.read(reading, 1 << 20)
    return [json.loads(line) for line in data.splitlines() if line]


def in_time(function: object, *arguments: object, seconds: float = 5, **values: object) -> None:
    """Call it in a thread: one that hangs must not hang the test."""
    thread = threading.Thread(target=function, args=arguments, kwargs=values, daemon=True)  # type: ignore[arg-type]
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "the journal waits for its reader"


def test_an_event_is_one_json_object_on_one_line(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    with stdout_is(writing):
        journal.event("phase", phase="active", epoch=3, ok=True, ratio=0.5)
        journal.mismatch("fence", Mismatch(Reason.FIREWALL, "rules", "none", "all"))
    first, second = drain(reading)
    assert first == {
        "t": first["t"],
        "event": "phase",
        "phase": "active",
        "epoch": 3,
        "ok": True,
        "ratio": 0.5,
    }
    assert isinstance(first["t"], float)
    assert (second["event"], second["reason"], second["found"]) == ("fence", "firewall", "none")


@pytest.mark.parametrize("text", ['a\nb"}', "\x1b[31mred", "\u202e\x00\x7f", "x" * 100_000, "\ud800"])
def test_C2_no_value_breaks_the_line_or_the_terminal(pipe: tuple[int, int], text: str) -> None:
    reading, writing = pipe
    with stdout_is(writing):
        journal.event("refused", found=text)
    raw = os.read(reading, 1 << 20)
    assert raw.count(b"\n") == 1
    assert raw.endswith(b"\n")
    assert len(raw) < 4096
    assert all(0x20 <= byte < 0x7F for byte in raw[:-1])
    json.loads(raw)


def test_S9_a_reader_that_stops_does_not_stop_the_daemon(pipe: tuple[int, int]) -> None:
    """The reader is the host: with a full pipe it would freeze the watches of a pod that goes on serving."""
    reading, writing = pipe
    fill(writing)
    with stdout_is(writing):
        for number in range(5):
            in_time(journal.event, "refused", number=number)
        assert drain(reading) == []
        in_time(journal.event, "phase", phase="active")
    events = drain(reading)
    assert [(event["event"], event.get("lines")) for event in events] == [("lost", 5), ("phase", None)]


def test_S9_a_reader_that_has_gone_does_not_end_the_daemon(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.close(reading)
    with stdout_is(writing):
        in_time(journal.event, "phase", phase="active")


def test_the_clock_is_the_one_that_suspend_does_not_stop() -> None:
    import time

    assert abs(journal.clock_ms() - time.clock_gettime(time.CLOCK_BOOTTIME) * 1000) < 1000
