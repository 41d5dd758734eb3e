"""Job submission to a cluster with token authentication, as a user does it."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import RAY, REPOSITORY, Cluster, environment, tiny_recipe

pytestmark = pytest.mark.e2e


def test_a_submitted_job_trains_and_leaves_the_model(
    tiny: Path, warmed: dict[str, Any], tmp_path: Path, cluster: Cluster
) -> None:
    recipe = tiny_recipe(tiny, tmp_path, rounds=1, **warmed)
    submit = [*RAY, "job", "submit", "--address", cluster.dashboard, "--working-dir", str(REPOSITORY), "--"]
    command = [*submit, sys.executable, "-m", "rapo_ray.train", "--config", str(recipe)]
    env = environment(**cluster.env)
    del env["RAY_ADDRESS"]
    deadline = time.monotonic() + 120
    while True:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=540, cwd=REPOSITORY, check=False
        )
        if "No available agent" not in done.stderr or time.monotonic() > deadline:  # it starts after the API does
            break
        time.sleep(2)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "succeeded" in done.stdout
    assert (tmp_path / "tiny" / "model" / "model.safetensors").stat().st_size > 0
    assert (tmp_path / "tiny" / "summary.json").exists()
