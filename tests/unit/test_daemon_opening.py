"""When leaves are renewed, what later manifests change, and what a failure of either means."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from support.actors import Bench
from support.shop import SHOP, member

from toposeal.daemon import opening as opening_module
from toposeal.daemon.opening import Opening
from toposeal.dataplane.discovery import Kind, Offer
from toposeal.dataplane.envoy_plan import plan
from toposeal.dataplane.view import MeshMember, PodView
from toposeal.errors import PodError, Reason, ToposealError
from toposeal.gate.machine import State
from toposeal.host.gate import Contents, Gate, Leaves
from toposeal.membership.sealed import SealedManifest
from toposeal_lab.simulation.network import Network, signed_topology


class Turning:
    """A gate that takes or refuses new leaves."""

    state = State.OPEN

    def __init__(self, *outcomes: BaseException | None) -> None:
        self.outcomes = list(outcomes)
        self.opened, self.rotated = 0, 0

    async def open(self, contents: Contents) -> None:
        self.opened += 1

    async def rotate(self, leaves: Leaves) -> None:
        self.rotated += 1
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if outcome is not None:
            raise outcome


def run_opening(
    gate: Turning, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> tuple[list[float], BaseException | None]:
    """Open, then let time fly until the gate was asked for new leaves `rounds` times; the pauses between."""
    pauses: list[float] = []
    clock = [0.0]

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock[0] += seconds * 1000
        if len(pauses) > rounds:
            raise asyncio.CancelledError

    async def go() -> BaseException | None:
        own = Network(signed_topology({"db": (1, 1), "web": (1, 1)}, leaf_lifetime_ms=100_000)).boot("web")
        opening = Opening(cast(Gate, gate), own.member.own, lambda view: None, lambda view: None)
        waiting = asyncio.create_task(opening.rotate())
        await asyncio.sleep(0)
        assert gate.rotated == 0
        opening._opened.set()
        monkeypatch.setattr("asyncio.sleep", sleep)
        await asyncio.wait({waiting})
        return None if waiting.cancelled() else waiting.exception()

    monkeypatch.setattr(opening_module, "new_leaves", lambda own, ms: {})
    monkeypatch.setattr(opening_module, "clock_ms", lambda: int(clock[0]))
    return pauses, asyncio.run(go())


def test_leaves_are_renewed_at_half_of_their_life_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses, error = run_opening(Turning(), monkeypatch, 4)
    assert pauses == [50.0] * 5
    assert error is None


def test_F6_a_renewal_that_fails_is_tried_again_sooner(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    refusal = PodError.of(Reason.ENVOY_FAILED, "envoy.discovery", "silence", "an acknowledgement")
    pauses, error = run_opening(Turning(refusal, refusal), monkeypatch, 3)
    assert pauses == [50.0, 25.0, 12.5, 50.0]
    assert error is None
    assert capfd.readouterr().out.count('"event": "alarm", "reason": "envoy_failed"') == 2


def test_S9_a_renewal_with_a_defect_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    _, error = run_opening(Turning(ZeroDivisionError()), monkeypatch, 3)
    assert isinstance(error, ZeroDivisionError)


class Updated(Turning):
    """A gate that takes or refuses other addresses; what it was opened with and changed to."""

    def __init__(self, *outcomes: BaseException | None) -> None:
        super().__init__(*outcomes)
        self.views: list[tuple[int, dict[str, tuple[str, ...]]]] = []
        self.contents: Contents | None = None

    async def open(self, contents: Contents) -> None:
        self.contents = contents
        found = contents()
        assert found is not None
        self.saw(found[0])

    async def update(self, view: PodView) -> None:
        self.saw(view)
        if self.outcomes and (outcome := self.outcomes.pop(0)) is not None:
            raise outcome

    def saw(self, view: PodView) -> None:
        self.views.append((view.generation, dict(view.resolved)))


def test_hosts_outside_are_known_at_the_opening_and_updated_after_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An update that fails is an alarm, and not taken; the next has a generation of its own."""
    refusal = PodError.of(Reason.ENVOY_REJECTED, "envoy", "no", "an update that it takes")
    gate = Updated(refusal, None)

    async def go() -> None:
        network = Network(signed_topology({"db": (1, 1), "web": (1, 1)}))
        own = network.boot("web").member.own
        view = PodView(own.topology.topology, cast(MeshMember, None), (), 1)
        monkeypatch.setattr(opening_module, "pod_view", lambda sealed, iid, generation: view)
        opening = Opening(cast(Gate, gate), own, lambda view: None, lambda view: None)
        taken = [await opening.resolved({"api.example.com": ("8.8.8.8",)})]
        sealed = SimpleNamespace(members=(), manifest=SimpleNamespace(epoch=1))
        await opening.open(cast(SealedManifest, sealed))
        taken.append(await opening.resolved({"api.example.com": ("8.8.4.4",)}))
        taken.append(await opening.resolved({"api.example.com": ("9.9.9.9",)}))
        assert taken == [True, False, True]

    minted = itertools.count(1)
    monkeypatch.setattr(
        opening_module, "new_leaves", lambda own, ms: {Kind.SECRET: Offer(str(next(minted)), {})}
    )
    asyncio.run(go())
    assert gate.contents is not None
    found = gate.contents()  # for an Envoy that replaces one that has ended: all of it as it is now
    assert found is not None
    again, leaves = found
    assert (again.generation, again.resolved) == (3, {"api.example.com": ("9.9.9.9",)})
    assert [leaves()[Kind.SECRET].version for _ in range(2)] == ["1", "2"]  # new ones each time
    assert gate.views == [
        (1, {"api.example.com": ("8.8.8.8",)}),
        (2, {"api.example.com": ("8.8.4.4",)}),
        (3, {"api.example.com": ("9.9.9.9",)}),
    ]
    assert capfd.readouterr().out.count('"event": "alarm", "reason": "envoy_rejected"') == 1


class Doors:
    """A gate that writes down what it is asked for, takes its time, and may refuse."""

    def __init__(self) -> None:
        self.state = State.OPEN
        self.done: list[str] = []
        self.contents: Contents | None = None
        self.error: ToposealError | None = None
        self.fences = False

    async def open(self, contents: Contents) -> None:
        self.contents = contents
        await self.do("open", shown(contents))

    async def resume(self) -> None:
        assert self.contents is not None
        await self.do("resume", shown(self.contents))

    async def suspend(self) -> None:
        await self.do("suspend")

    async def rotate(self, leaves: Leaves) -> None:
        await self.do("rotate")

    async def update(self, view: PodView) -> None:
        await self.do("update", f"{view.generation}")

    async def change_members(self, view: PodView) -> None:
        await self.do("members", f"{view.generation} {','.join(sorted(m.role for m in view.members))}")

    async def do(self, *words: str) -> None:
        await asyncio.sleep(0)
        self.done.append(" ".join(words))
        if self.error is not None:
            error, self.error = self.error, None
            self.state = State.FENCED if self.fences else self.state
            raise error


def shown(contents: Contents) -> str:
    found = contents()
    return "withheld" if found is None else f"{found[0].generation} {found[1]()[Kind.SECRET].version}"


@dataclass(frozen=True)
class Manifest:
    """As much of a sealed one as the opening looks at."""

    epoch: int
    roles: tuple[str, ...]

    @property
    def manifest(self) -> Manifest:
        return self


class Rig:
    """An opening over `Doors`, and what was published."""

    def __init__(self) -> None:
        self.doors = Doors()
        self.published: list[set[str]] = []
        self.entitled: list[set[str] | None] = []
        own = Network(signed_topology({"db": (1, 1), "web": (1, 1)})).boot("web").member.own
        self.opening = Opening(cast(Gate, self.doors), own, self.publish, self.entitle)

    def publish(self, view: PodView) -> None:
        self.published.append({member.role for member in view.members})

    def entitle(self, view: PodView | None) -> None:
        self.entitled.append(None if view is None else {member.role for member in view.members})

    async def open(self, epoch: int, *roles: str) -> None:
        await self.opening.open(cast(SealedManifest, Manifest(epoch, roles)))

    async def opened(self) -> None:
        await self.open(1, "db", "web")


def run(test: Callable[[Rig], Awaitable[None]], monkeypatch: pytest.MonkeyPatch) -> Rig:
    def seen(sealed: Any, iid: bytes, generation: int) -> PodView:
        members = tuple(replace(member("web", 11), role=role) for role in sealed.roles)
        return PodView(SHOP, members[0], members, generation)

    async def go() -> Rig:
        rig = Rig()
        await test(rig)
        return rig

    minted = itertools.count(1)
    monkeypatch.setattr(
        opening_module, "new_leaves", lambda own, ms: {Kind.SECRET: Offer(f"leaf-{next(minted)}", {})}
    )
    monkeypatch.setattr(opening_module, "pod_view", seen)
    return asyncio.run(go())


def test_what_is_made_ready_before_the_seal_is_what_it_opens_with() -> None:
    """Of everything but the other members: the gate has nothing left to wait for but Envoy."""

    class Expecting(Doors):
        done: list[Any]

        async def expect(self, view: PodView) -> None:
            self.done.append(view)

        async def open(self, contents: Contents) -> None:
            found = contents()
            assert found is not None
            self.done.append(found[0])

    async def go() -> None:
        bench = Bench({"db": (1, 1), "web": (1, 1)}).gathering()
        bench.active(bench.actor("db"))
        sealed, doors = bench.member.serving, Expecting()
        assert sealed is not None
        opening = Opening(cast(Gate, doors), bench.member.own, lambda view: None, lambda view: None)
        await opening.expect(signed_topology({"db": (1, 1)}).topology)
        await opening.expect(sealed.topology)
        await opening.open(sealed)
        expected, opened = doors.done
        assert len(expected.members) == 1 and len(opened.members) == 2
        assert plan(expected).frame == plan(opened).frame

    asyncio.run(go())


REFUSED = PodError.of(Reason.ENVOY_REJECTED, "envoy", "no", "an update that it takes")


def test_a_later_manifest_is_an_update_and_names_follow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(rig: Rig) -> None:
        await rig.opened()
        await rig.open(2, "api", "db", "web")
        await rig.open(3, "web")

    rig = run(test, monkeypatch)
    assert rig.doors.done == ["open 1 leaf-1", "members 2 api,db,web", "members 3 web"]
    assert rig.published == [{"db", "web"}, {"api", "db", "web"}, {"web"}]


def test_N5_names_keep_their_addresses_when_a_later_topology_has_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`api` comes before all others by name, and last by time."""
    seen: list[dict[str, str]] = []

    async def test(rig: Rig) -> None:
        rig.opening._publish = lambda view: seen.append(
            {r: view.places.role(r) for r in ("db", "web", "api")}
        )
        await rig.opened()

    run(test, monkeypatch)
    assert seen == [{"db": "240.10.0.1", "web": "240.10.0.2", "api": "240.10.0.3"}]


def test_D7_a_refused_newcomer_is_an_alarm_and_the_manifest_before_serves_on(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def test(rig: Rig) -> None:
        await rig.opened()
        rig.doors.error = REFUSED
        await rig.open(2, "api", "db", "web")
        assert rig.doors.contents is not None
        found = rig.doors.contents()  # what another Envoy would open with
        assert found is not None
        assert (found[0].generation, len(found[0].members)) == (1, 2)
        await rig.open(3, "api", "db", "web")

    rig = run(test, monkeypatch)
    assert rig.doors.done == ["open 1 leaf-1", "members 2 api,db,web", "members 3 api,db,web"]
    assert rig.published == [{"db", "web"}, {"api", "db", "web"}]
    assert capfd.readouterr().out.count('"event": "alarm", "reason": "envoy_rejected"') == 1


@pytest.mark.parametrize("call", ["open", "suspend"])
def test_D7_M5_what_fences_the_gate_is_raised(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(rig: Rig) -> None:
        await rig.opened()
        rig.doors.error, rig.doors.fences = REFUSED, True
        with pytest.raises(PodError):
            await (rig.open(2, "web") if call == "open" else rig.opening.suspend())

    assert run(test, monkeypatch).published == [{"db", "web"}]


def test_a_suspended_pod_remembers_what_changes_and_resumes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(rig: Rig) -> None:
        await rig.opened()
        await rig.opening.suspend()
        await rig.open(2, "api", "web")
        assert await rig.opening.resolved({"api.example.com": ("8.8.8.8",)})
        assert rig.published == [{"db", "web"}]
        assert rig.doors.contents is not None
        assert rig.doors.contents() is None
        await rig.opening.resume()
        await rig.opening.resume()

    rig = run(test, monkeypatch)
    assert rig.doors.done == ["open 1 leaf-1", "suspend", "resume 3 leaf-2"]
    assert rig.published == [{"db", "web"}, {"api", "web"}]
    assert rig.entitled == [{"db", "web"}, None, {"api", "web"}]


def test_a_pod_that_is_suspended_before_the_seal_opens_when_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(rig: Rig) -> None:
        await rig.opening.suspend()
        await rig.opened()
        assert (rig.doors.done, rig.published) == ([], [])
        await rig.opening.resume()

    assert run(test, monkeypatch).doors.done == ["open 1 leaf-1"]


def test_a_pod_without_a_seal_resumes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(rig: Rig) -> None:
        await rig.opening.suspend()
        await rig.opening.resume()

    assert run(test, monkeypatch).doors.done == []


def test_calls_take_effect_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(rig: Rig) -> None:
        opening = rig.opening
        calls = [rig.opened(), opening.suspend(), rig.open(2, "web"), opening.resume(), opening.suspend()]
        async with asyncio.TaskGroup() as tasks:
            for call in calls:
                tasks.create_task(call)
                await asyncio.sleep(0)
        await opening.resume()

    rig = run(test, monkeypatch)
    assert [done.split()[0] for done in rig.doors.done] == ["open", "suspend", "resume", "suspend", "resume"]


def test_D7_nothing_opens_between_the_word_to_suspend_and_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(rig: Rig) -> None:
        await rig.opened()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(rig.open(2, "db", "web"))
            tasks.create_task(rig.opening.suspend())
            await asyncio.sleep(0)
            assert rig.doors.contents is not None
            assert rig.doors.contents() is None
            assert rig.entitled[-1] is None

    rig = run(test, monkeypatch)
    assert rig.doors.done[1:] == ["members 2 db,web", "suspend"]
    assert rig.published[-1] == {"db", "web"}
    assert rig.entitled[1:] == [None]  # the manifest that came meanwhile entitles to nothing


def test_D7_an_envoy_that_does_not_close_is_an_alarm(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def test(rig: Rig) -> None:
        await rig.opened()
        rig.doors.error = REFUSED
        await rig.opening.suspend()

    run(test, monkeypatch)
    assert capfd.readouterr().out.count('"event": "alarm", "reason": "envoy_rejected"') == 1


def test_a_suspended_pod_has_no_leaves_to_renew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are any made: `resume` makes fresh ones."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) > 3:
            raise asyncio.CancelledError

    async def test(rig: Rig) -> None:
        await rig.opened()
        await rig.opening.suspend()
        monkeypatch.setattr("asyncio.sleep", sleep)
        with pytest.raises(asyncio.CancelledError):
            await rig.opening.rotate()

    assert run(test, monkeypatch).doors.done == ["open 1 leaf-1", "suspend"]
