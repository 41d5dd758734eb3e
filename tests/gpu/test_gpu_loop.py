"""The same loop on an accelerator: NCCL weight sync in bf16, checked by the weights that the engines hold."""

from pathlib import Path

import pytest

from actors.cluster import ray_cluster
from rapo_ray.config.load import load_config
from rapo_ray.types import Sequence
from tests.e2e.conftest import fill_tiny, tiny_recipe, train

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill_tiny(tmp_path_factory.mktemp("gpu"))


def test_engines_hold_what_the_policy_holds_over_nccl(tiny: Path, tmp_path: Path) -> None:
    from actors.placement import plan
    from actors.spawn import Spawner

    recipe = tiny_recipe(
        tiny,
        tmp_path,
        cluster={"device": "gpu", "cpus_per_actor": 1.0},
        rollout={"dtype": "bfloat16"},
        policy={"dtype": "bfloat16", "kl_coef": 0.0},
    )
    config = load_config(str(recipe))
    with ray_cluster(config.cluster):
        spawner = Spawner(config, plan(config))
        try:
            rollouts, judges = spawner.start_inference(tiny / "model", {})
            policy, _, weights = spawner.start_training(tiny / "model", rollouts, judges)
            policy.update([Sequence(tuple(range(10, 20)), tuple(range(20, 40)), 1.0, (-6.0,) * 20)])
            weights.sync(1)
            assert rollouts.engines.on([0], "weight_checksums", "bfloat16") == [policy.weight_checksums("bfloat16")]
        finally:
            spawner.close()


def test_more_gpus_than_there_are_is_one_line(tiny: Path, tmp_path: Path) -> None:
    done = train(tiny_recipe(tiny, tmp_path, cluster={"device": "gpu"}), "rollout.engines=1000")
    assert done.returncode == 1
    assert "GPUs and the cluster has" in done.stderr


def test_engine_and_policy_take_turns_on_one_gpu(tiny: Path, tmp_path: Path) -> None:
    """A whole run: the engine sleeps while the policy trains, and wakes with the new weights."""
    recipe = tiny_recipe(
        tiny,
        tmp_path,
        cluster={"device": "gpu", "cpus_per_actor": 1.0},
        rollout={"dtype": "bfloat16", "colocate": True, "memory_share": 0.3},
        policy={"dtype": "bfloat16"},
        warmup={"source": "none", "path": None},
    )
    done = train(recipe)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "tiny" / "model" / "model.safetensors").exists()
