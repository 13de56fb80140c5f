"""The timeline: one clock, and nothing that a daemon says reaches the terminal raw."""

from __future__ import annotations

import io

import pytest

from toposeal_lab import timeline as module
from toposeal_lab.checks import Check
from toposeal_lab.timeline import Timeline


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module, "boottime", lambda: now[0])
    return now


def test_lines_carry_seconds_since_the_start(clock: list[float]) -> None:
    out = io.StringIO()
    line = Timeline(out)
    clock[0] = 101.25
    line.note("lab", "hello")
    line.note("lab", "earlier", at=100.5)
    assert out.getvalue() == "   1.250  lab       hello\n   0.500  lab       earlier\n"
    assert line.elapsed == 1.25


def test_events_are_shown_at_their_own_time_without_repeating_it(clock: list[float]) -> None:
    out = io.StringIO()
    Timeline(out).event("web", {"t": 102.0, "event": "phase", "phase": "sealed", "epoch": 1})
    assert out.getvalue() == "   2.000  web       phase  phase=sealed  epoch=1\n"


def test_C2_a_daemon_cannot_write_to_the_terminal(clock: list[float]) -> None:
    out = io.StringIO()
    Timeline(out).event("web", {"event": "\x1b[2J", "text": "a\nb"})
    assert "\x1b" not in out.getvalue()
    assert out.getvalue().count("\n") == 1


def test_a_check_has_its_control_and_its_attack_on_two_lines(clock: list[float]) -> None:
    out = io.StringIO()
    Timeline(out).check(Check("no way in", False, "positive control: yes; attack: no"))
    first, control, attack = out.getvalue().splitlines()
    assert first.split() == ["FAIL", "no", "way", "in"]
    assert (control.strip(), attack.strip()) == ("positive control: yes", "no")
