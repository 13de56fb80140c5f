"""Envoy's access log into the journal: refused connections, and requests where a port logs them. All are
counted, the first of each second are told.

Whoever can reach the pod can have lines written; the pipe is therefore always read, and what exceeds the
allowance costs no more than a search for newlines and one for the mark of a request.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict

from toposeal.dataplane.metrics import UNTOLD
from toposeal.dataplane.refusals import parse_refusal
from toposeal.dataplane.requests import is_request, parse_request
from toposeal.host import journal
from toposeal.limits import MAX_LOG_LINE, MAX_REFUSALS_PER_SECOND, MAX_TOLD_REQUESTS_PER_SECOND

_CHUNK = 65_536
_TURN_S = 1.0


class AccessLog:
    """`read` until the stream ends. `total` counts every refusal of this Envoy, `told` those by kind."""

    def __init__(self) -> None:
        self.told: Counter[str] = Counter()
        self._refusals = _Allowance("refused_more", MAX_REFUSALS_PER_SECOND)
        self._requests = _Allowance("request_more", MAX_TOLD_REQUESTS_PER_SECOND)
        self._turn: asyncio.TimerHandle | None = None

    @property
    def total(self) -> int:
        return self._refusals.total

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
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_later(_TURN_S, self._next_turn)
        if is_request(line):
            self._requests.spend(line, self._tell_request)
        else:
            self._refusals.spend(line, self._tell_refusal)

    def _tell_refusal(self, line: bytes) -> bool:
        refusal = parse_refusal(line)
        if refusal is None:
            return False
        self.told[refusal.kind.value] += 1
        journal.event("refused", **asdict(refusal), total=self.total)
        return True

    def _tell_request(self, line: bytes) -> bool:
        request = parse_request(line)
        if request is None:
            return False
        journal.event("request", **asdict(request))
        return True

    def _next_turn(self) -> None:
        self._turn = None
        self._refusals.next_turn()
        self._requests.next_turn()


class _Allowance:
    """Of lines of one kind, `each_turn` are told; what was not is told as a number at the end of the turn."""

    def __init__(self, more: str, each_turn: int) -> None:
        self.total = 0
        self._more, self._each_turn, self._left, self._untold = more, each_turn, each_turn, 0

    def spend(self, line: bytes, tell: Callable[[bytes], bool]) -> None:
        self.total += 1
        if self._left > 0 and len(line) <= MAX_LOG_LINE and tell(line):
            self._left -= 1
        else:
            self._untold += 1

    def next_turn(self) -> None:
        self._left = self._each_turn
        if self._untold:
            journal.event(self._more, count=self._untold, total=self.total)
            self._untold = 0
