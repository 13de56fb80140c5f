"""Rendering in a short-lived child: the daemon neither waits for Envoy's message types nor keeps them."""

from __future__ import annotations

import asyncio
import os
import subprocess
from contextlib import suppress

from toposeal.dataplane.discovery import Update
from toposeal.dataplane.envoy_plan import PodPlan
from toposeal.dataplane.envoy_request import decode_rendered, encode_plan
from toposeal.errors import PodError, Reason
from toposeal.host.render_spawn import COMMAND, spawn
from toposeal.limits import MAX_RENDERED_SIZE, RENDER_TIMEOUT

Child = subprocess.Popen[bytes]
_COMMAND = COMMAND
_NICENESS = 10  # beside a pod that serves: its Envoy comes first, and idle time is enough for the import


class Renderer:
    """At most one child at a time. `prepare`, or a child handed in, spares `render` its import's time.

    Children are started by the thread that calls `prepare`: they end with it.
    """

    def __init__(self, child: Child | None = None) -> None:
        self._child = child

    async def prepare(self) -> None:
        """Start the child that the next `render` will use, unless there is one."""
        if self._child is None:
            self._child = spawn(_COMMAND)
            os.setpriority(os.PRIO_PROCESS, self._child.pid, _NICENESS)

    async def render(self, plan: PodPlan) -> Update:
        """What `plan` comes to. Raises PodError(INTERNAL) when the child fails or takes too long."""
        await self.prepare()
        child, self._child = self._child, None
        if child is None:
            raise PodError.of(Reason.INTERNAL, "renderer", "no child", "a child")
        try:
            answer, complaint = await asyncio.to_thread(
                child.communicate, encode_plan(plan), RENDER_TIMEOUT / 1000
            )
        except subprocess.TimeoutExpired:
            raise PodError.of(Reason.INTERNAL, "renderer", "silence", f"{RENDER_TIMEOUT} ms") from None
        finally:
            _end(child)
        if child.returncode != 0 or len(answer) > MAX_RENDERED_SIZE:
            said = complaint.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise PodError.of(Reason.INTERNAL, "renderer", said, "an answer")
        return decode_rendered(answer, plan.version)

    async def close(self) -> None:
        """End a child that nobody asked anything."""
        child, self._child = self._child, None
        if child is not None:
            _end(child)


def _end(child: Child) -> None:
    """It holds nothing and is killed, not asked; the kernel ends it within the wait."""
    child.kill()
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            with suppress(OSError):
                stream.close()
    child.wait()
