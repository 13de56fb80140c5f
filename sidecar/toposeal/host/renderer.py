"""What Envoy is sent, made in the daemon from forms that a short-lived child made of the topology.

The daemon neither waits for Envoy's message types when members change nor keeps them.
"""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import suppress

from toposeal.dataplane.discovery import Update
from toposeal.dataplane.envoy_forms import Forms, filled
from toposeal.dataplane.envoy_plan import PodPlan
from toposeal.dataplane.envoy_request import decode, encode
from toposeal.errors import PodError, Reason
from toposeal.host.render_spawn import COMMAND, spawn
from toposeal.limits import MAX_FORMS_SIZE, RENDER_TIMEOUT

Child = subprocess.Popen[bytes]
_COMMAND = COMMAND


class Renderer:
    """One child for each frame, one at a time. `prepare`, or a child handed in, spares the first its import's
    time, and `learn` spares `render` the child.

    Children are started by the thread that calls: they end with it.
    """

    def __init__(self, child: Child | None = None) -> None:
        self._child = child
        self._known: dict[PodPlan, Forms] = {}  # by frame: what serves, and what is to come
        self._one_at_a_time = asyncio.Lock()

    async def prepare(self) -> None:
        """Start the child that the next frame will need, unless there is one."""
        if self._child is None:
            self._child = spawn(_COMMAND)

    async def render(self, plan: PodPlan) -> Update:
        """What `plan` comes to. Raises PodError(INTERNAL) when the child fails or takes too long."""
        return filled(await self.learn(plan.frame), plan)

    async def learn(self, frame: PodPlan) -> Forms:
        """The forms of `frame`, which are kept. Raises as `render`."""
        async with self._one_at_a_time:
            forms = self._known.pop(frame, None) or await self._forms(frame)
            self._known = {**dict(list(self._known.items())[-1:]), frame: forms}
            return forms

    async def _forms(self, frame: PodPlan) -> Forms:
        await self.prepare()
        child, self._child = self._child, None
        if child is None:
            raise PodError.of(Reason.INTERNAL, "renderer", "no child", "a child")
        try:
            answer, complaint = await asyncio.to_thread(
                child.communicate, encode(frame), RENDER_TIMEOUT / 1000
            )
        except subprocess.TimeoutExpired:
            raise PodError.of(Reason.INTERNAL, "renderer", "silence", f"{RENDER_TIMEOUT} ms") from None
        finally:
            _end(child)
        if child.returncode != 0 or len(answer) > MAX_FORMS_SIZE:
            said = complaint.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise PodError.of(Reason.INTERNAL, "renderer", said, "an answer")
        return decode(Forms, answer)

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
