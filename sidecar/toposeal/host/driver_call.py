"""A call into a driver that may hang: in a thread of its own, one at a time, abandoned at its deadline."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

from toposeal.errors import QuoteSourceError

T = TypeVar("T")
_GRACE_S = 0.25  # for work that keeps to the deadline itself, and says why it could not


class Refusal(Protocol):
    """Makes the error of one field: what was found, what was expected, whether to try again."""

    def __call__(
        self, field: str, found: object, expected: object, retry: bool = False, /
    ) -> QuoteSourceError: ...


class DriverCalls:
    """The calls into one driver; `refusal` makes the errors of whoever calls, `awaited` is the field
    that a driver which does not answer owes."""

    def __init__(self, refusal: Refusal, awaited: str) -> None:
        self._refusal = refusal
        self._awaited = awaited
        self._free = threading.Semaphore(1)

    def call(self, work: Callable[[], T], deadline_s: float) -> T:
        """What `work` returns or raises; blocks up to `deadline_s` seconds, and a moment.

        A call that hangs is abandoned: its thread ends whenever the driver lets it, and until then every
        further one is refused. Raises QuoteSourceError for these two, and without a thread.
        """
        end = time.monotonic() + deadline_s
        if not self._free.acquire(timeout=deadline_s):
            raise self._refusal("request", "an earlier one still in the driver", "none outstanding", True)
        answer: Future[T] = Future()
        worker = threading.Thread(target=self._work, args=(work, answer), daemon=True)
        try:
            worker.start()
        except RuntimeError as error:
            self._free.release()
            raise self._refusal("thread", error, "one more thread", True) from error
        try:
            return answer.result(max(0.0, end - time.monotonic()) + _GRACE_S)
        except TimeoutError as error:
            raise self._refusal(self._awaited, f"nothing in {deadline_s} s", "an answer", True) from error

    def _work(self, work: Callable[[], T], answer: Future[T]) -> None:
        """Runs in the worker alone. Signals are left to the main thread: here they would interrupt
        the kernel's wait for the host and lose the answer."""
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            answer.set_result(work())
        except BaseException as error:  # the caller, who would otherwise wait for nothing, raises it again
            answer.set_exception(error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._free.release()
