"""How fast a pod that serves talks to its peers: a round's work is spread out, so that requests find a core.

What a message costs is paid at both ends, so pods that hold back spare each other as well as themselves.
"""

from __future__ import annotations

from collections.abc import Callable

_STEP_S = 0.04  # between two messages,
_EACH_PEER_ONCE_S = 0.2  # or what is left of this for each where peers are many
_LONGEST_S = 1.0  # whatever waits before it: who makes us answer a lot delays no heartbeat for long


class Pace:
    """What each of a burst of messages waits for. A pod that does not serve has nobody to spare, and hurries."""

    def __init__(self, serves: Callable[[], bool], clock: Callable[[], float]) -> None:
        """`clock` in seconds."""
        self._serves, self._clock = serves, clock
        self._free_at = clock()

    def delay(self, peers: int) -> float:
        """Seconds until the next message may go, of who talks to `peers`, one or more. Asked once for each."""
        now = self._clock()
        if not self._serves():
            self._free_at = now
            return 0.0
        at = min(max(now, self._free_at), now + _LONGEST_S)
        self._free_at = at + min(_STEP_S, _EACH_PEER_ONCE_S / peers)
        return at - now
