"""A member's process as the lab sees it: its journal, its end, its complaints."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from toposeal_lab.checks import CheckFailed
from toposeal_lab.member import Event, Listener, Member
from toposeal_lab.pods import Pod


class Here:
    """A pod without a namespace."""

    name = "web"

    def spawn(self, argv: Sequence[str], **popen: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(argv, **popen)


def started(tmp_path: Path, script: str, listener: Listener = lambda name, event: None) -> Member:
    made = Member(cast(Pod, Here()), "web", tmp_path / "web", listener)
    made.start(python(script))
    return made


def python(script: str) -> list[str]:
    return [sys.executable, "-I", "-c", script]


def test_an_event_is_found_by_its_values(tmp_path: Path) -> None:
    seen: list[tuple[str, Event]] = []
    script = """
print('{"t": 1.5, "event": "phase", "phase": "boot"}')
print('{"t": 2.5, "event": "phase", "phase": "active"}')
"""
    member = started(tmp_path, script, lambda name, event: seen.append((name, event)))
    assert member.wait("phase", 10, phase="active") == 2.5
    assert member.wait("phase", 10) == 1.5
    assert [event["phase"] for event in member.events("phase")] == ["boot", "active"]
    assert [name for name, _ in seen] == ["web", "web"]


def test_a_process_that_ends_is_not_waited_for(tmp_path: Path) -> None:
    member = started(tmp_path, "import sys; sys.exit('toposeal: role: found nothing')")
    began = time.monotonic()
    with pytest.raises(CheckFailed, match=r"has ended without gate.*found nothing"):
        member.wait("gate", 60, state="open")
    assert time.monotonic() - began < 30


def slow(name: str, event: Event) -> None:
    """The process has long ended when its words have been read."""
    time.sleep(0.3)


def test_last_words_are_heard_after_the_end(tmp_path: Path) -> None:
    member = started(tmp_path, """print('{"t": 1.5, "event": "fence"}')""", slow)
    assert member.ended(10) == 0
    assert [event["event"] for event in member.events("fence")] == ["fence"]


def test_who_waits_for_last_words_hears_them_after_the_end(tmp_path: Path) -> None:
    member = started(tmp_path, """print('{"t": 1.5, "event": "fence"}')""", slow)
    assert member.wait("fence", 10) == 1.5


def test_what_an_earlier_start_has_said_is_not_waited_for(tmp_path: Path) -> None:
    member = started(tmp_path, """print('{"t": 1.5, "event": "phase", "phase": "active"}')""")
    assert member.wait("phase", 10, phase="active") == 1.5
    member.ended(10)
    member.start(python("pass"))
    with pytest.raises(CheckFailed, match="has ended without phase"):
        member.wait("phase", 10, phase="active")
    assert len(member.events("phase")) == 1


def test_silence_ends_with_the_time_given(tmp_path: Path) -> None:
    member = started(tmp_path, "import time; time.sleep(30)")
    with pytest.raises(CheckFailed, match="runs without gate"):
        member.wait("gate", 0.2)
    assert member.processes()
    member.stop()
    assert not member.processes()


def test_a_line_that_is_no_json_is_an_event_of_its_own(tmp_path: Path) -> None:
    member = started(tmp_path, "print('Traceback')")
    with pytest.raises(CheckFailed):
        member.wait("gate", 10)
    assert [event["event"] for event in member.journal()] == ["unreadable"]


def test_what_is_no_object_is_unreadable_too(tmp_path: Path) -> None:
    member = started(tmp_path, "print('[1]')")
    with pytest.raises(CheckFailed):
        member.wait("gate", 10)
    assert [event["event"] for event in member.journal()] == ["unreadable"]
