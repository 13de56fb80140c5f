"""Names to addresses through untrusted DNS, which may be silent: in threads that serve nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from toposeal.limits import PEER_TIMEOUT

_THREADS = 32  # names that can be silent at once without a word for the others
_TIMEOUT_S = PEER_TIMEOUT / 1000

Found = list[tuple[Any, ...]]  # as getaddrinfo returns it


class Resolver:
    """The C library waits for a silent server as long as it likes. Its thread is left to it, and a name
    is not asked for again until it has come back.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "resolve")
        self._asked: dict[str, asyncio.Future[Found]] = {}

    async def resolve(self, host: str, port: int) -> list[str]:
        """The IP literals that `host` stands for now, sorted; empty when it has none, or none in time."""
        with contextlib.suppress(ValueError):
            return [str(ipaddress.ip_address(host))]
        asked = self._asked.get(host) or self._ask(host, port)
        await asyncio.wait({asked}, timeout=_TIMEOUT_S)
        if not asked.done() or asked.cancelled() or asked.exception() is not None:
            return []
        return sorted({str(entry[4][0]) for entry in asked.result()})

    def close(self) -> None:
        """Ask nothing more; threads that wait are left alone."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ask(self, host: str, port: int) -> asyncio.Future[Found]:
        loop = asyncio.get_running_loop()
        asked = self._asked[host] = asyncio.ensure_future(
            loop.run_in_executor(self._threads, _getaddrinfo, host, port)
        )
        asked.add_done_callback(lambda _: self._asked.pop(host, None))
        return asked


def _getaddrinfo(host: str, port: int) -> Found:
    try:
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError):
        return []
