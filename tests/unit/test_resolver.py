"""Names of peers: whatever DNS answers or does not, nobody else waits for it."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from toposeal.host import resolver
from toposeal.host.resolver import Resolver


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


class Dns:
    """Stands for the C library: names that answer, names that are silent until `over`, and who was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **known: str) -> None:
        self.known, self.asked = known, list[str]()
        self.over = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", self.getaddrinfo)
        monkeypatch.setattr(resolver, "_TIMEOUT_S", 0.2)

    def getaddrinfo(self, host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        self.asked.append(host)
        if host not in self.known:
            self.over.wait(20)
            raise socket.gaierror(-3, "Temporary failure in name resolution")
        return [(2, 1, 6, "", (address, port)) for address in self.known[host].split()]


def test_literals_are_themselves_and_bad_names_are_nothing() -> None:
    async def go() -> None:
        names = Resolver()
        assert await names.resolve("192.0.2.7", 1) == ["192.0.2.7"]
        assert await names.resolve("FD00::0001", 1) == ["fd00::1"]
        assert await names.resolve("does-not-exist.invalid", 1) == []
        assert await names.resolve("x" * 300, 1) == []

    run(go)


def test_a_name_is_all_its_addresses_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    dns = Dns(monkeypatch, db="10.0.0.2 10.0.0.1 10.0.0.2")

    async def go() -> None:
        assert await Resolver().resolve("db", 15443) == ["10.0.0.1", "10.0.0.2"]

    run(go)
    assert dns.asked == ["db"]


def test_N2_silent_names_delay_neither_others_nor_the_default_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The default executor mends the rules and renders: untrusted DNS must not be able to fill it."""
    dns = Dns(monkeypatch, good="10.0.0.1")

    async def go() -> None:
        names = Resolver()
        started = time.monotonic()
        silent = [names.resolve(f"silent-{number}", 1) for number in range(20)]
        found = await asyncio.gather(*silent, names.resolve("good", 1))
        assert found == [[]] * 20 + [["10.0.0.1"]]
        assert time.monotonic() - started < 2
        async with asyncio.timeout(1):
            assert await asyncio.to_thread(lambda: "mended") == "mended"
        names.close()
        dns.over.set()

    run(go)


def test_N2_a_name_that_is_being_asked_for_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    dns = Dns(monkeypatch, good="10.0.0.1")

    async def go() -> None:
        names = Resolver()
        for _ in range(3):
            assert await names.resolve("silent", 1) == []
        assert dns.asked == ["silent"]
        dns.over.set()
        await asyncio.sleep(0.1)
        assert await names.resolve("silent", 1) == []
        assert dns.asked == ["silent", "silent"]
        assert await names.resolve("good", 1) == ["10.0.0.1"]
        names.close()

    run(go)
