"""The gate's table: one way to OPEN, every failure on it fences, nothing leaves FENCED."""

from __future__ import annotations

import itertools

import pytest

from toposeal.errors import LocalProtocolError, Reason
from toposeal.gate.machine import TRANSITIONS, Effect, Event, State, step

WAY = [
    (Event.SEALED, State.RENDERING, Effect.RENDER),
    (Event.RENDERED, State.WRITING, Effect.WRITE),
    (Event.WRITTEN, State.ACKING, Effect.AWAIT_ACKNOWLEDGEMENT),
    (Event.ACKNOWLEDGED, State.PROBING, Effect.PROBE),
    (Event.PROBED, State.OPEN, Effect.ANNOUNCE),
]
OPENING = [State.CLOSED, State.RENDERING, State.WRITING, State.ACKING, State.PROBING]
CHANGING = (State.ROTATING, State.UPDATING)
FENCING = (Effect.KILL_ENVOY, Effect.WRITE_CLOSED, Effect.REPORT)


def test_the_way_to_open() -> None:
    state = State.CLOSED
    for event, following, effect in WAY:
        state, effects = step(state, event)
        assert (state, effects) == (following, (effect,))


@pytest.mark.parametrize("state", OPENING)
def test_a_failure_on_the_way_kills_envoy_first_and_fences(state: State) -> None:
    assert step(state, Event.FAILED) == (State.FENCED, FENCING)


@pytest.mark.parametrize("state", [*OPENING, *CHANGING, State.RESTARTING])
def test_D7_envoys_end_fences_wherever_the_gate_is_not_simply_open(state: State) -> None:
    assert step(state, Event.ENVOY_EXITED) == (State.FENCED, FENCING)


def test_D7_fault_16_an_open_gate_takes_the_keys_away_first_and_goes_the_whole_way_again() -> None:
    assert step(State.OPEN, Event.ENVOY_EXITED) == (
        State.RESTARTING,
        (Effect.WRITE_CLOSED, Effect.RESTART),
    )
    state, effects = step(State.RESTARTING, Event.RESTARTED)
    assert (state, effects) == (WAY[0][1], (WAY[0][2],))


@pytest.mark.parametrize("state", [*OPENING, State.OPEN, *CHANGING, State.RESTARTING])
def test_D7_fault_16_one_end_too_many_fences_from_anywhere(state: State) -> None:
    assert step(state, Event.ENVOY_SPENT) == (State.FENCED, FENCING)


def test_D7_fault_16_nothing_but_envoys_end_starts_another_and_what_fails_then_fences() -> None:
    """A refused update never does."""
    entries = {(s, e) for s in State for e, to in TRANSITIONS[s].items() if to[0] is State.RESTARTING}
    assert entries == {(State.OPEN, Event.ENVOY_EXITED)}
    assert step(State.RESTARTING, Event.FAILED) == (State.FENCED, FENCING)


@pytest.mark.parametrize("state", [*OPENING, State.OPEN, *CHANGING, State.RESTARTING])
def test_the_daemons_end_closes_without_a_report(state: State) -> None:
    assert step(state, Event.FENCE) == (State.FENCED, FENCING[:2])


def test_a_failed_rotation_leaves_the_gate_open_with_an_alarm() -> None:
    assert step(State.OPEN, Event.LEAF_DUE) == (State.ROTATING, (Effect.ROTATE,))
    assert step(State.ROTATING, Event.ACKNOWLEDGED) == (State.OPEN, ())
    assert step(State.ROTATING, Event.FAILED) == (State.OPEN, (Effect.ALARM,))


def test_a_failed_change_of_hosts_leaves_the_gate_open_with_an_alarm() -> None:
    assert step(State.OPEN, Event.HOSTS_CHANGED) == (State.UPDATING, (Effect.UPDATE,))
    assert step(State.UPDATING, Event.ACKNOWLEDGED) == (State.OPEN, ())
    assert step(State.UPDATING, Event.FAILED) == (State.OPEN, (Effect.ALARM,))


def test_nothing_leaves_fenced() -> None:
    assert {step(State.FENCED, event) for event in Event} == {(State.FENCED, ())}


def test_open_is_reached_by_a_probe_alone() -> None:
    """Whatever the order of events: before OPEN stands PROBING, before that an acknowledgement."""
    for state, event in itertools.product(State, Event):
        following = TRANSITIONS[state].get(event)
        if following is not None and following[0] is State.OPEN:
            assert (state, event) == (State.PROBING, Event.PROBED) or state in CHANGING
        if following is not None and following[0] in (*CHANGING, State.RESTARTING):
            assert state is State.OPEN


def test_every_other_event_is_illegal() -> None:
    illegal = [(s, e) for s, e in itertools.product(State, Event) if e not in TRANSITIONS[s]]
    assert (State.CLOSED, Event.PROBED) in illegal
    assert (State.RENDERING, Event.SEALED) in illegal
    for state, event in illegal:
        with pytest.raises(LocalProtocolError) as caught:
            step(state, event)
        assert caught.value.reason is Reason.ILLEGAL_EVENT
