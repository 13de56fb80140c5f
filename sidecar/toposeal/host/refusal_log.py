"""Envoy's access log into the journal: every refusal is counted, the first of each second are told.

Whoever can reach the pod can have lines written; the pipe is therefore always read, and what exceeds the
allowance costs no more than a search for newlines.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from toposeal.dataplane.metrics import UNTOLD
from toposeal.dataplane.refusals import Refusal, parse_refusal
from toposeal.host import journal
from toposeal.limits import MAX_LOG_LINE, MAX_REFUSALS_PER_SECOND

_CHUNK = 65_536
_TURN_S = 1.0


class RefusalLog:
    """`read` until the stream ends. `total` counts every refusal of this Envoy, `told` those by kind."""

    def __init__(self) -> None:
        self.total = 0
        self.told: Counter[str] = Counter()
        self._left = MAX_REFUSALS_PER_SECOND
        self._untold = 0
        self._turn: asyncio.TimerHandle | None = None

    def counted(self) -> dict[str, int]:
        """Refusals by kind; those that were not told are of none."""
        return {**self.told, UNTOLD: self.total - self.told.total()}

    async def read(self, stream: asyncio.StreamReader) -> None:
        """A line that is longer than MAX_LOG_LINE is counted and not told."""
        rest = b""
        try:
            while chunk := await stream.read(_CHUNK):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._line(line)
                rest = rest[: MAX_LOG_LINE + 1]
        finally:
            self._next_turn()
            if self._turn is not None:
                self._turn.cancel()

    def _line(self, line: bytes) -> None:
        self.total += 1
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_later(_TURN_S, self._next_turn)
        refusal = parse_refusal(line) if self._left > 0 and len(line) <= MAX_LOG_LINE else None
        if refusal is None:
            self._untold += 1
            return
        self._left -= 1
        self._tell(refusal)

    def _tell(self, refusal: Refusal) -> None:
        self.told[refusal.kind.value] += 1
        journal.event(
            "refused",
            kind=refusal.kind.value,
            detail=refusal.detail,
            chain=refusal.chain,
            sni=refusal.sni,
            source=refusal.source,
            destination=refusal.destination,
            upstream=refusal.upstream,
            total=self.total,
        )

    def _next_turn(self) -> None:
        """A new allowance; what was not told in the last turn is told as a number."""
        self._left, self._turn = MAX_REFUSALS_PER_SECOND, None
        if self._untold:
            journal.event("refused_more", count=self._untold, total=self.total)
            self._untold = 0
