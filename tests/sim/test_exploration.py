"""Small scopes of the shipped state machine, exhaustively; and rules left out, which must be found there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support.broken import (
    Patch,
    a_leave_without_fencing,
    an_older_topology_taken,
    who_was_admitted_once_stays_so,
)

from toposeal.membership import checks, choosing, heads, sealing
from toposeal.membership.events import Activate
from toposeal.membership.state import Active, Sealed
from toposeal_lab.simulation.explore import SCOPES, Budget, Found, Scope, explore

SECONDS = 50.0  # of CPU time, for all scopes together
UPDATES = {"an update, one cut off", "an update and a restart", "an update amid a genesis"}
LEAVES = {"the last but one leaves, one cut off", "the last but one leaves, and a restart"}
COMPLETE = LEAVES | {"one cut off", "a restart", "genesis", "one whose time runs ahead"} | UPDATES


def test_T4_S2_S3_S5_S6_S8_no_order_of_events_in_small_scopes_breaks_anything(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Active manifests form one chain, nobody seals beside its own seal, versions of the topology never go
    back, and whom the newer one refuses is in no manifest under it; the bounds are printed.
    """
    found: list[Found] = []
    for number, scope in enumerate(SCOPES):
        # What the small ones do not need the large ones get.
        left = SECONDS - sum(one.seconds for one in found)
        share = left if scope.name in COMPLETE else left / (len(SCOPES) - number)
        found.append(explore(scope, share))
        with capsys.disabled():
            print(f"\n{found[-1].line()}", end="")
    assert [(one.scope.name, one.violation, one.path) for one in found if one.violation] == []
    assert {one.scope.name for one in found if one.complete} >= COMPLETE
    assert all(one.states > 100 for one in found)
    assert {one.scope.members for one in found} == {2, 3, 4}
    # It is not peace that is explored: where members serve at the start, other manifests follow.
    assert all(one.manifests > one.scope.sealed for one in found if one.complete)
    assert all(one.versions == {1, 2} for one in found if one.scope.sealed and one.scope.budget.updates)


def no_majority_asked_for(patch: Patch) -> None:
    for module in (choosing, checks, heads):
        patch.setattr(module, "majority", lambda path, iids: True)


def active_without_sealed_of_all(patch: Patch) -> None:
    def activate(member: Any, now: int) -> Any:
        phase = member.phase
        if not isinstance(phase, Sealed):
            return member, ()
        return replace(member, phase=Active(phase.sealed), serving=phase.sealed), (Activate(phase.sealed),)

    patch.setattr(sealing, "activate_if_all_sealed", activate)


PAIR = Scope(
    "the last but one leaves", (1, 2), 2, Budget(waits=4, lags=1, cuts=1, leaves=1),
    held=frozenset({"release", "leave"}), epochs=4, wait_ms=400,
)  # fmt: skip
CUT = Scope("one cut off", (1, 3), 3, Budget(waits=2, cuts=1))
UPDATE = Scope("an update", (1, 3), 3, Budget(waits=3, updates=1), wait_ms=500, parting=True)
GENESIS = Scope("genesis", (2, 2), 2, Budget(waits=1), sealed=False, epochs=1)


@pytest.mark.parametrize(
    ("ablation", "scope", "name"),
    [
        (no_majority_asked_for, CUT, "S5"),
        (active_without_sealed_of_all, GENESIS, "S5"),
        (an_older_topology_taken, UPDATE, "S8"),
        (who_was_admitted_once_stays_so, UPDATE, "T4"),
        (a_leave_without_fencing, PAIR, "S3"),
    ],
)
def test_without_a_rule_the_search_finds_what_it_prevents(
    ablation: Callable[[Patch], None], scope: Scope, name: str, monkeypatch: Patch
) -> None:
    assert explore(scope, 20.0).violation is None
    ablation(monkeypatch)
    found = explore(scope, 20.0)
    assert found.violation is not None and found.violation.name == name
    assert found.path and not found.complete
