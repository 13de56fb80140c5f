"""Rendering in a short-lived child: the daemon neither waits for Envoy's message types nor keeps them."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

from toposeal.dataplane.envoy_plan import PodPlan
from toposeal.dataplane.envoy_request import decode_files, encode_plan
from toposeal.errors import PodError, Reason
from toposeal.host.child import confined
from toposeal.limits import MAX_RENDERED_SIZE, RENDER_TIMEOUT

_COMMAND = (sys.executable, "-I", "-m", "toposeal.host.render_child")
# A virtual environment below /root can be read by the daemon only with this, and so by its child.
_CAPABILITIES = ("dac_override",)


class Renderer:
    """At most one child at a time. `prepare` starts it early, so that its import costs no one's time."""

    def __init__(self) -> None:
        self._child: asyncio.subprocess.Process | None = None

    async def prepare(self) -> None:
        """Start the child that the next `render` will use, unless there is one."""
        if self._child is None:
            self._child = await asyncio.create_subprocess_exec(
                *confined(_COMMAND, uid=None, capabilities=_CAPABILITIES),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=MAX_RENDERED_SIZE,
                env={},
            )

    async def render(self, plan: PodPlan) -> dict[str, bytes]:
        """The files of `plan`. Raises PodError(INTERNAL) when the child fails or takes too long."""
        await self.prepare()
        child, self._child = self._child, None
        if child is None:
            raise PodError.of(Reason.INTERNAL, "renderer", "no child", "a child")
        try:
            async with asyncio.timeout(RENDER_TIMEOUT / 1000):
                answer, complaint = await child.communicate(encode_plan(plan))
        except TimeoutError:
            raise PodError.of(Reason.INTERNAL, "renderer", "silence", f"{RENDER_TIMEOUT} ms") from None
        finally:
            await _end(child)
        if child.returncode != 0:
            said = complaint.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise PodError.of(Reason.INTERNAL, "renderer", said, "an answer")
        return decode_files(answer)

    async def close(self) -> None:
        """End a child that nobody asked anything."""
        child, self._child = self._child, None
        if child is not None:
            await _end(child)


async def _end(child: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        child.kill()
    await child.wait()
