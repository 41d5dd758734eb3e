"""`kill -9` in the middle of round 3, or while its checkpoint is saved beside round 4; then the same command: bitwise
identical parameters.
"""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.faults import actors, metrics, parameters, running, send
from tests.e2e.conftest import Cluster, tiny_recipe, train

ROUNDS = 4
PREFETCHED = {"rollout": {"staleness": 1}, "checkpoint": {"every": 2}}  # rounds 2 and 4, while the policy trains


def recipe_in(folder: Path, tiny: Path, warmed: dict[str, Any], **settings: Any) -> Path:
    """A recipe that notes the start of each round in canaries.jsonl."""
    every_round = {"risk": {"backend": "rules"}, "canaries": {"every": 1}}
    return tiny_recipe(tiny, folder, rounds=ROUNDS, judge=every_round, **warmed, **settings)


def whole_run(recipe: Path, cluster: Cluster) -> Path:
    """The folder of a run that nothing disturbs."""
    done = train(recipe, joining=cluster)
    assert done.returncode == 0, done.stdout + done.stderr
    return recipe.parent / "tiny"


@pytest.fixture(scope="module")
def whole(tiny: Path, warmed: dict[str, Any], cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_run(recipe_in(tmp_path_factory.mktemp("whole"), tiny, warmed), cluster)


def resumes_after_round_2(recipe: Path, cluster: Cluster, whole: Path, versions: list[int]) -> None:
    """Give the same command again, and compare its end with that of the undisturbed run."""
    run = recipe.parent / "tiny"
    assert not (run / "summary.json").exists()
    resumed = train(recipe, joining=cluster)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "resuming after round 2 of 4" in resumed.stdout
    lines = metrics(run)
    assert [line["round"] for line in lines] == [1, 2, 3, 4]
    assert [line["policy_version"] for line in lines] == versions
    assert any(line["update"]["optimizer_steps"] for line in lines[2:]), "no optimizer step after the kill"
    assert parameters(run) == parameters(whole)


@pytest.mark.fault(5)
@pytest.mark.parametrize(
    "prefetched", [pytest.param(False, marks=pytest.mark.e2e), pytest.param(True, marks=pytest.mark.chaos)]
)
def test_killed_in_round_3_resumes_there_and_ends_with_the_same_parameters(
    tiny: Path,
    warmed: dict[str, Any],
    cluster: Cluster,
    tmp_path: Path,
    prefetched: bool,
    request: pytest.FixtureRequest,
) -> None:
    settings = PREFETCHED if prefetched else {}
    recipe = recipe_in(tmp_path / "broken", tiny, warmed, **settings)
    checkpoints = recipe.parent / "tiny" / "checkpoints"
    with running(recipe, cluster) as killed:
        killed.until(lambda: (checkpoints / "round-000002" / "COMPLETE").exists(), "the checkpoint of round 2")
        killed.process.kill()
        killed.process.wait()
    assert not (checkpoints / "round-000003").exists()
    if prefetched:
        reference, versions = whole_run(recipe_in(tmp_path / "whole", tiny, warmed, **settings), cluster), [0, 0, 2, 2]
    else:
        reference, versions = request.getfixturevalue("whole"), [0, 1, 2, 3]
    resumes_after_round_2(recipe, cluster, reference, versions)


@pytest.mark.fault(5)
@pytest.mark.e2e
def test_killed_in_round_4_while_the_save_of_round_3_is_in_flight(
    tiny: Path, warmed: dict[str, Any], cluster: Cluster, whole: Path, tmp_path: Path
) -> None:
    recipe = recipe_in(tmp_path, tiny, warmed)
    run = tmp_path / "tiny"

    def begun() -> int:
        lines = (run / "canaries.jsonl").read_text().splitlines()
        return int(json.loads(lines[-1])["round"])

    with running(recipe, cluster) as killed:
        killed.until_round(1)
        policy = actors("PolicyActor", cluster)[-1]
        killed.until_round(3)
        send(policy, signal.SIGSTOP)  # its save begins now, and does not end
        try:
            killed.until(lambda: begun() == 4, "the start of round 4 beside the save")
            killed.process.kill()
            killed.process.wait()
        finally:
            policy.kill()
    assert (run / "checkpoints" / "round-000003.tmp").exists()
    assert not (run / "checkpoints" / "round-000003").exists()
    resumes_after_round_2(recipe, cluster, whole, [0, 1, 2, 3])
