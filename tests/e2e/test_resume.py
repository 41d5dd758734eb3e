"""`kill -9` in the middle of round 3, then the same command: bitwise identical parameters."""

from pathlib import Path
from typing import Any

import pytest

from tests.chaos.faults import metrics, parameters, running
from tests.e2e.conftest import Cluster, tiny_recipe, train

ROUNDS = 4


@pytest.mark.fault(5)
@pytest.mark.parametrize(
    "prefetched", [pytest.param(False, marks=pytest.mark.e2e), pytest.param(True, marks=pytest.mark.chaos)]
)
def test_killed_in_round_3_resumes_there_and_ends_with_the_same_parameters(
    tiny: Path, warmed: dict[str, Any], cluster: Cluster, tmp_path: Path, prefetched: bool
) -> None:
    settings = {"rounds": ROUNDS, **warmed}
    if prefetched:  # rounds 2 and 4 are generated while the policy trains
        settings |= {"rollout": {"staleness": 1}, "checkpoint": {"every": 2}}
    whole = tiny_recipe(tiny, tmp_path / "whole", **settings)
    done = train(whole, joining=cluster)
    assert done.returncode == 0, done.stdout + done.stderr

    broken = tiny_recipe(tiny, tmp_path / "broken", **settings)
    run = tmp_path / "broken" / "tiny"
    with running(broken, cluster) as killed:
        killed.until(lambda: (run / "checkpoints" / "round-000002" / "COMPLETE").exists(), "the end of round 2")
        killed.process.kill()
        killed.process.wait()
    assert not (run / "checkpoints" / "round-000003").exists()
    assert not (run / "summary.json").exists()

    resumed = train(broken, joining=cluster)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "resuming after round 2 of 4" in resumed.stdout

    reference = tmp_path / "whole" / "tiny"
    lines = metrics(run)
    assert [line["round"] for line in lines] == [1, 2, 3, 4]
    assert [line["policy_version"] for line in lines] == ([0, 0, 2, 2] if prefetched else [0, 1, 2, 3])
    assert any(line["update"]["optimizer_steps"] for line in lines[2:]), "no optimizer step after the kill"
    assert parameters(run) == parameters(reference)
