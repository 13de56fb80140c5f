"""Carries out what the gate's table says, with Envoy and the probe. The table decides; nothing here does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from toposeal.dataplane.discovery import Update
from toposeal.dataplane.envoy_closed import CLOSED, bootstrap
from toposeal.dataplane.envoy_plan import PodPlan, plan
from toposeal.dataplane.layout import ENVOY_LAYOUT
from toposeal.dataplane.metrics import Counted
from toposeal.dataplane.reach import Reach
from toposeal.dataplane.view import PodView
from toposeal.errors import Mismatch, PodError, Reason, ToposealError
from toposeal.gate.machine import Effect, Event, State, step
from toposeal.gate.restarts import Ends, after_end
from toposeal.host import journal
from toposeal.host.discovery_server import DiscoveryServer
from toposeal.host.envoy import Envoy
from toposeal.host.journal import clock_ms
from toposeal.host.probe import Probe
from toposeal.host.renderer import Renderer
from toposeal.host.tasks import watched
from toposeal.host.xds_files import XdsDirectory

Leaves = Callable[[], Update]  # new ones, as envoy_secrets makes them; asked when Envoy is about to have them
# What the gate opens with now: the view, and leaves; None if it may not.
Contents = Callable[[], tuple[PodView, Leaves] | None]


@dataclass(frozen=True)
class GateParts:
    """What a gate is made of; all of it belongs to one pod."""

    directory: XdsDirectory
    discovery: DiscoveryServer
    start_envoy: Callable[[], Awaitable[Envoy]]
    renderer: Renderer
    probe: Probe
    cut: Callable[[Collection[str]], object]  # every connection of Envoy's to and from these addresses


@dataclass
class _Change:
    """What is on its way to Envoy. A rotation has leaves alone, a change of hosts or members none."""

    view: PodView | None = None
    plan: PodPlan | None = None
    leaves: Leaves = dict
    rendered: Update = field(default_factory=dict)


class Gate:
    """`start`, then `open` once; `rotate`, `update` and `change_members` whenever leaves, hosts outside or
    members change; `suspend` and `resume`; `fence` at the end. An Envoy that ends meanwhile is replaced, and
    whoever calls waits for that. A change of a suspended gate is none: what it resumes with has it.

    `on_fault` is called once, with the reason, if the gate fences itself: Envoy is dead then, and no
    configuration is left to give another. `fence` may be called while another call is under way.
    """

    def __init__(self, parts: GateParts, on_fault: Callable[[Mismatch], None]) -> None:
        self._parts, self._on_fault = parts, on_fault
        self._state = State.CLOSED
        self._envoy: Envoy | None = None
        self._watch: asyncio.Task[None] | None = None
        self._under_way = _Change()
        self._reach = Reach()  # of the Envoy that runs
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
        """Start Envoy with the closed configuration. Raises PodError; the gate is fenced then."""
        try:
            await self._start_closed()
        except ToposealError as error:
            await self._failed(error)
            raise
        self._watch = watched(self._watch_envoys())

    async def open(self, contents: Contents) -> None:
        """From the active manifest to the first connection through it. `contents` is asked now, at `resume`,
        and again for each Envoy that has to be replaced. Raises ToposealError; the gate is fenced then.
        """
        async with self._one_at_a_time:
            self._contents = contents
            await self._open(Event.SEALED)

    async def expect(self, view: PodView) -> None:
        """What takes long is done now for views of this frame. A failure is seen again when it matters."""
        with suppress(ToposealError):
            await self._parts.renderer.learn(plan(view).frame)

    async def rotate(self, leaves: Leaves) -> None:
        """New leaves, without cutting a connection. Raises ToposealError; unless the gate is fenced,
        the old leaves serve on.
        """
        await self._change(_Change(leaves=leaves), Event.LEAF_DUE)

    async def update(self, view: PodView) -> None:
        """The same mesh with other addresses of hosts outside, without cutting a connection. Raises as
        `rotate`; the old addresses serve on then.
        """
        await self._change(_Change(view, plan(view)), Event.HOSTS_CHANGED)

    async def change_members(self, view: PodView) -> None:
        """The view of a later manifest, without cutting a connection of a member that stays. Afterwards there
        is none with one that is gone. Raises as `rotate`; what takes trust away and fails fences.
        """
        await self._change(_Change(view, plan(view)), Event.MEMBERS_CHANGED)

    async def suspend(self) -> None:
        """Every connection cut, no key left to serve. Raises ToposealError; unless the gate is fenced, it is
        suspended all the same: by Envoy's end.
        """
        await self._change(_Change(), Event.SUSPEND)

    async def resume(self) -> None:
        """The whole way to open again. Raises ToposealError; the gate is fenced then."""
        async with self._one_at_a_time:
            await self._open(Event.RESUME)

    async def fence(self) -> None:
        """Close for good: Envoy killed, keys forgotten, nothing left to serve; no other is started."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait({self._watch})
        await self._advance(Event.FENCE)
        await self._parts.renderer.close()
        await self._parts.probe.close()

    async def _open(self, event: Event) -> None:
        """Nothing, where the contents are withheld by now. Raises ToposealError; the gate is fenced then."""
        change = self._opened()
        if change is not None:
            self._forgive()
            await self._carry(change, event)
        if self._state is State.FENCED:
            raise self._reason()

    async def _change(self, change: _Change, event: Event) -> None:
        async with self._one_at_a_time:
            if event is Event.MEMBERS_CHANGED and change.view and self._reach.loses(change.view):
                event = Event.TRUST_REMOVED
            self._forgive()
            await self._carry(change, event)
            if self._fault is not None or self._state not in (State.OPEN, State.SUSPENDED):
                raise self._reason()

    def _forgive(self) -> None:
        """What fails from now on is another fault than what did before; but for the one that fenced."""
        if self._state is not State.FENCED:
            self._fault = None

    async def _carry(self, change: _Change, event: Event) -> None:
        self._under_way = change
        try:
            await self._advance(event)
        finally:
            self._under_way = _Change()

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
            Effect.CUT: self._cut,
            Effect.CLOSE: self._close,
            Effect.KILL_ENVOY: self._kill_envoy,
            Effect.WRITE_CLOSED: self._write_closed,
            Effect.RESTART: self._restart,
            Effect.ANNOUNCE: self._announce,
            Effect.REPORT: self._report,
        }
        if effect not in perform:  # ALARM: whoever called learns it
            return None
        try:
            return await perform[effect]()
        except ToposealError as error:
            self._fault = self._fault or error
            return Event.FAILED

    async def _start_closed(self) -> None:
        self._parts.directory.reset(bootstrap(ENVOY_LAYOUT))
        self._parts.discovery.reset(CLOSED)
        self._reach = Reach()
        self._envoy = await self._parts.start_envoy()
        await self._envoy.settled(self._parts.discovery.acknowledged())

    async def _render(self) -> Event:
        if self._under_way.plan is not None:
            self._under_way.rendered = await self._parts.renderer.render(self._under_way.plan)
        return Event.RENDERED

    async def _write(self) -> Event:
        if self._under_way.view is not None:
            self._reach = self._reach.widened(self._under_way.view)
        self._parts.discovery.offer({**self._under_way.leaves(), **self._under_way.rendered})
        return Event.WRITTEN

    async def _await_acknowledgement(self) -> Event:
        await self._running().settled(self._parts.discovery.acknowledged())
        return Event.ACKNOWLEDGED

    async def _probe(self) -> Event:
        await self._parts.probe.ask()
        return Event.PROBED

    async def _rotate(self) -> Event:
        await self._render()
        await self._write()
        return await self._await_acknowledgement()

    async def _cut(self) -> Event:
        """Envoy's main thread has acknowledged. Its worker runs the update when it has carried a connection
        that was made after that, and may connect to whoever has gone until then: so twice. The probe need not
        come through: a refused one has been carried too, and a worker that stands still connects to nobody.
        """
        view = self._under_way.view
        if view is not None and (gone := self._reach.gone(view)):
            self._parts.cut(gone)
            with suppress(PodError):
                await self._parts.probe.ask()
            self._parts.cut(gone)
        if view is not None:
            self._reach = self._reach.narrowed(view)
        return Event.CUT

    async def _close(self) -> Event:
        """With their chains Envoy cuts the connections."""
        with suppress(PodError):
            self._parts.directory.mark_closed()
        self._parts.discovery.offer_alone(CLOSED)
        await self._await_acknowledgement()
        self._reach = Reach()
        return Event.ACKNOWLEDGED

    async def _kill_envoy(self) -> None:
        if self._envoy is not None:
            await self._envoy.kill()

    async def _write_closed(self) -> None:
        """No Envoy is left to be served, so there is nothing to serve: keys are forgotten."""
        self._parts.discovery.reset({})
        with suppress(PodError):
            self._parts.directory.mark_closed()

    async def _announce(self) -> None:
        """The caller of `open` learns it by itself; nothing depends on the mark."""
        with suppress(PodError):
            self._parts.directory.mark_open()

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
        await self._carry(_Change(), Event.ENVOY_EXITED)
        if self._state in (State.OPEN, State.SUSPENDED):
            journal.event("gate", state=self._state.value, restarts=len(self._ends))

    async def _restart(self) -> Event:
        """A suspended gate stays so, and one whose contents are withheld by now becomes it."""
        journal.mismatch("alarm", self._reason().mismatches[0])
        journal.event("gate", state=self._state.value, pause_ms=self._pause_ms)
        await asyncio.sleep(self._pause_ms / 1000)
        self._fault = None
        await self._start_closed()
        if self._state is State.RESTARTING:
            change = self._opened()
            if change is None:
                return Event.SUSPEND
            self._under_way = change
        return Event.RESTARTED

    def _opened(self) -> _Change | None:
        """All that the gate opens with now."""
        contents = self._contents() if self._contents is not None else None
        if contents is None:
            return None
        view, leaves = contents
        return _Change(view, plan(view), leaves)

    async def _failed(self, error: ToposealError) -> None:
        self._fault = error
        await self._advance(Event.FAILED)

    def _running(self) -> Envoy:
        if self._envoy is None:
            raise PodError.of(Reason.ENVOY_FAILED, "envoy", "not started", "running")
        return self._envoy

    def _reason(self) -> ToposealError:
        return self._fault or PodError.of(Reason.INTERNAL, "gate", self._state.value, State.OPEN.value)
