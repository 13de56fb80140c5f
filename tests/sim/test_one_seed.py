"""What is true of one story, or of few: symbolic signatures hide nothing; a failing seed is told in short."""

from __future__ import annotations

import json

import pytest

from toposeal_lab.cli import entry
from toposeal_lab.simulation.data_plane import DataPlane
from toposeal_lab.simulation.run import simulate
from toposeal_lab.simulation.scenario import KINDS, Scenario
from toposeal_lab.simulation.settled import is_settled
from toposeal_lab.simulation.shrink import minimal, shrink

REAL_SEEDS = 20


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
