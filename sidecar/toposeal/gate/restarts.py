"""How often an Envoy that has ended is started again, and after which pause. No clock here."""

from __future__ import annotations

from toposeal.limits import MAX_ENVOY_RESTARTS, RESTART_PAUSE, RESTART_PERIOD

Ends = tuple[int, ...]  # when Envoy ended, ascending, in milliseconds of any clock that never goes back


def after_end(past: Ends, now: int) -> tuple[Ends, int | None]:
    """The ends that still count with the one at `now`, and the pause before the next start in
    milliseconds: twice the last one each time. None where MAX_ENVOY_RESTARTS in RESTART_PERIOD are spent.
    """
    recent = tuple(end for end in past if now - end < RESTART_PERIOD)
    pause = RESTART_PAUSE << len(recent) if len(recent) < MAX_ENVOY_RESTARTS else None
    return (*recent, now), pause
