"""How fast a pod that serves talks to its peers: a round's work is spread out, so that requests find a core.

What a message costs is paid at both ends, so pods that hold back spare each other as well as themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_STEP_S = 0.03  # between two messages,
_EACH_PEER_ONCE_S = 0.12  # or what is left of this for each where peers are many
_LONGEST_S = 0.75  # from when a message is queued: it delays, and holds nothing back


class Pace:
    """When each of a burst of messages goes. A pod that does not serve spares nobody, and hurries."""

    def __init__(self, serves: Callable[[], bool], clock: Callable[[], float]) -> None:
        """`clock` in seconds."""
        self._serves, self._clock = serves, clock
        self._free_at = clock()

    def due(self, peers: int) -> float:
        """When, by the clock, a message goes that is queued now; `peers`, one or more, are all there are."""
        now = self._clock()
        if not self._serves():
            self._free_at = now
            return now
        due = min(max(now, self._free_at), now + _LONGEST_S)
        self._free_at = due + min(_STEP_S, _EACH_PEER_ONCE_S / peers)
        return due

    async def until(self, due: float) -> None:
        """Returns when it is time."""
        if (seconds := due - self._clock()) > 0:
            await asyncio.sleep(seconds)
