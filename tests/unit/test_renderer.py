"""The renderer's child: the same forms as here, and a refusal for everything that is no answer."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import pytest
from support.shop import MEMBERS, requests_view, view

from toposeal.dataplane.envoy_forms import Forms
from toposeal.dataplane.envoy_open import forms, render
from toposeal.dataplane.envoy_plan import plan
from toposeal.dataplane.envoy_request import decode, encode
from toposeal.dataplane.layout import ENVOY_LAYOUT
from toposeal.dataplane.view import PodView
from toposeal.errors import PodError, Reason, ToposealError
from toposeal.host import render_spawn
from toposeal.host import renderer as renderer_module
from toposeal.host.renderer import Renderer

PLAN = plan(view("web"))
CHILD = [sys.executable, "-I", "-m", "toposeal.host.render_child"]
confined = pytest.mark.skipif(os.geteuid() != 0, reason="the child gives up capabilities that only root has")


@pytest.mark.parametrize("seen", [view("web"), requests_view()], ids=["connections", "requests"])
def test_the_child_makes_the_same_forms_with_no_environment(seen: PodView) -> None:
    frame = plan(seen).frame
    done = subprocess.run(CHILD, input=encode(frame), capture_output=True, env={}, check=True, timeout=60)
    assert decode(Forms, done.stdout) == forms(frame, ENVOY_LAYOUT)
    assert done.stderr == b""


@pytest.mark.parametrize("request_", [b"", b"{}", b"\x80\x04]"], ids=["nothing", "no plan", "a pickle"])
def test_the_child_refuses_what_is_no_plan(request_: bytes) -> None:
    done = subprocess.run(CHILD, input=request_, capture_output=True, env={}, check=False, timeout=60)
    assert done.returncode != 0
    assert done.stdout == b""


class Counted:
    """How many children there were, and whether the last is still there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.children: list[subprocess.Popen[bytes]] = []

        def spawn(command: Sequence[str]) -> subprocess.Popen[bytes]:
            self.children.append(render_spawn.spawn(command))
            return self.children[-1]

        monkeypatch.setattr(renderer_module, "spawn", spawn)


@confined
def test_members_come_and_go_without_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs more than a second of CPU, which a pod that serves does not have to spare."""
    counted = Counted(monkeypatch)
    one_less = tuple(member for member in MEMBERS if member is not MEMBERS[0])
    seen = [view("web"), replace(view("web"), members=one_less, generation=2), view("db")]
    plans = [plan(one) for one in seen]
    assert plans[0].outbound != plans[1].outbound

    async def run() -> None:
        renderer = Renderer()
        for number, wanted in enumerate((plans[0], plans[1], plans[0], plans[2], plans[2])):
            assert await renderer.render(wanted) == render(wanted, ENVOY_LAYOUT)
            assert len(counted.children) == (1 if number < 3 else 2)

    asyncio.run(run())


@confined
def test_who_has_learned_needs_no_child_when_it_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one more that renders meanwhile; of topologies the two newest are known."""
    counted = Counted(monkeypatch)
    web, api, db = (plan(view(name)) for name in ("web", "api", "db"))

    async def run() -> None:
        renderer = Renderer()
        await asyncio.gather(renderer.learn(web.frame), renderer.render(web), renderer.render(web))
        assert len(counted.children) == 1
        await renderer.learn(api.frame)
        await renderer.render(web)
        await renderer.render(api)
        assert len(counted.children) == 2
        await renderer.learn(db.frame)
        await renderer.render(api)
        assert len(counted.children) == 3
        await renderer.render(web)
        assert len(counted.children) == 4

    asyncio.run(run())


@confined
def test_a_prepared_child_ends_with_its_renderer(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)

    async def run() -> None:
        renderer = Renderer()
        await renderer.prepare()
        await renderer.prepare()
        await renderer.close()
        await renderer.close()
        assert [child.poll() is None for child in counted.children] == [False]

    asyncio.run(run())


@confined
@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("/bin/sh", "-c", "cat >/dev/null; echo some trouble >&2; exit 1"), "some trouble"),
        (("/bin/sh", "-c", "cat >/dev/null; echo '{}'"), "dict"),
        (("/bin/sh", "-c", "cat >/dev/null"), "JSON"),
        (("/bin/sleep", "9"), "silence"),
    ],
    ids=["failure", "another answer", "nothing", "silence"],
)
def test_a_child_that_does_not_answer_is_refused(
    command: tuple[str, ...], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renderer_module, "_COMMAND", command)
    monkeypatch.setattr(renderer_module, "RENDER_TIMEOUT", 500)
    with pytest.raises(ToposealError, match=text) as caught:
        asyncio.run(Renderer().render(PLAN))
    assert caught.value.reason is Reason.INTERNAL


def test_without_setpriv_there_is_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toposeal.host.privileges.SETPRIV", ("/nowhere/setpriv",))
    with pytest.raises(PodError, match="setpriv"):
        asyncio.run(Renderer().render(PLAN))
