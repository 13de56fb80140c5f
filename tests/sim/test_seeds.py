"""Thousands of stories by seed, and what they must have met."""

from __future__ import annotations

import pytest
from support.handover import left_at_once

from toposeal.membership.machine import TRANSITIONS
from toposeal.membership.state import Fenced
from toposeal_lab.simulate import cores
from toposeal_lab.simulation.invariants import Invariants
from toposeal_lab.simulation.keys import symbolic_signatures
from toposeal_lab.simulation.network import Network, signed_topology
from toposeal_lab.simulation.run import Tally, simulate
from toposeal_lab.simulation.scenario import KINDS

CI_SEEDS = 3_000  # what two cores do in two minutes; `make sim` runs more


@pytest.fixture(scope="module")
def tally(request: pytest.FixtureRequest) -> Tally:
    """Every story is checked after every step."""
    first = request.config.getoption("--first-seed", None) or 0
    number = request.config.getoption("--seeds", None) or CI_SEEDS
    return simulate(first, number, cores())


def test_S1_S2_S3_S4_S5_S6_S7_S8_S9_L1_L2_L3_L4_hold_in_every_story(tally: Tally) -> None:
    """A seed that breaks one is told in full by `toposeal-lab simulate --first-seed SEED --seeds 1`."""
    assert tally.broken == {}
    assert tally.sealed_runs * 2 > tally.seeds


def test_every_kind_of_fault_happened(tally: Tally) -> None:
    if tally.seeds < CI_SEEDS:
        pytest.skip("too few seeds for every kind")
    assert [kind for kind in KINDS if not tally.faults[kind]] == []


def test_every_change_of_phase_happened_and_no_other(tally: Tally) -> None:
    if tally.seeds < CI_SEEDS:
        pytest.skip("too few seeds for every change")
    with symbolic_signatures():
        pairs = [left_at_once(seed).transitions for seed in range(8)]
    seen = set(tally.transitions).union(_of_one_alone(), *pairs)
    listed = {(a.__name__, b.__name__) for a, after in TRANSITIONS.items() for b in after}
    assert seen <= listed
    # Fencing happens on faults of the pod, which have their own tests, from any phase.
    assert {(a, b) for a, b in listed if b != Fenced.__name__} <= seen


def _of_one_alone() -> set[tuple[str, str]]:
    """A mesh of one is attested anew without asking anybody: rare among the seeds."""
    network = Network(signed_topology({"web": (1, 1)}, reattest_ms=30_000))
    invariants = Invariants(network)
    network.boot("web")
    network.run(40_000)
    assert {n.active.manifest.is_genesis for n in network.nodes if n.active} == {False}
    return set(invariants.transitions)
