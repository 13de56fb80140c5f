"""The fewest faults with which a seed still breaks the same invariant, by delta debugging (ddmin)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from toposeal_lab.simulation.network import Blow
from toposeal_lab.simulation.scenario import Scenario
from toposeal_lab.simulation.violation import Violation

_MOST_RUNS = 400  # of the story, before what was reached has to do


@dataclass(frozen=True)
class Minimal:
    """A failing seed, told with as few faults as were found to be enough."""

    seed: int
    name: str
    needed: tuple[Blow, ...]
    happened: int  # faults of the whole story
    text: str  # the violation with the last steps before it


def shrink(seed: int) -> Minimal | None:
    """None for a seed that breaks nothing."""
    story = Scenario(seed)
    violation = _broken(story)
    if violation is None:
        return None
    struck = list(dict.fromkeys(story.network.struck))

    def fails(blows: Sequence[Blow]) -> bool:
        again = _broken(Scenario(seed, permitted=frozenset(blows)))
        return again is not None and again.name == violation.name

    needed = minimal(struck, fails)
    last = _broken(Scenario(seed, permitted=frozenset(needed))) or violation
    return Minimal(seed, violation.name, tuple(needed), len(struck), str(last))


def minimal(blows: Sequence[Blow], fails: Callable[[Sequence[Blow]], bool]) -> list[Blow]:
    """A part of `blows` that still `fails`; without any one fault of it nothing does, unless runs ran out."""
    runs = 0
    rest = list(blows)
    for kind in sorted({str(blow[0]) for blow in rest}):  # whole kinds first: most have no share in it
        without = [blow for blow in rest if blow[0] != kind]
        runs += 1
        rest = without if fails(without) else rest
    parts = 2
    while len(rest) > 1 and runs < _MOST_RUNS:
        size = -(-len(rest) // parts)
        for start in range(0, len(rest), size):
            without = rest[:start] + rest[start + size :]
            runs += 1
            if fails(without):
                rest, parts = without, max(parts - 1, 2)
                break
        else:
            if size == 1:
                break
            parts = min(len(rest), 2 * parts)
    return rest


def _broken(story: Scenario) -> Violation | None:
    try:
        story.run()
    except Violation as violation:
        return violation
    return None
