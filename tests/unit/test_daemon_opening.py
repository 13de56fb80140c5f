"""When leaves are renewed, and what a renewal that fails means."""

from __future__ import annotations

import asyncio
import itertools
from types import SimpleNamespace
from typing import cast

import pytest
from support.network import Network, signed_topology

from toposeal.daemon import opening as opening_module
from toposeal.daemon.opening import Opening
from toposeal.dataplane.discovery import Kind, Offer
from toposeal.dataplane.view import MeshMember, PodView
from toposeal.errors import PodError, Reason
from toposeal.gate.machine import State
from toposeal.host.gate import Contents, Gate
from toposeal.membership.sealed import SealedManifest


class Turning:
    """A gate that takes or refuses new leaves."""

    state = State.OPEN

    def __init__(self, *outcomes: BaseException | None) -> None:
        self.outcomes = list(outcomes)
        self.opened, self.rotated = 0, 0

    async def open(self, contents: Contents) -> None:
        self.opened += 1

    async def rotate(self, secrets: object) -> None:
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
        opening = Opening(cast(Gate, gate), own.member.own, lambda roles: None)
        waiting = asyncio.create_task(opening.rotate())
        await asyncio.sleep(0)
        assert gate.rotated == 0
        opening._opened.set()
        monkeypatch.setattr("asyncio.sleep", sleep)
        await asyncio.wait({waiting})
        return None if waiting.cancelled() else waiting.exception()

    monkeypatch.setattr(opening_module, "new_leaves", lambda own: {})
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
        self.saw(contents()[0])

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
        opening = Opening(cast(Gate, gate), own, lambda roles: None)
        taken = [await opening.resolved({"api.example.com": ("8.8.8.8",)})]
        sealed = SimpleNamespace(members=(), manifest=SimpleNamespace(epoch=1))
        await opening.open(cast(SealedManifest, sealed))
        taken.append(await opening.resolved({"api.example.com": ("8.8.4.4",)}))
        taken.append(await opening.resolved({"api.example.com": ("9.9.9.9",)}))
        assert taken == [True, False, True]

    minted = itertools.count(1)
    monkeypatch.setattr(opening_module, "new_leaves", lambda own: {Kind.SECRET: Offer(str(next(minted)), {})})
    asyncio.run(go())
    assert gate.contents is not None
    again, leaves = gate.contents()  # for an Envoy that replaces one that has ended: all of it as it is now
    assert (again.generation, again.resolved) == (3, {"api.example.com": ("9.9.9.9",)})
    assert leaves[Kind.SECRET].version == "2"
    assert gate.views == [
        (1, {"api.example.com": ("8.8.8.8",)}),
        (2, {"api.example.com": ("8.8.4.4",)}),
        (3, {"api.example.com": ("9.9.9.9",)}),
    ]
    assert capfd.readouterr().out.count('"event": "alarm", "reason": "envoy_rejected"') == 1
