"""Many seeds at once, and what came of all of them."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from toposeal_lab.simulation.scenario import KINDS, Scenario
from toposeal_lab.simulation.violation import Violation

_CHUNK = 25  # seeds for one process at a time


@dataclass
class Tally:
    """What happened in a number of stories."""

    seeds: int = 0
    sealed_runs: int = 0  # some manifest became active
    faults: Counter[str] = field(default_factory=Counter)
    transitions: Counter[tuple[str, str]] = field(default_factory=Counter)
    broken: dict[int, str] = field(default_factory=dict)  # seed -> what it violates

    def add(self, other: Tally) -> None:
        self.seeds += other.seeds
        self.sealed_runs += other.sealed_runs
        self.faults.update(other.faults)
        self.transitions.update(other.transitions)
        self.broken.update(other.broken)

    def document(self) -> dict[str, object]:
        """As `toposeal-lab simulate --json` prints it: every kind of fault, those that never happened too."""
        return {
            "seeds": self.seeds,
            "violations": len(self.broken),
            "sealed_runs": self.sealed_runs,
            "faults": {kind: self.faults[kind] for kind in KINDS},
        }


def simulate(first: int, seeds: int, jobs: int, real: bool = False) -> Tally:
    """The stories of `seeds` seeds from `first` on, in `jobs` processes. `real`: with real signatures."""
    tally = Tally()
    chunks = [range(at, min(at + _CHUNK, first + seeds)) for at in range(first, first + seeds, _CHUNK)]
    for part in _parts(chunks, jobs, real):
        tally.add(part)
    return tally


def _parts(chunks: list[range], jobs: int, real: bool) -> Iterator[Tally]:
    if jobs == 1 or len(chunks) == 1:
        yield from (tell(chunk, real) for chunk in chunks)
        return
    with ProcessPoolExecutor(jobs, initializer=_collect_by_story) as processes:
        yield from processes.map(tell, chunks, [real] * len(chunks))


def _collect_by_story() -> None:
    """What was imported is never garbage, and of a story everything is once it has been told."""
    gc.freeze()
    gc.disable()


def tell(seeds: Iterable[int], real: bool = False) -> Tally:
    """The stories of `seeds`, one after another."""
    tally = Tally()
    for seed in seeds:
        _tell(tally, seed, real)
        gc.collect(0)
    return tally


def _tell(tally: Tally, seed: int, real: bool) -> None:
    story = Scenario(seed, real)
    tally.seeds += 1
    try:
        tally.sealed_runs += story.run().active
    except Violation as violation:
        tally.broken[seed] = str(violation).partition("\n")[0]
    tally.faults.update(story.network.happened)
    tally.transitions.update(story.invariants.transitions)
