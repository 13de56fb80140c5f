"""The renderer's child: the same bytes as here, and a refusal for everything that is no answer."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest
from support.shop import view

from toposeal.dataplane.envoy_open import render
from toposeal.dataplane.envoy_plan import plan
from toposeal.dataplane.envoy_request import decode_rendered, encode_plan
from toposeal.dataplane.layout import ENVOY_LAYOUT
from toposeal.errors import PodError, Reason, ToposealError
from toposeal.host import renderer as renderer_module
from toposeal.host.renderer import Renderer

PLAN = plan(view("web"))
CHILD = [sys.executable, "-I", "-m", "toposeal.host.render_child"]
confined = pytest.mark.skipif(os.geteuid() != 0, reason="the child gives up capabilities that only root has")


def test_the_child_renders_the_same_bytes_with_no_environment() -> None:
    done = subprocess.run(CHILD, input=encode_plan(PLAN), capture_output=True, env={}, check=True, timeout=60)
    assert decode_rendered(done.stdout, PLAN.version) == render(PLAN, ENVOY_LAYOUT)
    assert done.stderr == b""


@pytest.mark.parametrize("request_", [b"", b"{}", b"\x80\x04]"], ids=["nothing", "no plan", "a pickle"])
def test_the_child_refuses_what_is_no_plan(request_: bytes) -> None:
    done = subprocess.run(CHILD, input=request_, capture_output=True, env={}, check=False, timeout=60)
    assert done.returncode != 0
    assert done.stdout == b""


@confined
def test_the_renderer_answers_as_often_as_it_is_asked() -> None:
    async def run() -> None:
        renderer = Renderer()
        await renderer.prepare()
        first = await renderer.render(PLAN)
        assert first == render(PLAN, ENVOY_LAYOUT)
        assert await renderer.render(PLAN) == first
        await renderer.prepare()
        await renderer.prepare()
        await renderer.close()
        await renderer.close()

    asyncio.run(run())


@confined
def test_envoy_comes_first_while_a_pod_serves() -> None:
    """The child's import costs more than a second of CPU."""

    async def run() -> int:
        renderer = Renderer()
        await renderer.prepare()
        assert renderer._child is not None
        niceness = os.getpriority(os.PRIO_PROCESS, renderer._child.pid)
        await renderer.close()
        return niceness

    assert asyncio.run(run()) > os.getpriority(os.PRIO_PROCESS, 0)


@confined
@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("/bin/sh", "-c", "cat >/dev/null; echo some trouble >&2; exit 1"), "some trouble"),
        (("/bin/sh", "-c", "cat >/dev/null; echo '{}'"), "DecodeError"),
        (("/bin/sh", "-c", "cat >/dev/null"), "clusters and listeners"),
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
