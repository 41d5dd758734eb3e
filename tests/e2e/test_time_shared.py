"""The time-shared layout on CPU: engines, ranks and a judge take turns, equal to the split layout bit for bit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rapo_ray.storage.layout import RunLayout
from rapo_ray.storage.reader import read_groups
from tests.chaos.faults import metrics, parameters, running
from tests.e2e.conftest import Cluster, tiny_recipe, train

pytestmark = pytest.mark.e2e

ROUNDS = 3


@pytest.fixture(scope="module")
def settings(tiny: Path) -> dict[str, Any]:
    judge = {"backend": "vllm", "model": str(tiny / "model"), "dtype": "float32", "max_model_len": 1024}
    return {
        "rounds": ROUNDS,
        "judge": {"risk": judge},
        "policy": {"ranks": 2, "zero_stage": 2, "kl_coef": 0.05},
    }


@pytest.fixture(scope="module")
def shared(
    tiny: Path, cluster: Cluster, settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A whole run in the time-shared layout, with its own warm-up."""
    out = tmp_path_factory.mktemp("shared")
    done = train(tiny_recipe(tiny, out, **settings, rollout={"engines": 2, "colocate": True}), joining=cluster)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("starting 2 rollout engine(s)") == 2, "engines leave the cards to the warm-up"
    yield out / "tiny"


def warmed(shared: Path) -> dict[str, Any]:
    return {"model": {"path": str(shared / "sft")}, "warmup": {"source": "none", "path": None}}


def rollouts(run: Path) -> list[list[tuple[str, str, float | None]]]:
    """Completions, verdicts' case and advantages of each round."""
    return [
        [
            (sample.rollout.text, str(sample.verdict.case), sample.advantage)
            for group in read_groups(RunLayout(run).round_file(number))
            for sample in group.samples_G
        ]
        for number in range(1, ROUNDS + 1)
    ]


def test_the_split_layout_ends_with_the_same_weights(
    tiny: Path, cluster: Cluster, settings: dict[str, Any], shared: Path, tmp_path: Path
) -> None:
    split = {"rollout": {"engines": 2}, "reference": {"actors": 2}}
    done = train(tiny_recipe(tiny, tmp_path, **settings, **warmed(shared), **split), joining=cluster)
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "tiny"
    assert rollouts(run) == rollouts(shared)
    kl = [[line["update"].get("kl") for line in metrics(each)] for each in (run, shared)]
    assert kl[0] == kl[1]
    assert any(kl[0]), "the reference was never used"
    assert parameters(run) == parameters(shared)


def test_killed_in_the_second_round_it_resumes_bit_for_bit(
    tiny: Path, cluster: Cluster, settings: dict[str, Any], shared: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(tiny, tmp_path, **settings, **warmed(shared), rollout={"engines": 2, "colocate": True})
    run = tmp_path / "tiny"
    with running(recipe, cluster) as killed:
        killed.until(lambda: (run / "checkpoints" / "round-000001" / "COMPLETE").exists(), "the end of round 1")
        killed.process.kill()
        killed.process.wait()
    assert not (run / "summary.json").exists()
    resumed = train(recipe, joining=cluster)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert f"of {ROUNDS}" in resumed.stdout
    assert "resuming after round" in resumed.stdout
    assert rollouts(run) == rollouts(shared)
    assert parameters(run) == parameters(shared)
