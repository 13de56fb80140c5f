"""The gate over an Envoy of straw: who waits for whom when it ends at the wrong moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Any, cast

import pytest
from support.shop import MEMBERS, member, view

from toposeal.dataplane.discovery import Kind, Offer, Update
from toposeal.dataplane.envoy_closed import CLOSED
from toposeal.dataplane.envoy_plan import plan
from toposeal.dataplane.view import PodView
from toposeal.errors import LocalProtocolError, Mismatch, PodError, Reason, ToposealError
from toposeal.gate.machine import State
from toposeal.host.envoy import Envoy
from toposeal.host.gate import Gate, GateParts, Leaves

REFUSAL = PodError.of(Reason.ENVOY_FAILED, "envoy", "no", "yes")


class Straw:
    """Takes every update, but while `broken`; ends when it is told to, or killed."""

    def __init__(self) -> None:
        self.broken, self.killed = False, False
        self.end: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def ended(self) -> str:
        return await asyncio.shield(self.end)

    async def kill(self) -> None:
        self.killed = True
        if not self.end.done():
            self.end.set_result("killed")

    async def settled(self, acknowledgement: Awaitable[None]) -> None:
        await acknowledgement
        if self.broken or self.end.done():
            raise REFUSAL


class Discovery:
    """What Envoy would be served, by version."""

    def __init__(self, done: list[str]) -> None:
        self.done = done

    def reset(self, update: Update) -> None:
        self.done.append("closed" if update is CLOSED else f"forgotten {len(update)}")

    def offer(self, update: Update) -> None:
        self.done.append(f"offer {','.join(offer.version for offer in update.values())}")

    def offer_alone(self, update: Update) -> None:
        self.done.append("closed alone" if update is CLOSED else "something alone")

    async def acknowledged(self) -> None:
        await asyncio.sleep(0)


class Rig:
    """A gate and what it has done, in order."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.envoys: list[Straw] = []
        self.faults: list[Mismatch] = []
        self.starting: Callable[[], Awaitable[None]] | None = None
        self.asked = 0
        self.learned: list[object] = []
        self.unready: ToposealError | None = None
        self.minted_before: list[int] = []  # how many leaves there had been, at each rendering
        self.withheld = False
        self.blocked = self.stuck = False
        self.views: list[PodView] = [view("db")]
        part = cast(Any, self)
        discovery = cast(Any, Discovery(self.done))
        self.gate = Gate(
            GateParts(part, discovery, self.start_envoy, part, part, self.cut), self.faults.append
        )

    async def start_envoy(self) -> Envoy:
        if self.starting is not None:
            await self.starting()
        self.done.append("start")
        self.envoys.append(Straw())
        return cast(Envoy, self.envoys[-1])

    def reset(self, bootstrap: bytes) -> None:
        assert b"admin" in bootstrap

    def mark_open(self) -> None:
        self.done.append("open")

    def mark_closed(self) -> None:
        pass

    async def learn(self, frame: object) -> None:
        self.learned.append(frame)
        if self.unready is not None:
            raise self.unready

    async def render(self, plan: object) -> Update:
        self.minted_before.append(self.asked)
        return {Kind.LISTENER: Offer("lds", {})}

    async def ask(self) -> None:
        self.done.append("probe")
        if self.stuck:
            raise REFUSAL

    def cut(self, addresses: Collection[str]) -> None:
        self.done.append(f"cut {','.join(sorted(addresses))}")
        if self.blocked:
            raise REFUSAL

    async def close(self) -> None:
        pass

    def contents(self) -> tuple[PodView, Leaves] | None:
        return None if self.withheld else (self.views[-1], self.leaves)

    def leaves(self) -> Update:
        self.asked += 1
        return leaf(str(self.asked))

    async def opened(self) -> None:
        await self.gate.start()
        await self.gate.open(self.contents)

    async def until(self, state: State) -> None:
        async with asyncio.timeout(2):
            while self.gate.state is not state:
                await asyncio.sleep(0)


def leaf(name: str) -> Update:
    return {Kind.SECRET: Offer(f"leaf-{name}", {})}


OPENED = ["closed", "start", "offer leaf-1,lds", "probe", "open"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toposeal.gate.restarts.RESTART_PAUSE", 1)


def run(test: Callable[[Rig], Awaitable[None]]) -> Rig:
    async def go() -> Rig:
        rig = Rig()
        await test(rig)
        await rig.gate.fence()
        return rig

    return asyncio.run(go())


def test_what_cannot_be_made_ready_is_a_fault_only_when_it_is_needed() -> None:
    async def test(rig: Rig) -> None:
        rig.unready = LocalProtocolError.of(Reason.INTERNAL, "forms", "half", "an answer")
        await rig.gate.expect(view("db"))
        rig.unready = None
        await rig.gate.expect(view("db"))
        assert rig.learned == [plan(view("db")).frame] * 2
        await rig.opened()

    run(test)


def test_leaves_begin_to_age_when_envoy_is_about_to_have_them() -> None:
    """Not before: a start, or a rendering on a busy machine, may take longer than they are valid."""

    async def test(rig: Rig) -> None:
        await rig.opened()
        rig.envoys[0].end.set_result("gone")
        await rig.until(State.RESTARTING)
        await rig.until(State.OPEN)
        assert (rig.minted_before, rig.asked) == ([0, 1], 2)

    run(test)


def test_D7_fault_16_another_envoy_is_opened_with_what_holds_then() -> None:
    async def test(rig: Rig) -> None:
        await rig.opened()
        rig.envoys[0].end.set_result("gone")
        await rig.until(State.RESTARTING)
        await rig.until(State.OPEN)
        assert rig.done == [*OPENED, "forgotten 0", "closed", "start", "offer leaf-2,lds", "probe", "open"]

    assert run(test).faults == []


def test_D7_a_gate_that_is_fenced_in_the_pause_starts_no_other_envoy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toposeal.gate.restarts.RESTART_PAUSE", 20)

    async def test(rig: Rig) -> None:
        await rig.opened()
        rig.envoys[0].end.set_result("gone")
        await rig.until(State.RESTARTING)
        await rig.gate.fence()
        await asyncio.sleep(0.05)
        assert (rig.gate.state, len(rig.envoys)) == (State.FENCED, 1)

    assert run(test).faults == []


def test_D7_a_gate_that_is_fenced_while_another_envoy_starts_keeps_none() -> None:
    async def test(rig: Rig) -> None:
        await rig.opened()
        rig.starting = lambda: asyncio.sleep(0.02)
        rig.envoys[0].end.set_result("gone")
        await rig.until(State.RESTARTING)
        await asyncio.sleep(0.01)
        await rig.gate.fence()
        await asyncio.sleep(0.03)
        assert (rig.gate.state, len(rig.envoys)) == (State.FENCED, 1)

    run(test)


def test_D7_fault_16_a_start_that_fails_fences() -> None:
    async def refuse() -> None:
        raise REFUSAL

    async def test(rig: Rig) -> None:
        await rig.opened()
        rig.starting = refuse
        rig.envoys[0].end.set_result("gone")
        await rig.until(State.FENCED)

    assert run(test).faults == [REFUSAL.mismatches[0]]


def test_an_envoy_that_ends_during_a_change_fails_the_change_and_is_replaced() -> None:
    async def test(rig: Rig) -> None:
        await rig.opened()
        change = asyncio.ensure_future(rig.gate.rotate(lambda: leaf("x")))
        await asyncio.sleep(0)
        rig.envoys[0].end.set_result("gone")
        with pytest.raises(ToposealError):
            await change
        await rig.until(State.RESTARTING)
        later = asyncio.ensure_future(rig.gate.rotate(lambda: leaf("y")))  # waits for the new one
        await later
        assert rig.gate.state is State.OPEN
        assert rig.done[-2:] == ["open", "offer leaf-y"]

    assert run(test).faults == []


def test_D7_a_refused_update_replaces_no_envoy() -> None:
    async def test(rig: Rig) -> None:
        await rig.opened()
        rig.envoys[0].broken = True
        with pytest.raises(ToposealError):
            await rig.gate.update(view("db"))
        await asyncio.sleep(0.01)
        assert (rig.gate.state, len(rig.envoys), rig.envoys[0].killed) == (State.OPEN, 1, False)

    assert run(test).faults == []


def test_D7_an_envoy_that_ends_before_the_gate_was_open_is_not_replaced() -> None:
    async def test(rig: Rig) -> None:
        await rig.gate.start()
        rig.envoys[0].end.set_result("gone")
        await rig.until(State.FENCED)

    rig = run(test)
    assert [fault.found for fault in rig.faults] == ["gone, 1 in an hour"]
    assert rig.done == ["closed", "start", "forgotten 0"]


API = next(m for m in MEMBERS if m.role == "api")
WITHOUT = replace(view("db", 2), members=tuple(m for m in MEMBERS if m != API))
WITH = replace(view("db", 2), members=(*MEMBERS, member("api", 15)))
CUT = f"cut {','.join(sorted(API.addresses))}"


def test_members_that_join_are_offered_and_nobody_is_cut() -> None:
    async def test(rig: Rig) -> None:
        await rig.opened()
        await rig.gate.change_members(WITH)
        assert rig.done == [*OPENED, "offer lds"]
        assert rig.gate.state is State.OPEN

    assert run(test).faults == []


def test_M5_whoever_has_gone_is_cut_once_it_is_acknowledged_and_once_a_connection_was_carried() -> None:
    async def test(rig: Rig) -> None:
        await rig.opened()
        await rig.gate.change_members(WITHOUT)
        assert rig.done == [*OPENED, "offer lds", CUT, "probe", CUT]
        await rig.gate.change_members(replace(WITHOUT, generation=3))
        assert rig.done[-1] == "offer lds"  # and only once

    assert run(test).faults == []


def test_M5_a_connection_that_is_refused_has_been_carried_too() -> None:
    async def test(rig: Rig) -> None:
        await rig.opened()
        rig.stuck = True
        await rig.gate.change_members(WITHOUT)
        assert (rig.gate.state, rig.done[-3:]) == (State.OPEN, [CUT, "probe", CUT])

    assert run(test).faults == []


@pytest.mark.parametrize("fault", ["refused", "not cut"])
def test_D7_M5_trust_that_cannot_be_removed_fences(fault: str) -> None:
    async def test(rig: Rig) -> None:
        await rig.opened()
        rig.envoys[0].broken, rig.blocked = fault == "refused", fault == "not cut"
        with pytest.raises(ToposealError):
            await rig.gate.change_members(WITHOUT)
        assert (rig.gate.state, rig.envoys[0].killed, rig.done[-1]) == (State.FENCED, True, "forgotten 0")
        await asyncio.sleep(0.01)
        assert len(rig.envoys) == 1

    assert run(test).faults == [REFUSAL.mismatches[0]]


def test_D7_a_refused_newcomer_leaves_what_was_and_is_taken_away_like_any_member() -> None:
    """Envoy may have taken a part of the update."""

    async def test(rig: Rig) -> None:
        await rig.opened()
        rig.envoys[0].broken = True
        with pytest.raises(ToposealError):
            await rig.gate.change_members(WITH)
        assert (rig.gate.state, rig.envoys[0].killed) == (State.OPEN, False)
        rig.envoys[0].broken = False
        await rig.gate.change_members(view("db", 3))
        assert rig.done[-3:] == ["cut 10.77.0.15", "probe", "cut 10.77.0.15"]

    assert run(test).faults == []


def test_another_envoy_has_no_connections_to_cut() -> None:
    async def test(rig: Rig) -> None:
        await rig.opened()
        rig.views.append(WITHOUT)
        rig.envoys[0].end.set_result("gone")
        await rig.until(State.RESTARTING)
        await rig.gate.change_members(WITHOUT)
        assert rig.done[-2:] == ["open", "offer lds"]

    assert run(test).faults == []


def test_a_suspended_gate_serves_no_key_and_resumes_by_the_whole_way_with_fresh_ones() -> None:
    async def test(rig: Rig) -> None:
        await rig.opened()
        await rig.gate.suspend()
        assert (rig.gate.state, rig.done) == (State.SUSPENDED, [*OPENED, "closed alone"])
        await rig.gate.suspend()
        await rig.gate.rotate(lambda: leaf("x"))
        await rig.gate.update(view("db", 2))
        await rig.gate.change_members(WITHOUT)
        assert (rig.gate.state, rig.done) == (State.SUSPENDED, [*OPENED, "closed alone"])
        await rig.gate.resume()
        assert (rig.gate.state, rig.done[-3:]) == (State.OPEN, ["offer leaf-2,lds", "probe", "open"])

    assert run(test).faults == []


def test_M5_whoever_goes_while_the_gate_is_suspended_was_cut_by_that() -> None:
    async def test(rig: Rig) -> None:
        await rig.opened()
        await rig.gate.suspend()
        rig.views.append(WITHOUT)
        await rig.gate.resume()
        await rig.gate.change_members(replace(WITHOUT, generation=3))
        assert rig.done[-2:] == ["open", "offer lds"]

    assert run(test).faults == []


def test_D7_fault_16_an_envoy_that_ends_while_suspended_is_replaced_and_stays_closed() -> None:
    async def test(rig: Rig) -> None:
        await rig.opened()
        await rig.gate.suspend()
        rig.envoys[0].end.set_result("gone")
        await rig.until(State.REPLACING)
        await rig.until(State.SUSPENDED)
        assert rig.done[-3:] == ["forgotten 0", "closed", "start"]
        await rig.gate.resume()
        assert (rig.gate.state, rig.done[-1], rig.asked) == (State.OPEN, "open", 2)

    assert run(test).faults == []


def test_D7_an_envoy_that_is_replaced_when_the_gate_may_not_open_any_more_stays_closed() -> None:
    async def test(rig: Rig) -> None:
        await rig.opened()
        rig.envoys[0].end.set_result("gone")
        await rig.until(State.RESTARTING)
        rig.withheld = True
        await rig.gate.suspend()  # waits for the new one
        assert (rig.gate.state, rig.done[-2:], len(rig.envoys)) == (State.SUSPENDED, ["closed", "start"], 2)
        await rig.gate.resume()
        assert (rig.gate.state, rig.asked) == (State.SUSPENDED, 1)

    assert run(test).faults == []


def test_D7_an_envoy_that_does_not_close_is_killed_and_another_is_closed() -> None:
    async def test(rig: Rig) -> None:
        await rig.opened()
        rig.envoys[0].broken = True
        with pytest.raises(ToposealError):
            await rig.gate.suspend()
        assert (rig.gate.state, rig.envoys[0].killed) == (State.SUSPENDED, True)
        assert rig.done[-2:] == ["closed alone", "forgotten 0"]
        await rig.until(State.REPLACING)
        await rig.until(State.SUSPENDED)
        assert len(rig.envoys) == 2
        await rig.gate.resume()
        assert rig.gate.state is State.OPEN

    assert run(test).faults == []


def test_D7_a_gate_that_cannot_resume_is_fenced() -> None:
    async def test(rig: Rig) -> None:
        await rig.opened()
        await rig.gate.suspend()
        rig.envoys[0].broken = True
        with pytest.raises(ToposealError):
            await rig.gate.resume()
        assert (rig.gate.state, rig.envoys[0].killed) == (State.FENCED, True)

    assert run(test).faults == [REFUSAL.mismatches[0]]
