"""The gate of one pod as one table: what has to be true before its network opens. No IO.

Nothing is offered before it is rendered, nothing counts before Envoy says that it runs it,
and the gate is open only when a connection has been made through it. What fails on the way closes
the pod for good: there is no way out of FENCED. An Envoy that ends while the gate is open is started
again, closed, and goes the same way (docs/adr/0018); how often, `gate.restarts` says.

A change that only adds may fail: what served before serves on. One that takes trust away may not, and is over
only when the connections of whoever has gone are cut (docs/adr/0025). A suspended gate is closed and opens
by RESUME alone, by the whole way again.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from toposeal.errors import LocalProtocolError, Reason


class State(StrEnum):
    CLOSED = "closed"  # Envoy runs, with the closed configuration
    RENDERING = "rendering"
    WRITING = "writing"
    ACKING = "acking"  # Envoy has been offered what was rendered
    PROBING = "probing"  # Envoy runs it
    OPEN = "open"
    ROTATING = "rotating"  # open, with new leaves written
    UPDATING = "updating"  # open, with other addresses of hosts outside, or more members, written
    REMOVING = "removing"  # open, with fewer members, or less that they may do, written
    CUTTING = "cutting"  # open, and Envoy runs it
    RESTARTING = "restarting"  # no Envoy runs, and no key is kept for it
    SUSPENDING = "suspending"  # the closed configuration written, and no key is kept for Envoy
    SUSPENDED = "suspended"  # Envoy runs it, or none runs
    REPLACING = "replacing"  # suspended, and no Envoy runs
    FENCED = "fenced"

    @property
    def serves(self) -> bool:
        """Whether Envoy carries the pod's connections."""
        return self in {State.OPEN, State.ROTATING, State.UPDATING, State.REMOVING, State.CUTTING}


class Event(StrEnum):
    SEALED = "sealed"  # the manifest is active
    RENDERED = "rendered"
    WRITTEN = "written"
    ACKNOWLEDGED = "acknowledged"
    PROBED = "probed"
    LEAF_DUE = "leaf_due"
    HOSTS_CHANGED = "hosts_changed"  # hosts outside have other addresses
    MEMBERS_CHANGED = "members_changed"  # a later manifest is active, and takes nothing away
    TRUST_REMOVED = "trust_removed"  # a later manifest is active, without something that Envoy lets through
    CUT = "cut"  # no connection of a member that has gone is left
    SUSPEND = "suspend"  # the pod may not serve now
    RESUME = "resume"
    FAILED = "failed"  # whatever was under way
    ENVOY_EXITED = "envoy_exited"  # by itself, by a signal, or killed because it was silent
    ENVOY_SPENT = "envoy_spent"  # the same, once more than it may be started again
    RESTARTED = "restarted"  # another Envoy runs, with the closed configuration
    FENCE = "fence"  # the daemon ends, for whatever reason


class Effect(StrEnum):
    RENDER = "render"
    WRITE = "write"  # secrets, then clusters, then listeners
    AWAIT_ACKNOWLEDGEMENT = "await_acknowledgement"
    PROBE = "probe"
    ANNOUNCE = "announce"  # the pod's network is open
    ROTATE = "rotate"  # write the new secrets and await their acknowledgement
    UPDATE = "update"  # render and write what has changed and await its acknowledgement
    CUT = "cut"  # the connections of members that have gone
    CLOSE = "close"  # forget the keys, write the closed configuration and await its acknowledgement
    ALARM = "alarm"  # the old leaves, members or addresses still serve; or Envoy would not close, and is dead
    WRITE_CLOSED = "write_closed"
    RESTART = "restart"  # after a pause; with fresh leaves at hand for what follows
    KILL_ENVOY = "kill_envoy"
    REPORT = "report"  # the fault, to whoever ends the pod


Step = tuple[State, tuple[Effect, ...]]

_FAULT: Step = (State.FENCED, (Effect.KILL_ENVOY, Effect.WRITE_CLOSED, Effect.REPORT))
_END: Step = (State.FENCED, (Effect.KILL_ENVOY, Effect.WRITE_CLOSED))
_FAULTS: Mapping[Event, Step] = {
    Event.ENVOY_EXITED: _FAULT,
    Event.ENVOY_SPENT: _FAULT,
    Event.FENCE: _END,
}
_CHANGE: Mapping[Event, Step] = {
    Event.ACKNOWLEDGED: (State.OPEN, ()),
    Event.FAILED: (State.OPEN, (Effect.ALARM,)),
}
_OPENING: Mapping[Event, Step] = {**_FAULTS, Event.FAILED: _FAULT}
_CHANGES = (Event.LEAF_DUE, Event.HOSTS_CHANGED, Event.MEMBERS_CHANGED, Event.TRUST_REMOVED)

TRANSITIONS: Mapping[State, Mapping[Event, Step]] = MappingProxyType(
    {
        State.CLOSED: {**_OPENING, Event.SEALED: (State.RENDERING, (Effect.RENDER,))},
        State.RENDERING: {**_OPENING, Event.RENDERED: (State.WRITING, (Effect.WRITE,))},
        State.WRITING: {**_OPENING, Event.WRITTEN: (State.ACKING, (Effect.AWAIT_ACKNOWLEDGEMENT,))},
        State.ACKING: {**_OPENING, Event.ACKNOWLEDGED: (State.PROBING, (Effect.PROBE,))},
        State.PROBING: {**_OPENING, Event.PROBED: (State.OPEN, (Effect.ANNOUNCE,))},
        State.OPEN: {
            **_FAULTS,
            Event.ENVOY_EXITED: (State.RESTARTING, (Effect.WRITE_CLOSED, Effect.RESTART)),
            Event.LEAF_DUE: (State.ROTATING, (Effect.ROTATE,)),
            Event.HOSTS_CHANGED: (State.UPDATING, (Effect.UPDATE,)),
            Event.MEMBERS_CHANGED: (State.UPDATING, (Effect.UPDATE,)),
            Event.TRUST_REMOVED: (State.REMOVING, (Effect.UPDATE,)),
            Event.SUSPEND: (State.SUSPENDING, (Effect.CLOSE,)),
        },
        State.ROTATING: {**_FAULTS, **_CHANGE},
        State.UPDATING: {**_FAULTS, **_CHANGE},
        State.REMOVING: {**_OPENING, Event.ACKNOWLEDGED: (State.CUTTING, (Effect.CUT,))},
        State.CUTTING: {**_OPENING, Event.CUT: (State.OPEN, ())},
        State.RESTARTING: {
            **_OPENING,
            Event.RESTARTED: (State.RENDERING, (Effect.RENDER,)),
            Event.SUSPEND: (State.SUSPENDED, ()),
        },
        State.SUSPENDING: {
            **_FAULTS,
            Event.ACKNOWLEDGED: (State.SUSPENDED, ()),
            Event.FAILED: (State.SUSPENDED, (Effect.KILL_ENVOY, Effect.WRITE_CLOSED, Effect.ALARM)),
        },
        State.SUSPENDED: {
            **_FAULTS,
            # Whatever has changed meanwhile is what it resumes with.
            **dict.fromkeys((*_CHANGES, Event.SUSPEND), (State.SUSPENDED, ())),
            Event.ENVOY_EXITED: (State.REPLACING, (Effect.WRITE_CLOSED, Effect.RESTART)),
            Event.RESUME: (State.RENDERING, (Effect.RENDER,)),
        },
        State.REPLACING: {**_OPENING, Event.RESTARTED: (State.SUSPENDED, ())},
        # What was under way when the pod was fenced may still report.
        State.FENCED: dict.fromkeys(Event, (State.FENCED, ())),
    }
)


def step(state: State, event: Event) -> Step:
    """The next state and what to do, in order. Raises LocalProtocolError for an event out of place."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise LocalProtocolError.of(
            Reason.ILLEGAL_EVENT, f"gate.{state.value}", event.value, ", ".join(TRANSITIONS[state])
        ) from None
