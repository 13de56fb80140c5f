"""Thousands of stories by seed, what they must have met, and that symbolic signatures hide nothing."""

from __future__ import annotations

import json

import pytest
from support.handover import left_at_once

from toposeal.membership.machine import TRANSITIONS
from toposeal.membership.state import Fenced
from toposeal_lab.cli import entry
from toposeal_lab.simulate import cores
from toposeal_lab.simulation.data_plane import DataPlane
from toposeal_lab.simulation.invariants import Invariants
from toposeal_lab.simulation.keys import symbolic_signatures
from toposeal_lab.simulation.network import Network, signed_topology
from toposeal_lab.simulation.run import Tally, simulate
from toposeal_lab.simulation.scenario import KINDS, Scenario
from toposeal_lab.simulation.settled import is_settled
from toposeal_lab.simulation.shrink import minimal, shrink

CI_SEEDS = 3_000  # what two cores do in two minutes; `make sim` runs more
REAL_SEEDS = 20


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


@pytest.mark.parametrize("seed", range(REAL_SEEDS))
def test_with_real_signatures_it_is_the_same_story_step_by_step(seed: int) -> None:
    """Nothing that the simulation does for speed changes what any member does, says to whom, or refuses.

    A flipped bit hits something else where signatures have another length: then it is another story.
    """
    real = Scenario(seed, real=True)
    told = _told(real)
    assert told == _told(Scenario(seed)) or real.network.happened["corruption"]


def test_the_same_seed_is_the_same_story() -> None:
    assert _told(Scenario(3)) == _told(Scenario(3)) != _told(Scenario(4))


@pytest.mark.parametrize(
    "seed",
    [
        50_064,  # L4: a round that has just ended is still asked about when the mesh is listened to
        53_608,  # L4: who waited outside fences while it is
        51_416,  # S3: a mesh of one begins, commits and fences in one step
        51_526,  # L1: who was made to jump to a high epoch says so only after peace
        5_304,  # L4: one of them is about to end
        53_372,  # L1: the only pod of its role is to end, and nobody can do without it
    ],
)
def test_L1_L4_S3_what_checkers_once_took_for_a_breach(seed: int) -> None:
    assert Scenario(seed).run().active


class _LookedAtEachTime(Scenario):
    def _settled(self) -> bool:
        found = is_settled(self._latest(), self.topology.topology)
        assert super()._settled() == found
        return found


@pytest.mark.parametrize("seed", (2, 8, 10, 14))
def test_whether_a_mesh_is_settled_is_looked_at_whenever_it_may_have_changed(seed: int) -> None:
    _LookedAtEachTime(seed).run()


def _told(story: Scenario) -> list[str]:
    told: list[str] = []
    story.network.observers.append(
        lambda step: told.append(
            f"{step.now} {step.node.index} {type(step.event).__name__} {step.node.phase} "
            f"{[type(effect).__name__ for effect in step.effects]} {step.error}"
        )
    )
    story.run()
    return told


# The command.


def _no_cuts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DataPlane, "suspend", lambda *_: None)


def test_simulate_prints_one_object_with_every_kind_of_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry(["simulate", "--first-seed", "30", "--seeds", "3", "--jobs", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["seeds", "violations", "sealed_runs", "faults"]
    assert (told["seeds"], told["violations"]) == (3, 0) and list(told["faults"]) == list(KINDS)
    assert told["sealed_runs"] <= 3 and told["faults"] == simulate(30, 3, 1).document()["faults"]


def test_a_failing_seed_is_told_with_the_fewest_faults_and_ends_in_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _no_cuts(monkeypatch)
    seed = min(simulate(0, 40, 1).broken)
    assert entry(["simulate", "--first-seed", str(seed), "--seeds", "1", "--json"]) == 1
    told = capsys.readouterr()
    assert json.loads(told.out)["violations"] == 1
    assert f"again: toposeal-lab simulate --first-seed {seed} --seeds 1" in told.err
    shortest = shrink(seed)
    assert shortest is not None and shortest.name == "S1"
    assert len(shortest.needed) <= 3 < shortest.happened
    for blow in shortest.needed:
        assert " ".join(map(str, blow)) in told.err
    monkeypatch.undo()
    assert shrink(seed) is None


@pytest.mark.parametrize("needed", [{3}, {3, 4}, {0, 99}, {7, 31, 64}, set(range(100))])
def test_the_shortest_part_that_fails_is_found(needed: set[int]) -> None:
    blows = [(f"kind {number % 3}", number) for number in range(100)]
    found = minimal(blows, lambda part: needed <= {int(str(number)) for _, number in part})
    assert {number for _, number in found} == needed


@pytest.mark.parametrize("argv", [["--seeds", "0"], ["--seeds", "x"], ["--jobs", "0"], ["--nothing"]])
def test_what_cannot_be_run_is_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        entry(["simulate", *argv])
    assert ended.value.code == 1 and argv[0] in capsys.readouterr().err
