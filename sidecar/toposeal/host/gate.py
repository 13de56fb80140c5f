"""Carries out what the gate's table says: files, Envoy, probe. The table decides; nothing here does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from toposeal.dataplane.envoy_closed import closed
from toposeal.dataplane.envoy_plan import PodPlan, plan
from toposeal.dataplane.envoy_secrets import secret_versions
from toposeal.dataplane.layout import ENVOY_LAYOUT
from toposeal.dataplane.metrics import Counted
from toposeal.dataplane.view import PodView
from toposeal.errors import Mismatch, PodError, Reason, ToposealError
from toposeal.gate.machine import Effect, Event, State, step
from toposeal.gate.restarts import Ends, after_end
from toposeal.host import journal
from toposeal.host.envoy import CLUSTERS, LISTENERS, Envoy, Stats
from toposeal.host.journal import clock_ms
from toposeal.host.probe import Probe
from toposeal.host.renderer import Renderer
from toposeal.host.tasks import watched
from toposeal.host.xds_files import XdsDirectory

# What the gate opens with now: the view, and fresh secrets as envoy_secrets makes them.
Contents = Callable[[], tuple[PodView, Mapping[str, bytes]]]


@dataclass(frozen=True)
class GateParts:
    """What a gate is made of; all of it belongs to one pod."""

    directory: XdsDirectory
    start_envoy: Callable[[], Awaitable[Envoy]]
    renderer: Renderer
    probe: Probe


@dataclass
class _Update:
    """What is on its way to Envoy. A rotation has secrets alone, a change of hosts none."""

    plan: PodPlan | None
    secrets: Mapping[str, bytes] = field(repr=False)
    files: Mapping[str, bytes] = field(default_factory=dict)
    before: Stats = field(default_factory=dict)

    def versions(self) -> dict[str, str]:
        found = {f"sds.{name}": version for name, version in secret_versions(self.secrets).items()}
        return found if self.plan is None else found | dict.fromkeys((LISTENERS, CLUSTERS), self.plan.version)


class Gate:
    """`start`, then `open` once, `rotate` and `update` whenever leaves or hosts outside change, `fence` at
    the end. An Envoy that ends meanwhile is replaced, and whoever calls waits for that.

    `on_fault` is called once, with the reason, if the gate fences itself: Envoy is dead then, and its
    directory holds the closed files. `fence` may be called while another call is under way.
    """

    def __init__(self, parts: GateParts, on_fault: Callable[[Mismatch], None]) -> None:
        self._parts, self._on_fault = parts, on_fault
        self._state = State.CLOSED
        self._envoy: Envoy | None = None
        self._watch: asyncio.Task[None] | None = None
        self._update = _Update(None, {})
        self._fault: ToposealError | None = None
        self._one_at_a_time = asyncio.Lock()
        self._contents: Contents | None = None
        self._ends: Ends = ()
        self._pause_ms = 0

    @property
    def state(self) -> State:
        return self._state

    async def counted(self) -> Counted:
        """What Envoy has counted. Raises PodError."""
        return await self._running().counted()

    async def start(self) -> None:
        """Write the closed files and start Envoy with them. Raises PodError; the gate is fenced then."""
        try:
            self._parts.directory.reset(closed(ENVOY_LAYOUT))
            self._envoy = await self._parts.start_envoy()
        except ToposealError as error:
            await self._failed(error)
            raise
        self._watch = watched(self._watch_envoys())

    async def open(self, contents: Contents) -> None:
        """From the active manifest to the first connection through it. `contents` is asked now, and again
        for each Envoy that has to be replaced. Raises ToposealError; the gate is fenced then.
        """
        async with self._one_at_a_time:
            self._contents = contents
            await self._carry(_opened(contents), Event.SEALED)
            if self._state is not State.OPEN:
                raise self._reason()

    async def rotate(self, secrets: Mapping[str, bytes]) -> None:
        """New leaves, without cutting a connection. Raises ToposealError; unless the gate is fenced,
        the old leaves serve on.
        """
        await self._change(_Update(None, secrets), Event.LEAF_DUE)

    async def update(self, view: PodView) -> None:
        """The same mesh with other addresses of hosts outside, without cutting a connection. Raises as
        `rotate`; the old addresses serve on then.
        """
        await self._change(_Update(plan(view), {}), Event.HOSTS_CHANGED)

    async def fence(self) -> None:
        """Close for good: Envoy killed, keys removed, closed files back. No other is started any more."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait({self._watch})
        await self._advance(Event.FENCE)
        await self._parts.renderer.close()
        await self._parts.probe.close()

    async def _change(self, update: _Update, event: Event) -> None:
        async with self._one_at_a_time:
            if self._state is State.OPEN:
                self._fault = None
            await self._carry(update, event)
            if self._fault is not None or self._state is not State.OPEN:
                raise self._reason()

    async def _carry(self, update: _Update, event: Event) -> None:
        """Afterwards the keys are in Envoy's files and no longer here."""
        self._update = update
        try:
            await self._advance(event)
        finally:
            self._update = _Update(None, {})

    async def _advance(self, event: Event) -> None:
        self._state, effects = step(self._state, event)
        for effect in effects:
            following = await self._perform(effect)
            if following is not None:
                await self._advance(following)

    async def _perform(self, effect: Effect) -> Event | None:
        """Do it, and say what has happened; None where nothing follows."""
        perform: Mapping[Effect, Callable[[], Awaitable[Event | None]]] = {
            Effect.RENDER: self._render,
            Effect.WRITE: self._write,
            Effect.AWAIT_ACKNOWLEDGEMENT: self._await_acknowledgement,
            Effect.PROBE: self._probe,
            Effect.ROTATE: self._rotate,
            Effect.UPDATE: self._rotate,
            Effect.KILL_ENVOY: self._kill_envoy,
            Effect.WRITE_CLOSED: self._write_closed,
            Effect.RESTART: self._restart,
            Effect.REPORT: self._report,
        }
        if effect not in perform:  # ANNOUNCE and ALARM: the caller of `open` or `rotate` learns it
            return None
        try:
            return await perform[effect]()
        except ToposealError as error:
            self._fault = self._fault or error
            return Event.FAILED

    async def _render(self) -> Event:
        if self._update.plan is not None:
            self._update.files = await self._parts.renderer.render(self._update.plan)
        return Event.RENDERED

    async def _write(self) -> Event:
        self._update.before = await self._running().stats()
        self._parts.directory.write({**self._update.secrets, **self._update.files})
        return Event.WRITTEN

    async def _await_acknowledgement(self) -> Event:
        await self._running().acknowledged(self._update.before, self._update.versions())
        return Event.ACKNOWLEDGED

    async def _probe(self) -> Event:
        await self._parts.probe.ask()
        return Event.PROBED

    async def _rotate(self) -> Event:
        await self._render()
        await self._write()
        return await self._await_acknowledgement()

    async def _kill_envoy(self) -> None:
        if self._envoy is not None:
            await self._envoy.kill()

    async def _write_closed(self) -> None:
        """Without room for them the directory is empty, and no Envoy is left to read it."""
        with suppress(PodError):
            self._parts.directory.reset(closed(ENVOY_LAYOUT))

    async def _report(self) -> None:
        self._on_fault(self._reason().mismatches[0])

    async def _watch_envoys(self) -> None:
        """Whatever is under way when one ends has failed by itself before another is started."""
        while self._envoy is not None and self._state is not State.FENCED:
            how = await self._envoy.ended()
            async with self._one_at_a_time:
                await self._ended(how)

    async def _ended(self, how: str) -> None:
        if self._state is State.FENCED:
            return
        self._ends, pause_ms = after_end(self._ends, clock_ms())
        found = f"{how}, {len(self._ends)} in an hour"
        self._fault = PodError.of(Reason.ENVOY_FAILED, "envoy", found, "running as long as the daemon")
        if pause_ms is None:
            await self._advance(Event.ENVOY_SPENT)
            return
        self._pause_ms = pause_ms
        await self._carry(_Update(None, {}), Event.ENVOY_EXITED)
        if self._state is State.OPEN:
            journal.event("gate", state=self._state.value, restarts=len(self._ends))

    async def _restart(self) -> Event:
        """Only an open gate is restarted, so there are contents."""
        journal.mismatch("alarm", self._reason().mismatches[0])
        journal.event("gate", state=self._state.value, pause_ms=self._pause_ms)
        await asyncio.sleep(self._pause_ms / 1000)
        self._fault = None
        self._envoy = await self._parts.start_envoy()
        if self._contents is not None:
            self._update = _opened(self._contents)
        return Event.RESTARTED

    async def _failed(self, error: ToposealError) -> None:
        self._fault = error
        await self._advance(Event.FAILED)

    def _running(self) -> Envoy:
        if self._envoy is None:
            raise PodError.of(Reason.ENVOY_FAILED, "envoy", "not started", "running")
        return self._envoy

    def _reason(self) -> ToposealError:
        return self._fault or PodError.of(Reason.INTERNAL, "gate", self._state.value, State.OPEN.value)


def _opened(contents: Contents) -> _Update:
    view, secrets = contents()
    return _Update(plan(view), secrets)
