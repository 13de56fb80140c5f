"""When hosts outside are asked for again, and which answers change anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

import pytest

from toposeal.daemon import outside_hosts
from toposeal.daemon.outside_hosts import OutsideHosts
from toposeal.dataplane.dns_client import Answer
from toposeal.topology.egress import Egress

API = Egress(443, host="api.example.com")
LEDGER = Egress(5432, host="ledger.corp.example", within=("10.0.0.0/8",))
RANGE = Egress(25, cidr="192.0.2.0/24")


def answer(*addresses: str, ttl: int = 60) -> Answer:
    return Answer(addresses, ttl, False)


class Told:
    """Answers in turn, silence after the last; what was changed to, and the pauses between. Those changes
    do not take whose places are in `fails`.
    """

    def __init__(self, fails: Collection[int] = (), **answers: list[Answer | None]) -> None:
        self.fails = fails
        self.answers = {host.replace("_", "."): list(given) for host, given in answers.items()}
        self.changes: list[dict[str, tuple[str, ...]]] = []
        self.told_at: list[float] = []
        self.pauses: list[float] = []
        self.now = 0.0

    async def resolve(self, host: str) -> Answer | None:
        return self.answers[host].pop(0) if self.answers[host] else None

    async def changed(self, resolved: Mapping[str, tuple[str, ...]]) -> bool:
        self.changes.append(dict(resolved))
        self.told_at.append(self.now / 1000)
        return len(self.changes) - 1 not in self.fails

    def run(self, monkeypatch: pytest.MonkeyPatch, *egress: Egress, rounds: int) -> None:
        async def sleep(seconds: float) -> None:
            self.pauses.append(seconds)
            self.now += seconds * 1000
            if len(self.pauses) == rounds:
                raise asyncio.CancelledError

        async def go() -> None:
            with pytest.raises(asyncio.CancelledError):
                await OutsideHosts(egress, self, self.changed).run()

        monkeypatch.setattr(outside_hosts, "clock_ms", lambda: int(self.now))
        monkeypatch.setattr("asyncio.sleep", sleep)
        asyncio.run(go())


def test_a_change_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(api_example_com=[answer("8.8.8.8"), answer("8.8.8.8"), answer("9.9.9.9", "8.8.4.4")])
    told.run(monkeypatch, API, rounds=3)
    assert told.changes == [{"api.example.com": ("8.8.8.8",)}, {"api.example.com": ("8.8.4.4", "9.9.9.9")}]


def test_the_time_to_live_counts_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    ttls = [answer("8.8.8.8", ttl=ttl) for ttl in (0, 60, 1 << 31)]
    told = Told(api_example_com=[*ttls, None])
    told.run(monkeypatch, API, rounds=4)
    assert told.pauses == [30, 60, 300, 5]


def test_without_an_answer_the_last_one_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(api_example_com=[answer("8.8.8.8"), None, None])
    told.run(monkeypatch, API, rounds=3)
    assert told.changes == [{"api.example.com": ("8.8.8.8",)}]
    assert told.pauses == [60, 5, 5]


def test_a_change_that_does_not_take_is_told_again_later_and_later(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(fails=range(3), api_example_com=[answer("8.8.8.8", ttl=200), answer("8.8.8.8", ttl=200)])
    told.run(monkeypatch, API, rounds=5)
    assert told.changes == [{"api.example.com": ("8.8.8.8",)}] * 4
    assert told.pauses == [5, 10, 20, 165, 200]


def test_after_a_change_that_took_the_pauses_are_short_again(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(fails={0, 1, 3}, api_example_com=[answer("8.8.8.8", ttl=30), answer("9.9.9.9", ttl=300)])
    told.run(monkeypatch, API, rounds=6)
    assert told.told_at == [0, 5, 15, 30, 35]


def test_what_is_told_again_is_what_was_answered_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also before its turn: another answer need not wait for the end of a pause."""
    told = Told(fails=range(4), api_example_com=[answer("8.8.8.8", ttl=30), answer("9.9.9.9", ttl=300)])
    told.run(monkeypatch, API, rounds=6)
    assert told.pauses == [5, 10, 15, 40, 260, 5]
    assert told.changes == [{"api.example.com": ("8.8.8.8",)}] * 3 + [{"api.example.com": ("9.9.9.9",)}] * 2


def test_a_change_that_never_takes_is_told_every_few_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(fails=range(99), api_example_com=[answer("8.8.8.8", ttl=300)] * 9)
    told.run(monkeypatch, API, rounds=12)
    assert told.told_at == [0, 5, 15, 35, 75, 155, 315, 615, 915]


def test_every_host_has_a_time_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(
        api_example_com=[answer("8.8.8.8", ttl=40)], ledger_corp_example=[answer("10.0.0.1", ttl=100)]
    )
    told.run(monkeypatch, API, LEDGER, rounds=3)
    assert told.changes == [{"api.example.com": ("8.8.8.8",), "ledger.corp.example": ("10.0.0.1",)}]
    assert told.pauses == [40, 5, 5]


def test_N2_addresses_that_are_none_are_left_out_and_counted(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = ("127.0.0.1", "169.254.169.254", "240.10.0.1", "10.0.0.1")
    told = Told(api_example_com=[answer(*bad, "8.8.8.8"), answer(*bad)])
    told.run(monkeypatch, API, rounds=2)
    assert told.changes == [{"api.example.com": ("8.8.8.8",)}, {"api.example.com": ()}]
    out = capfd.readouterr().out
    assert '"addresses": "8.8.8.8", "refused": 4' in out


def test_a_host_of_several_entries_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = Egress(80, host="api.example.com", within=("10.0.0.0/8",))
    told = Told(api_example_com=[answer("8.8.8.8", "10.0.0.1", "11.0.0.1", "192.168.0.1")])
    told.run(monkeypatch, API, inside, rounds=1)
    assert told.changes == [{"api.example.com": ("10.0.0.1", "11.0.0.1", "8.8.8.8")}]


def test_without_hosts_nobody_is_asked_and_nothing_ends() -> None:
    async def go() -> None:
        told = Told()
        running = asyncio.create_task(OutsideHosts([RANGE], told, told.changed).run())
        done, _ = await asyncio.wait({running}, timeout=0.05)
        assert not done
        assert told.changes == []
        running.cancel()

    asyncio.run(go())


def test_a_later_topology_asks_for_its_hosts_and_keeps_what_is_known() -> None:
    """No time flies here: what is due is due at once."""
    told = Told(api_example_com=[answer("8.8.8.8")], ledger_corp_example=[answer("10.1.2.3")])

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.005)

    async def go() -> None:
        hosts = OutsideHosts([API], told, told.changed)
        hosts.follow([API], told)  # before it runs, too
        running = asyncio.create_task(hosts.run())
        await until(lambda: told.changes[-1:] == [{"api.example.com": ("8.8.8.8",)}])
        hosts.follow([API, LEDGER], told)
        both = {"api.example.com": ("8.8.8.8",), "ledger.corp.example": ("10.1.2.3",)}
        await until(lambda: told.changes[-1:] == [both])
        hosts.follow([LEDGER], told)
        await until(lambda: told.changes[-1:] == [{"ledger.corp.example": ("10.1.2.3",)}])
        hosts.follow([], told)
        await until(lambda: told.changes[-1:] == [{}])
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(go())
