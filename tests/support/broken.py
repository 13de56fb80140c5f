"""One rule of the state machine left out: the stories and the search of small scopes both have to find it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from toposeal.membership import candidates, checks, leaving, rounds, updates
from toposeal.membership.choosing import Choice
from toposeal.membership.events import Appraise, Left
from toposeal.membership.manifest import Manifest
from toposeal.membership.state import Member
from toposeal_lab.simulation import network, small
from toposeal_lab.simulation.symbolic import symbolic_appraisal

Patch = pytest.MonkeyPatch


def an_older_topology_taken(patch: Patch) -> None:
    patch.setattr(updates, "check_succession", lambda *_: None)


def who_was_admitted_once_stays_so(patch: Patch) -> None:
    """Evidence is judged by the first topology for ever, and nobody asks whether the newest has the role."""
    first: dict[str, Any] = {}

    def appraisal(event: Appraise) -> Any:
        return symbolic_appraisal(replace(event, topology=first.setdefault("topology", event.topology)))

    for harness in (network, small):
        patch.setattr(harness, "symbolic_appraisal", appraisal)
    patch.setattr(checks, "bounds_mismatches", lambda *_: [])
    patch.setattr(rounds, "look_ahead", lambda member, now: member)
    patch.setattr(candidates, "choose", lambda roles, entries, *_: Choice(tuple(sorted(entries))))


def a_leave_without_fencing(patch: Patch) -> None:
    """It is said, and its sender goes on."""
    real = leaving._leave

    def leave(member: Member, manifest: Manifest) -> Any:
        _, effects = real(member, manifest)
        return member, tuple(
            each for effect in effects if isinstance(effect, Left) for each in effect.farewell
        )

    patch.setattr(leaving, "_leave", leave)
