"""`ray job stop` in the middle of a round: the job stops, nothing of it is left, and the same command resumes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.faults import SETTINGS, Live, Recovered, actors, same_end
from tests.e2e.conftest import RAY, REPOSITORY, Cluster, environment, tiny_recipe, train

pytestmark = pytest.mark.chaos

JOB = "rapo-to-be-stopped"
KINDS = ("RolloutActor", "PolicyActor", "ReferenceActor", "RulesJudgeActor")


@pytest.mark.fault(16)
def test_a_job_is_stopped(
    tiny: Path, warmed: dict[str, Any], cluster: Cluster, undisturbed: Path, tmp_path: Path, recovered: Recovered
) -> None:
    recipe = tiny_recipe(tiny, tmp_path, **SETTINGS, **warmed)
    command = [sys.executable, "-m", "rapo_ray.train", "--config", str(recipe)]
    submission = subprocess.Popen(
        [*RAY, "job", "submit", "--address", cluster.dashboard, "--submission-id", JOB, "--working-dir",
         str(REPOSITORY), "--", *command],
        cwd=REPOSITORY, env=_env(cluster), stdout=(tmp_path / "log").open("wb"), stderr=subprocess.STDOUT,
    )  # fmt: skip
    run = Live(submission, tmp_path / "tiny", tmp_path / "log")
    run.until_round(2)
    _job(cluster, "stop", JOB)
    submission.wait(120)
    assert f"Job '{JOB}' was stopped" in _job(cluster, "status", JOB), run.output
    assert not [process for kind in KINDS for process in actors(kind, cluster)]
    done = train(recipe, joining=cluster)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resuming after round" in done.stdout
    recovered.lost_work = "the current round"
    same_end(run.folder, undisturbed)


def _job(cluster: Cluster, action: str, job: str) -> str:
    done = subprocess.run(
        [*RAY, "job", action, "--address", cluster.dashboard, job],
        cwd=REPOSITORY, env=_env(cluster), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def _env(cluster: Cluster) -> dict[str, str]:
    env = environment(**cluster.env)
    del env["RAY_ADDRESS"]
    return env
