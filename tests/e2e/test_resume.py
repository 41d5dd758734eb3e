"""`kill -9` in the middle of round 3, then the same command: the same parameters, bit for bit."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from tests.e2e.conftest import REPOSITORY, Cluster, environment, tiny_recipe, train, train_command

ROUNDS = 4


@pytest.mark.fault(5)
@pytest.mark.parametrize(
    "ahead", [pytest.param(False, marks=pytest.mark.e2e), pytest.param(True, marks=pytest.mark.chaos)]
)
def test_killed_in_round_3_resumes_there_and_ends_with_the_same_parameters(
    tiny: Path, warmed: dict[str, Any], cluster: Cluster, tmp_path: Path, ahead: bool
) -> None:
    settings = {"rounds": ROUNDS, **warmed}
    if ahead:  # rounds 2 and 4 are drawn while the policy learns
        settings |= {"rollout": {"staleness": 1}, "checkpoint": {"every": 2}}
    whole = tiny_recipe(tiny, tmp_path / "whole", **settings)
    done = train(whole, joining=cluster)
    assert done.returncode == 0, done.stdout + done.stderr

    broken = tiny_recipe(tiny, tmp_path / "broken", **settings)
    run = tmp_path / "broken" / "tiny"
    _kill_in_round_3(broken, run, cluster)
    assert not (run / "checkpoints" / "round-000003").exists()
    assert not (run / "summary.json").exists()

    resumed = train(broken, joining=cluster)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "resuming after round 2 of 4" in resumed.stdout

    reference = tmp_path / "whole" / "tiny"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == [1, 2, 3, 4]
    assert [line["policy_version"] for line in lines] == ([0, 0, 2, 2] if ahead else [0, 1, 2, 3])
    assert any(line["update"]["optimizer_steps"] for line in lines[2:]), "nothing was learned after the kill"
    assert _final_parameters(run) == _final_parameters(reference)


def _kill_in_round_3(recipe: Path, run: Path, cluster: Cluster) -> None:
    env = environment(**cluster.env)
    process = subprocess.Popen(train_command(recipe), cwd=REPOSITORY, env=env, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 400
    while not (run / "checkpoints" / "round-000002" / "COMPLETE").exists():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "round 2 never ended"
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def _final_parameters(run: Path) -> dict[str, bytes]:
    """Every float32 parameter of the last checkpoint, as bytes."""
    import torch

    folder = run / "checkpoints" / f"round-{ROUNDS:06d}" / "policy" / "policy"
    (path,) = folder.glob("mp_rank_00_model_states.pt")
    module = torch.load(path, weights_only=False)["module"]
    with safe_open(run / "model" / "model.safetensors", framework="pt") as published:
        names = set(published.keys())
    found = {name: tensor.numpy().tobytes() for name, tensor in module.items()}
    assert {name.removeprefix("language_model.") for name in found} >= names
    return found
