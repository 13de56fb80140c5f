"""One quote for all who ask in one window, whatever becomes of some of them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest

from toposeal.daemon.live_window import Answered, LiveWindows
from toposeal.errors import QuoteSourceError, Reason, RemoteProtocolError
from toposeal.evidence.nonce_tree import audit_path, root_of
from toposeal.limits import LIVE_QUOTES_PER_SECOND, MAX_LIVE_NONCES


def nonce(number: int) -> bytes:
    return number.to_bytes(32, "big")


class Platform:
    """Answers with the challenge itself, and counts."""

    def __init__(self, takes_s: float = 0.0) -> None:
        self.takes_s = takes_s
        self.running = 0
        self.started: list[float] = []
        self.error: Exception | None = None

    async def quote(self, challenge: bytes) -> bytes:
        self.running += 1
        assert self.running == 1, "one quote at a time"
        self.started.append(time.monotonic())
        await asyncio.sleep(self.takes_s)
        self.running -= 1
        if self.error is not None:
            raise self.error
        return challenge


def run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await test

    asyncio.run(bounded())


def proven(own: bytes, answered: Answered[bytes]) -> bool:
    path = audit_path(answered.leaf, answered.nonces)
    return root_of(own, answered.leaf, len(answered.nonces), path) == answered.live


def test_V10_many_callers_cost_one_quote_and_each_has_its_proof() -> None:
    async def test() -> None:
        platform = Platform()
        windows = LiveWindows(platform.quote)
        answers = await asyncio.gather(*(windows.ask(nonce(n)) for n in range(1, 301)))
        assert len(platform.started) == 1
        assert all(proven(nonce(n), answer) for n, answer in enumerate(answers, 1))
        assert not proven(nonce(301), answers[0])

    run(test())


def test_V10_windows_follow_each_other_at_a_pace() -> None:
    async def test() -> None:
        platform = Platform(takes_s=0.02)
        windows = LiveWindows(platform.quote)

        async def late(number: int) -> Answered[bytes]:
            await asyncio.sleep(number * 0.15)
            return await windows.ask(nonce(number))

        answers = await asyncio.gather(*(late(n) for n in range(1, 6)))
        assert all(proven(nonce(n), answer) for n, answer in enumerate(answers, 1))
        gaps = [later - earlier for earlier, later in itertools.pairwise(platform.started)]
        assert gaps and min(gaps) >= 0.95 / LIVE_QUOTES_PER_SECOND

    run(test())


def test_who_comes_while_a_quote_is_made_is_in_the_next_window() -> None:
    async def test() -> None:
        platform = Platform(takes_s=0.1)
        windows = LiveWindows(platform.quote)
        first = asyncio.create_task(windows.ask(nonce(1)))
        await asyncio.sleep(0.05)
        second = await windows.ask(nonce(2))
        assert (await first).nonces == (nonce(1),) and second.nonces == (nonce(2),)

    run(test())


def test_a_caller_that_gives_up_costs_the_others_nothing() -> None:
    async def test() -> None:
        platform = Platform(takes_s=0.05)
        windows = LiveWindows(platform.quote)
        first = asyncio.create_task(windows.ask(nonce(1)))
        await asyncio.sleep(0.01)
        gone, stays = (asyncio.create_task(windows.ask(nonce(n))) for n in (2, 3))
        await asyncio.sleep(0)
        gone.cancel()
        first.cancel()  # in the window whose quote is being made
        answered = await stays
        assert answered.nonces == (nonce(3),) and proven(nonce(3), answered)
        for task in (gone, first):
            with suppress(asyncio.CancelledError):
                await task

    run(test())


def test_a_window_that_everybody_left_costs_no_quote() -> None:
    async def test() -> None:
        platform = Platform()
        windows = LiveWindows(platform.quote)
        await windows.ask(nonce(1))
        gone = asyncio.create_task(windows.ask(nonce(2)))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(1.5 / LIVE_QUOTES_PER_SECOND)
        assert len(platform.started) == 1

    run(test())


@pytest.mark.parametrize(
    "error", [QuoteSourceError.of(Reason.QUOTE_SOURCE, "outblob", "EIO", "a quote"), ZeroDivisionError()]
)
def test_a_failure_is_that_of_its_window_alone(error: Exception) -> None:
    async def test() -> None:
        platform = Platform(takes_s=0.02)
        platform.error = error
        windows = LiveWindows(platform.quote)
        gone = asyncio.create_task(windows.ask(nonce(9)))
        results = asyncio.gather(*(windows.ask(nonce(n)) for n in (1, 2)), return_exceptions=True)
        await asyncio.sleep(0.01)
        gone.cancel()
        assert await results == [error, error]
        platform.error = None
        assert proven(nonce(3), await windows.ask(nonce(3)))

    run(test())


def test_V10_a_full_window_refuses() -> None:
    async def test() -> None:
        windows = LiveWindows(Platform(takes_s=0.05).quote)
        asked = [asyncio.create_task(windows.ask(nonce(n))) for n in range(MAX_LIVE_NONCES)]
        await asyncio.sleep(0)
        with pytest.raises(RemoteProtocolError) as refused:
            await windows.ask(nonce(7))
        assert refused.value.reason is Reason.RATE_LIMITED
        assert all(proven(nonce(n), answer) for n, answer in enumerate(await asyncio.gather(*asked)))

    run(test())
