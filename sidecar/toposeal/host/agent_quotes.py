"""Quotes that an agent of the measured guest asks the hardware for, over its Unix socket.

Which bytes it is asked in, and where in its answer the quote is, is all that two agents differ in. What it
answers is believed as little as what the kernel's driver does: the quote has to hold our report data itself,
and an agent that hashes it, or puts a word of its own before it, is refused (docs/adr/0034).
"""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from toposeal.errors import NetworkError
from toposeal.host.bounded_http import remaining
from toposeal.host.driver_call import DriverCalls
from toposeal.host.tee_report import TDX_GUEST, TeeReport, check_size, expect_report_data, refusal, until

# Of one connection and 64 bytes of report data the quote, which is not looked into; the last is a deadline on
# the monotonic clock. Raises OSError, QuoteSourceError, and what http.client and NetworkError say of HTTP.
Ask = Callable[[socket.socket, bytes, float], bytes]
# The agent is busy, starts, or has ended and is started again.
_TRANSIENT = (ConnectionError, TimeoutError, BlockingIOError)


class AgentQuotes:
    """One agent as the pod's source of TDX quotes. One request at a time, each on a connection of its own."""

    def __init__(self, path: str, ask: Ask) -> None:
        self._path, self._ask = path, ask
        self._calls = DriverCalls(refusal, "quote")

    def report(self, report_data: bytes, deadline_s: float) -> TeeReport:
        """As QuoteSource. Transient failures are tried again until the deadline."""
        check_size(report_data)
        end = time.monotonic() + deadline_s
        return self._calls.call(lambda: until(end, partial(self._attempt, report_data, end)), deadline_s)

    def provider(self, deadline_s: float) -> str:
        """As QuoteSource: that somebody listens there."""
        end = time.monotonic() + deadline_s

        def look() -> str:
            with self._connection(end):
                return f"somebody listens at {self._path}"

        return self._calls.call(look, deadline_s)

    def _attempt(self, report_data: bytes, end: float) -> TeeReport:
        with self._connection(end) as connection:
            quote = self._ask(connection, report_data, end)
        expect_report_data(TDX_GUEST, quote, report_data, "quote", retry=False)
        return TeeReport(TDX_GUEST, quote, b"")

    @contextmanager
    def _connection(self, end: float) -> Iterator[socket.socket]:
        """Whatever goes wrong with it names the socket."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(remaining(end))
                connection.connect(self._path)
                yield connection
        except (OSError, NetworkError, http.client.HTTPException, ValueError) as error:
            found = f"{type(error).__name__}: {error}"
            expected = f"an answer in time at {self._path}"
            raise refusal("agent", found, expected, isinstance(error, _TRANSIENT)) from error
