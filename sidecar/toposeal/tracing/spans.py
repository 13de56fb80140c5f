"""Rounds as spans: from the first phase of one to the gate that is open for it. No IO.

A log is what its host hands over, so that a trace proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from toposeal.tracing.lines import Line, boot_time

_MS = 1_000_000
_ENDS = ("active", "fenced")
_TOLD = ("alarm", "refused", "suspend", "resume", "fence")


@dataclass(frozen=True)
class Span:
    """Times in ns since the boot of the guest."""

    name: str
    start: int
    end: int


@dataclass(frozen=True)
class Note:
    """Something that happened at a moment (ns since boot), with the code and the field of its refusal."""

    at: int
    event: str
    reason: str
    field: str


@dataclass(frozen=True)
class Round:
    """What one member did for one manifest. `manifest` is D in hexadecimal, empty for a round without one.

    `parts` are in the order of their starts; of those that start together, a phase comes before what went
    on in it and before the next phase.
    """

    whole: Span
    parts: tuple[Span, ...]
    notes: tuple[Note, ...]
    epoch: int
    manifest: str


@dataclass(frozen=True)
class Pod:
    """One run of a daemon. `booted_at` is when its guest booted, in ns since 1970, if its log has times."""

    mesh: str = ""
    role: str = ""
    member: str = ""
    rounds: tuple[Round, ...] = ()
    booted_at: int | None = None


@dataclass
class _Running:
    """The round that is being read, if `phase` is none of _ENDS."""

    start: int
    phase: str
    since: int
    epoch: int
    manifest: str = ""
    parts: list[Span] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    before: int = 0  # how many of `parts` had ended when `phase` began

    def turn(self, line: Line, phase: str) -> None:
        """One phase has ended, and with it what was going on. It goes before what went on in it."""
        self.parts.insert(self.before, Span(self.phase, self.since, line.since_boot))
        self.before = len(self.parts)
        self.phase, self.since, self.epoch = phase, line.since_boot, line.number("epoch")
        self.manifest = line.text("manifest")

    def ended(self) -> Round:
        whole = Span("round", self.start, max(part.end for part in self.parts))
        parts = sorted(self.parts, key=lambda part: part.start)
        return Round(whole, tuple(parts), tuple(self.notes), self.epoch, self.manifest)


def pods(lines: Iterable[Line]) -> Iterator[Pod]:
    """Every run of a daemon that a log tells of, in its order."""
    run: list[Line] = []
    for line in lines:
        if line.event == "start" and run:
            yield _pod(run)
            run = []
        run.append(line)
    if run:
        yield _pod(run)


def _pod(lines: Sequence[Line]) -> Pod:
    pod = Pod(rounds=tuple(_told(_rounds(lines))), booted_at=boot_time(lines))
    for line in lines:
        if line.event == "start":
            pod = replace(pod, mesh=line.text("mesh"), role=line.text("role"))
        elif line.event == "member":
            pod = replace(pod, member=line.text("member"))
    return pod


def _told(rounds: Iterable[Round]) -> Iterator[Round]:
    """A round after which the manifest is the one before has brought none."""
    before = ""
    for one in rounds:
        yield replace(one, manifest="") if one.manifest == before else one
        before = one.manifest or before


def _rounds(lines: Iterable[Line]) -> Iterator[Round]:
    """A round that has not come to an end is not among them: it has no length yet."""
    running: _Running | None = None
    for line in lines:
        if line.event == "phase":
            if running is not None and running.phase in _ENDS:
                yield running.ended()
                running = None
            running = _turned(running, line)
        elif running is not None:
            _add(running, line)
            if line.event == "gate" and running.phase == "active":
                yield running.ended()
                running = None
    if running is not None and running.phase in _ENDS:
        yield running.ended()


def _turned(running: _Running | None, line: Line) -> _Running | None:
    phase = line.text("phase")
    if running is not None:
        running.turn(line, phase)
    elif phase not in _ENDS:
        running = _Running(line.since_boot, phase, line.since_boot, line.number("epoch"))
    return running


def _add(running: _Running, line: Line) -> None:
    if line.event == "quote":
        start = max(running.start, line.since_boot - line.number("ms") * _MS)
        running.parts.append(Span(f"quote {line.text('purpose')}", start, line.since_boot))
    elif line.event == "gate" and running.phase == "active" and line.text("state") == "open":
        running.parts.append(Span("opening", running.since, line.since_boot))
    elif line.event in _TOLD:
        running.notes.append(Note(line.since_boot, line.event, line.text("reason"), line.text("field")))
