"""Calls that may hang: what they return, what they raise, and that a hung one is left behind."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from toposeal.errors import QuoteSourceError, Reason
from toposeal.host.driver_call import DriverCalls


def refusal(field: str, found: object, expected: object, retry: bool = False) -> QuoteSourceError:
    error = QuoteSourceError.of(Reason.QUOTE_SOURCE, field, found, expected)
    error.retry = retry
    return error


def test_what_the_work_gives_is_given() -> None:
    assert DriverCalls(refusal, "outblob").call(lambda: 5, 1) == 5


@pytest.mark.parametrize("error", [refusal("x", "y", "z"), ZeroDivisionError("ours"), KeyError("a")])
def test_what_the_work_raises_is_raised_at_once(error: Exception) -> None:
    """Typed or a defect of ours: nobody waits for the deadline, and the next call is free."""

    def fail() -> None:
        raise error

    calls, started = DriverCalls(refusal, "outblob"), time.monotonic()
    with pytest.raises(type(error)) as raised:
        calls.call(fail, 30)
    assert raised.value is error and time.monotonic() - started < 5
    assert calls.call(lambda: 1, 1) == 1


def test_fault_11_a_call_that_hangs_is_abandoned_and_keeps_others_out_until_it_ends() -> None:
    calls, release = DriverCalls(refusal, "outblob"), threading.Event()
    with pytest.raises(QuoteSourceError) as hung:
        calls.call(release.wait, 0.1)
    with pytest.raises(QuoteSourceError) as refused:
        calls.call(lambda: 1, 0.1)
    assert hung.value.retry and refused.value.retry
    assert "nothing in 0.1 s" in str(hung.value) and "an earlier one" in str(refused.value)
    release.set()
    assert calls.call(lambda: 1, 5) == 1


def test_a_machine_without_threads_refuses_and_stays_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    calls = DriverCalls(refusal, "outblob")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(QuoteSourceError) as refused:
            calls.call(lambda: 1, 1)
    assert refused.value.retry
    assert calls.call(lambda: 2, 1) == 2


def test_fault_12_no_signal_reaches_the_driver() -> None:
    blocked = DriverCalls(refusal, "outblob").call(lambda: signal.pthread_sigmask(signal.SIG_BLOCK, []), 1)
    assert {signal.SIGTERM, signal.SIGALRM, signal.SIGUSR1} <= blocked
