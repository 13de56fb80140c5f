"""Which part of the time belongs to a round, by what the members say, and what the requests in it took."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from statistics import quantiles

from toposeal_lab.load import Span
from toposeal_lab.member import Event
from toposeal_lab.scenes.mesh import Mesh
from toposeal_lab.timeline import boottime


def rest(seconds: float) -> Span:
    """Load alone."""
    began = boottime()
    time.sleep(seconds)
    return began, boottime()


def round_of(mesh: Mesh, stay: Iterable[str], span: Span) -> Span:
    """From when the first of those who stay took part in another attempt until the last of them served what
    came of it. The rest of `span` is that somebody starts, on the same cores here, or is waited for.
    """
    since, until = span
    events = [event for name in stay for event in mesh[name].journal() if since < happened_at(event) < until]
    begun = [happened_at(event) for event in events if event["event"] == "phase"]
    served = [happened_at(event) for event in events if event["event"] == "gate" and event["state"] == "open"]
    return min(begun), max(served)


def committed(journals: Iterable[Event], members: int) -> list[Span]:
    """Of each epoch that all `members` served: from when the first proposed its manifest until the last
    served it. Before that they only wait for each other.
    """
    proposed: dict[object, list[float]] = {}
    served: dict[object, list[float]] = {}
    for event in journals:
        if event.get("phase") == "proposed":
            proposed.setdefault(event["epoch"], []).append(happened_at(event))
        elif event["event"] == "gate" and event.get("state") == "open":
            served.setdefault(event["epoch"], []).append(happened_at(event))
    whole = (number for number, times in served.items() if len(times) == members and number in proposed)
    return [(min(proposed[number]), max(served[number])) for number in whole]


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Milliseconds: the median and the slowest of a hundred."""
    hundredths = quantiles(seconds, n=100)
    return {"median": round(1000 * hundredths[49], 2), "p99": round(1000 * hundredths[-1], 2)}


def happened_at(event: Event) -> float:
    """Boot time in seconds."""
    return float(str(event["t"]))
