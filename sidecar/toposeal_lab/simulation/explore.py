"""Every order of what can happen in a small scope of the shipped state machine, breadth first.

The members of a scope serve their first manifest, or have just met. From there on whatever is held back
(COMMIT and SEALED, in some scopes PROPOSE too) is delivered in any order or never. Besides, as often as the
scope says, time passes for all or at one member alone, a member dies and its successor starts, a member is
cut off and comes back, is told to end, or the owner gives a newer topology, which has no place for one of
them, to any. Once it has, the older one is shown to everybody all the time. All else is said, heard, quoted
and appraised at once. What is found twice is looked at once, and members are compared by what can decide
anything: a nonce of a heartbeat makes no other state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from time import process_time
from typing import Any

from toposeal.membership.state import Fenced
from toposeal.topology.accept import SignedTopology
from toposeal_lab.simulation.keys import symbolic_signatures
from toposeal_lab.simulation.small import (
    PARTING,
    ROLE,
    Message,
    Pod,
    World,
    declared,
    first,
    version_of,
)
from toposeal_lab.simulation.small_keys import pod_key
from toposeal_lab.simulation.violation import Violation

WAIT_MS = 3_500  # longer than a lease and an attempt of a small scope
_PARTING = frozenset({"sealed", "release", "leave"})
_ALL_HELD = frozenset({"propose", "commit", "sealed"})


@dataclass(frozen=True)
class Budget:
    """How much goes wrong in a scope, at most."""

    waits: int = 0  # time passes at all
    lags: int = 0  # or at one member alone
    crashes: int = 0
    cuts: int = 0
    updates: int = 0  # the owner's version 2, given to one member
    leaves: int = 0  # a pod is to end


@dataclass(frozen=True)
class Scope:
    """Where a search starts and what bounds it."""

    name: str
    bounds: tuple[int, int]  # of the one role
    members: int
    budget: Budget
    sealed: bool = True  # the first manifest is active at all; else they have not met
    held: frozenset[str] = frozenset({"commit", "sealed"})
    epochs: int = 2  # no time passes for all once somebody is beyond
    wait_ms: int = WAIT_MS
    parting: bool = False  # the last member is of a role of its own, which version 2 has no more

    @property
    def roles(self) -> tuple[str, ...]:
        return (ROLE,) * (self.members - self.parting) + (PARTING,) * self.parting

    def declared(self, version: int) -> SignedTopology:
        return declared(
            {role: self.bounds for role in sorted(set(self.roles)) if version == 1 or role == ROLE}, version
        )


# What CI looks at: those without an end within their time are cut short, and say so.
SCOPES = (
    Scope("one cut off", (1, 3), 3, Budget(waits=2, cuts=1)),
    Scope("a restart", (1, 4), 3, Budget(waits=2, crashes=1)),
    Scope("a restart, and nobody may be missing", (3, 3), 3, Budget(waits=2, crashes=1)),
    Scope("genesis", (3, 3), 3, Budget(), sealed=False, held=_ALL_HELD, epochs=1),
    Scope("genesis and a restart", (2, 3), 3, Budget(waits=1, crashes=1), sealed=False, epochs=1),
    Scope(
        "an update, one cut off", (1, 3), 3, Budget(waits=2, cuts=1, updates=1), wait_ms=1_500, parting=True
    ),
    Scope(
        "an update and a restart", (1, 3), 3, Budget(waits=3, crashes=1, updates=1), wait_ms=500, parting=True
    ),
    Scope("an update amid a genesis", (1, 3), 3, Budget(updates=1), sealed=False, epochs=1, parting=True),
    Scope(
        "the last but one leaves, one cut off",
        (1, 2),
        2,
        Budget(waits=4, lags=1, cuts=1, leaves=2),
        held=_PARTING,
        epochs=4,
        wait_ms=400,
    ),
    Scope(
        "the last but one leaves, and a restart",
        (1, 2),
        2,
        Budget(waits=5, crashes=1, leaves=2),
        held=_PARTING,
        epochs=4,
        wait_ms=400,
    ),
    Scope("a restart, one cut off", (1, 4), 3, Budget(waits=2, crashes=1, cuts=1)),
    Scope("one whose time runs ahead", (1, 3), 3, Budget(waits=1, lags=1, cuts=1)),
    Scope("four, one cut off", (1, 4), 4, Budget(waits=2, cuts=1)),
)


@dataclass(frozen=True)
class State:
    world: World
    budget: Budget


@dataclass
class Found:
    """What a search has seen."""

    scope: Scope
    states: int = 0
    steps: int = 0
    depth: int = 0
    seconds: float = 0.0  # of CPU time
    complete: bool = False  # nothing within the bounds is left
    manifests: int = 0  # active ones, of all states together
    versions: frozenset[int] = frozenset()  # of topologies, that those are under
    violation: Violation | None = None
    path: list[str] = field(default_factory=list)  # to the violation

    def line(self) -> str:
        """For people: the bounds, and what was seen within them."""
        bound, budget = self.scope, self.scope.budget
        end = "all" if self.complete else "cut short: not all"
        return (
            f"{bound.name}: {bound.members} members, {budget.crashes} restarts, {budget.waits} waits of all, "
            f"{budget.lags} of one, {budget.cuts} cuts, {budget.updates} updates, {budget.leaves} leave, "
            f"epochs up to {bound.epochs}: "
            f"{self.states} states ({end}), {self.steps} steps, depth {self.depth}, "
            f"{self.manifests} active manifests"
        )


def explore(scope: Scope, seconds: float) -> Found:
    """All states of `scope`, or as many as `seconds` of CPU time allow; ends at the first violation."""
    start, found = process_time(), Found(scope)
    with symbolic_signatures():
        _search(found, start + seconds)
    found.seconds = process_time() - start
    return found


def _search(found: Found, end: float) -> None:
    scope = found.scope
    trail: Trail = None
    active: set[bytes] = set()
    try:
        root = State(first(scope.declared(1), scope.roles, scope.sealed, scope.held), scope.budget)
        seen = {_key(root)}
        queue: deque[tuple[State, int, Trail]] = deque([(root, 0, None)])
        while queue and process_time() < end:
            state, found.depth, before = queue.popleft()
            found.states += 1
            active |= state.world.facts.active
            for name, action in _actions(scope, state):
                found.steps, trail = found.steps + 1, (before, name)
                after = action()
                key = _key(after)
                if key not in seen:
                    seen.add(key)
                    queue.append((after, found.depth + 1, trail))
        found.complete, found.manifests = not queue, len(active)
        found.versions = frozenset(version_of(d) for d in active)
    except Violation as violation:
        found.violation, found.path = violation, _path(trail)


Trail = tuple[Any, str] | None  # how a state was come to: the trail before, and the last action
Action = Callable[[], State]


def _path(trail: Trail) -> list[str]:
    names: list[str] = []
    while trail is not None:
        trail, name = trail
        names.append(name)
    return names[::-1]


def _actions(scope: Scope, state: State) -> Iterator[tuple[str, Action]]:
    world, budget = state.world, state.budget
    for message in sorted(world.held):
        if world.reaches(message.source, message.target):
            yield f"{message.kind} of {message.source} at {message.target}", partial(_deliver, state, message)
    for pod in world.pods:
        if not pod.alive:
            continue
        if budget.lags:
            yield f"time passes at {pod.index}", partial(_lag, state, pod.index)
        if budget.crashes:
            yield f"{pod.index} dies and comes back", partial(_crash, state, pod.index)
        if budget.updates:
            yield f"version 2 at {pod.index}", partial(_update, scope, state, pod.index)
        elif scope.budget.updates:
            yield f"version 1 again at {pod.index}", partial(_show_again, state, pod.index)
        if budget.leaves and not pod.member.leaving:
            yield f"{pod.index} is to end", partial(_leave, state, pod.index)
        if budget.cuts and world.alone is None:
            yield f"{pod.index} is cut off", partial(_cut, state, pod.index)
    if budget.waits and all(pod.member.last_epoch <= scope.epochs for pod in world.pods):
        yield "time passes", partial(_wait, scope, state)
    if world.alone is not None:
        yield f"{world.alone} is back", partial(_heal, state)


def _deliver(state: State, message: Message) -> State:
    return replace(state, world=state.world.deliver(message))


def _wait(scope: Scope, state: State) -> State:
    budget, living = replace(state.budget, waits=state.budget.waits - 1), state.world.living
    return State(state.world.wait(living, scope.wait_ms), budget)


def _lag(state: State, index: int) -> State:
    budget = replace(state.budget, lags=state.budget.lags - 1)
    return State(state.world.wait([index], WAIT_MS), budget)


def _crash(state: State, index: int) -> State:
    budget = replace(state.budget, crashes=state.budget.crashes - 1)
    return State(state.world.restart(index), budget)


def _leave(state: State, index: int) -> State:
    budget = replace(state.budget, leaves=state.budget.leaves - 1)
    return State(state.world.leave(index), budget)


def _update(scope: Scope, state: State, index: int) -> State:
    budget = replace(state.budget, updates=state.budget.updates - 1)
    return State(state.world.show(index, scope.declared(2)), budget)


def _show_again(state: State, index: int) -> State:
    """Whoever knows it still, or a newer one, is as before."""
    return replace(state, world=state.world.show(index, state.world.signed))


def _cut(state: State, index: int) -> State:
    budget = replace(state.budget, cuts=state.budget.cuts - 1)
    return State(replace(state.world, alone=index), budget)


def _heal(state: State) -> State:
    return replace(state, world=replace(state.world, alone=None))


def _key(state: State) -> int:
    pods: tuple[Pod, ...] = state.world.pods
    members = tuple(None if isinstance(p.member.phase, Fenced) or not p.alive else pod_key(p) for p in pods)
    return hash((members, state.world.held, state.world.alone, state.budget, state.world.facts))
