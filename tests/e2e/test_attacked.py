"""Rounds with the bandit in the loop on real actors, killed and resumed: the same rows, attacks included."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from rapo_ray.storage.reader import read_groups, read_metrics, read_rows
from rapo_ray.storage.rows import SampleRow
from tests.chaos.faults import parameters, running
from tests.e2e.conftest import Cluster, tiny_recipe, train

pytestmark = pytest.mark.e2e

ROUNDS = 3
UNEQUAL = ("judge_seconds", "engine")  # times, and which of equal engines it was


def recipe_in(folder: Path, tiny: Path, warmed: dict[str, Any]) -> Path:
    """A recipe whose prompts are all attacked, under one or two families."""
    data = {"attack": {"share": 1, "max_k": 2, "families": ["urgency", "role_play", "leet"]}}
    settings = {"rounds": ROUNDS, "data": data, "credit": {"over_refusal_bound": 0.1}, **warmed}
    return tiny_recipe(tiny, folder, rollout={"max_prompt_tokens": 1024}, **settings)


def rows(run: Path) -> list[dict[str, Any]]:
    """Every row of every round, without what differs from process to process."""
    names = [one.name for one in fields(SampleRow) if one.name not in UNEQUAL]
    files = [run / "rounds" / f"round-{number:06d}.parquet" for number in range(1, ROUNDS + 1)]
    return [{name: getattr(row, name) for name in names} for path in files for row in read_rows(SampleRow, path)]


def test_a_killed_run_resumes_with_the_same_attacks_and_rows(
    tiny: Path, warmed: dict[str, Any], cluster: Cluster, tmp_path: Path
) -> None:
    whole, broken = (recipe_in(tmp_path / name, tiny, warmed) for name in ("whole", "broken"))
    done = train(whole, joining=cluster)
    assert done.returncode == 0, done.stdout + done.stderr
    run, resumed = whole.parent / "tiny", broken.parent / "tiny"
    with running(broken, cluster) as killed:
        checkpoint = resumed / "checkpoints" / "round-000001" / "COMPLETE"
        killed.until(checkpoint.exists, "the checkpoint of round 1")
        killed.process.kill()
        killed.process.wait()
    again = train(broken, joining=cluster)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "resuming after round" in again.stdout
    assert rows(resumed) == rows(run)
    assert parameters(resumed) == parameters(run)
    groups_P = read_groups(run / "rounds" / f"round-{ROUNDS:06d}.parquet")
    assert {group.prompt.attack.version for group in groups_P if group.prompt.attack} == {ROUNDS - 1}
    metrics = read_metrics(run / "metrics.jsonl")
    assert all(one.attacks is not None and one.attacks.share == 1 for one in metrics)
    assert all(one.multiplier is not None for one in metrics)
    assert "twins answered" in done.stdout
