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
REMOVING = (State.REMOVING, State.CUTTING)
SUSPENDED = (State.SUSPENDING, State.SUSPENDED, State.REPLACING)
LIVING = (*OPENING, State.OPEN, *CHANGING, *REMOVING, State.RESTARTING, *SUSPENDED)
FENCING = (Effect.KILL_ENVOY, Effect.WRITE_CLOSED, Effect.REPORT)


def entries(into: State) -> set[tuple[State, Event]]:
    """Whatever leads there from another state."""
    return {(s, e) for s in State if s is not into for e, to in TRANSITIONS[s].items() if to[0] is into}


def test_it_serves_from_open_on_while_it_changes() -> None:
    assert {state for state in State if state.serves} == {State.OPEN, *CHANGING, *REMOVING}


def test_the_way_to_open() -> None:
    state = State.CLOSED
    for event, following, effect in WAY:
        state, effects = step(state, event)
        assert (state, effects) == (following, (effect,))


@pytest.mark.parametrize("state", OPENING)
def test_a_failure_on_the_way_kills_envoy_first_and_fences(state: State) -> None:
    assert step(state, Event.FAILED) == (State.FENCED, FENCING)


@pytest.mark.parametrize(
    "state", [*OPENING, *CHANGING, *REMOVING, State.RESTARTING, State.SUSPENDING, State.REPLACING]
)
def test_D7_envoys_end_fences_wherever_the_gate_is_not_simply_open_or_suspended(state: State) -> None:
    assert step(state, Event.ENVOY_EXITED) == (State.FENCED, FENCING)


def test_D7_fault_16_an_open_gate_takes_the_keys_away_first_and_goes_the_whole_way_again() -> None:
    assert step(State.OPEN, Event.ENVOY_EXITED) == (
        State.RESTARTING,
        (Effect.WRITE_CLOSED, Effect.RESTART),
    )
    state, effects = step(State.RESTARTING, Event.RESTARTED)
    assert (state, effects) == (WAY[0][1], (WAY[0][2],))


@pytest.mark.parametrize("state", LIVING)
def test_D7_fault_16_one_end_too_many_fences_from_anywhere(state: State) -> None:
    assert step(state, Event.ENVOY_SPENT) == (State.FENCED, FENCING)


def test_D7_fault_16_nothing_but_envoys_end_starts_another_and_what_fails_then_fences() -> None:
    """A refused update never does."""
    assert entries(State.RESTARTING) == {(State.OPEN, Event.ENVOY_EXITED)}
    assert entries(State.REPLACING) == {(State.SUSPENDED, Event.ENVOY_EXITED)}
    for state in (State.RESTARTING, State.REPLACING):
        assert step(state, Event.FAILED) == (State.FENCED, FENCING)


@pytest.mark.parametrize("state", LIVING)
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


def test_members_that_join_are_an_update_and_a_refused_one_leaves_the_gate_open_with_an_alarm() -> None:
    assert step(State.OPEN, Event.MEMBERS_CHANGED) == (State.UPDATING, (Effect.UPDATE,))


def test_M5_the_gate_is_not_simply_open_before_whoever_has_gone_is_cut() -> None:
    assert step(State.OPEN, Event.TRUST_REMOVED) == (State.REMOVING, (Effect.UPDATE,))
    assert step(State.REMOVING, Event.ACKNOWLEDGED) == (State.CUTTING, (Effect.CUT,))
    assert step(State.CUTTING, Event.CUT) == (State.OPEN, ())


@pytest.mark.parametrize("state", REMOVING)
def test_D7_M5_whatever_fails_while_trust_is_removed_kills_envoy_first_and_fences(state: State) -> None:
    assert step(state, Event.FAILED) == (State.FENCED, FENCING)


def test_a_suspended_gate_has_the_closed_configuration_and_goes_the_whole_way_again() -> None:
    assert step(State.OPEN, Event.SUSPEND) == (State.SUSPENDING, (Effect.CLOSE,))
    assert step(State.SUSPENDING, Event.ACKNOWLEDGED) == (State.SUSPENDED, ())
    assert step(State.SUSPENDED, Event.RESUME) == (WAY[0][1], (WAY[0][2],))


def test_D7_an_envoy_that_does_not_close_is_killed() -> None:
    killed = (Effect.KILL_ENVOY, Effect.WRITE_CLOSED, Effect.ALARM)
    assert step(State.SUSPENDING, Event.FAILED) == (State.SUSPENDED, killed)


def test_D7_fault_16_an_envoy_of_a_suspended_gate_is_replaced_and_stays_closed() -> None:
    assert step(State.SUSPENDED, Event.ENVOY_EXITED) == (
        State.REPLACING,
        (Effect.WRITE_CLOSED, Effect.RESTART),
    )
    assert step(State.REPLACING, Event.RESTARTED) == (State.SUSPENDED, ())
    assert step(State.RESTARTING, Event.SUSPEND) == (State.SUSPENDED, ())


CHANGES = [Event.LEAF_DUE, Event.HOSTS_CHANGED, Event.MEMBERS_CHANGED, Event.TRUST_REMOVED, Event.SUSPEND]


@pytest.mark.parametrize("event", CHANGES)
def test_nothing_that_changes_opens_a_suspended_gate(event: Event) -> None:
    assert step(State.SUSPENDED, event) == (State.SUSPENDED, ())


def test_a_suspended_gate_opens_by_resume_alone() -> None:
    ways_out = {(state, to[0]) for state in SUSPENDED for to in TRANSITIONS[state].values()}
    assert {to for _, to in ways_out} - {*SUSPENDED, State.FENCED} == {State.RENDERING}
    assert entries(State.RENDERING) == {
        (State.CLOSED, Event.SEALED),
        (State.RESTARTING, Event.RESTARTED),
        (State.SUSPENDED, Event.RESUME),
    }


def test_nothing_leaves_fenced() -> None:
    assert {step(State.FENCED, event) for event in Event} == {(State.FENCED, ())}


def test_open_is_reached_by_a_probe_alone() -> None:
    """Whatever the order of events: before OPEN stands PROBING, before that an acknowledgement."""
    for state, event in itertools.product(State, Event):
        following = TRANSITIONS[state].get(event)
        if following is not None and following[0] is State.OPEN:
            assert (state, event) == (State.PROBING, Event.PROBED) or state in (*CHANGING, State.CUTTING)
        if following is not None and following[0] in (*CHANGING, State.REMOVING, State.RESTARTING):
            assert state is State.OPEN
    assert entries(State.CUTTING) == {(State.REMOVING, Event.ACKNOWLEDGED)}


def test_every_other_event_is_illegal() -> None:
    illegal = [(s, e) for s, e in itertools.product(State, Event) if e not in TRANSITIONS[s]]
    assert (State.CLOSED, Event.PROBED) in illegal
    assert (State.RENDERING, Event.SEALED) in illegal
    for state, event in illegal:
        with pytest.raises(LocalProtocolError) as caught:
            step(state, event)
        assert caught.value.reason is Reason.ILLEGAL_EVENT
