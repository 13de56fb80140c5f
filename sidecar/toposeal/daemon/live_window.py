"""One LIVE quote for everybody who asks within one window: the platform makes few, callers may be many."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from toposeal.errors import Reason, RemoteProtocolError
from toposeal.evidence.nonce_tree import tree_root
from toposeal.limits import LIVE_QUOTES_PER_SECOND, MAX_LIVE_NONCES

T = TypeVar("T")


@dataclass(frozen=True)
class Answered(Generic[T]):
    """What the quote of a window brought, the window's nonces, and which of them the caller's is."""

    live: T
    nonces: tuple[bytes, ...]
    leaf: int


class LiveWindows(Generic[T]):
    """`quote` makes LIVE evidence on a challenge of 32 bytes. Its windows follow each other: one quote at a
    time, at most LIVE_QUOTES_PER_SECOND; who comes while one is made is in the next (V10)."""

    def __init__(self, quote: Callable[[bytes], Awaitable[T]]) -> None:
        self._quote = quote
        self._waiting: list[tuple[bytes, asyncio.Future[Answered[T]]]] = []
        self._worker: asyncio.Task[None] | None = None
        self._next_at = 0.0

    async def ask(self, nonce: bytes) -> Answered[T]:
        """LIVE evidence of which `nonce` (32 bytes) is a leaf.

        Raises what `quote` raises, and RemoteProtocolError(RATE_LIMITED) when the next window is full.
        """
        if len(self._waiting) == MAX_LIVE_NONCES:
            raise RemoteProtocolError.of(Reason.RATE_LIMITED, "callers", MAX_LIVE_NONCES, "a free place")
        answer: asyncio.Future[Answered[T]] = asyncio.get_running_loop().create_future()
        self._waiting.append((nonce, answer))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await answer

    async def _work(self) -> None:
        """Window after window while somebody waits."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            await asyncio.sleep(self._next_at - loop.time())
            self._next_at = loop.time() + 1 / LIVE_QUOTES_PER_SECOND
            # A caller that has left since is owed no leaf.
            window = [(nonce, answer) for nonce, answer in self._waiting if not answer.done()]
            self._waiting.clear()
            if window:
                await self._answer(window)

    async def _answer(self, window: list[tuple[bytes, asyncio.Future[Answered[T]]]]) -> None:
        """The same evidence, or the same failure, for all of a window."""
        nonces = tuple(nonce for nonce, _ in window)
        quoting = asyncio.ensure_future(self._quote(tree_root(nonces)))
        await asyncio.wait({quoting})
        error = quoting.exception()
        for leaf, (_, answer) in enumerate(window):
            if answer.done():
                continue
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(Answered(quoting.result(), nonces, leaf))
