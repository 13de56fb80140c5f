"""The figures of a pod: what they are gathered from, before the seal and after it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from support.meshes import build_mesh

from toposeal.daemon.metrics import Metrics
from toposeal.daemon.node import Node
from toposeal.dataplane.metrics import Counted
from toposeal.errors import PodError, Reason
from toposeal.gate.machine import State
from toposeal.host.gate import Gate
from toposeal.host.journal import clock_ms


class FakeGate:
    state = State.OPEN

    async def counted(self) -> Counted:
        return Counted({"sds.id.update_rejected": 4}, {"no_route": 2})


def said(member: object, quoted_at: int | None, gate: Any = None) -> list[str]:
    node = cast(Node, SimpleNamespace(member=member, quoted_at=quoted_at))
    text = asyncio.run(Metrics(cast(Gate, gate or FakeGate()), node).text()).decode()
    return [line for line in text.splitlines() if not line.startswith("#") and not line.endswith(" 0")]


COUNTED = [
    'toposeal_refusals_total{kind="no_route"} 2',
    'toposeal_updates_rejected_total{what="leaves"} 4',
]


def test_a_sealed_pod_says_epoch_members_and_the_age_of_its_quote() -> None:
    mesh = build_mesh(epoch=7)
    found = said(SimpleNamespace(serving=mesh.sealed), clock_ms() - 5_400)
    assert found == [
        'toposeal_gate_state{state="open"} 1',
        "toposeal_epoch 7",
        f"toposeal_members {len(mesh.pods)}",
        "toposeal_quote_age_seconds 5",
        *COUNTED,
    ]


@pytest.mark.parametrize("member", [None, SimpleNamespace(serving=None)])
def test_before_the_seal_there_is_none_to_speak_of(member: object) -> None:
    assert said(member, None) == ['toposeal_gate_state{state="open"} 1', *COUNTED]


@pytest.mark.parametrize(
    ("state", "healthy"), [(State.OPEN, True), (State.UPDATING, True), (State.SUSPENDING, False)]
)
def test_health_is_that_the_gate_serves(state: State, healthy: bool) -> None:
    metrics = Metrics(cast(Gate, SimpleNamespace(state=state)), cast(Node, SimpleNamespace()))
    assert metrics.healthy() is healthy


def test_without_envoys_answer_there_are_no_figures() -> None:
    class Silent(FakeGate):
        async def counted(self) -> Counted:
            raise PodError.of(Reason.ENVOY_FAILED, "envoy.admin", "nothing", "an answer")

    with pytest.raises(PodError):
        said(None, None, Silent())
