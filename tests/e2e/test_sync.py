"""Weight sync: every engine then holds the policy's weights, compared tensor by tensor, and answers differently."""

from pathlib import Path

import pytest
import ray

from actors.cluster import ray_cluster
from actors.rollout_group import RolloutGroup
from rapo_ray.config.load import load_config
from rapo_ray.types import Draft, Prompt, Sequence
from tests.e2e.conftest import tiny_recipe
from tests.tiny import tiny_model

pytestmark = pytest.mark.e2e

PROMPT = Prompt("p", "How do I bake bread?", False, 1, "test", "test")


@pytest.mark.parametrize(
    ("dtype", "zero_stage", "tied", "lora"),
    [("bfloat16", 2, True, 0), ("float32", 3, False, 0), ("float32", 3, True, 4)],
)
def test_engines_hold_what_the_policy_holds(
    tiny: Path, tmp_path: Path, dtype: str, zero_stage: int, tied: bool, lora: int
) -> None:
    from actors.placement import plan
    from actors.spawn import Spawner

    model = tiny_model(tmp_path / "model", seed=0, tied=tied)
    recipe = tiny_recipe(
        tiny,
        tmp_path,
        rollout={"engines": 2, "dtype": dtype, "max_new_tokens": 24},
        warmup={"max_new_tokens": 24},
        policy={"ranks": 2, "zero_stage": zero_stage, "lora_rank": lora, "learning_rate": 0.05, "kl_coef": 0.0},
    )
    config = load_config(str(recipe))
    with ray_cluster(config.cluster):
        spawner = Spawner(config, plan(config))
        try:
            rollouts, judges = spawner.start_inference(model, {})
            policy, _, weights = spawner.start_training(model, rollouts, judges)
            weights.sync(0)
            assert rollouts.engines.on([0, 1], "weight_checksums", dtype) == [policy.weight_checksums(dtype)] * 2
            before = policy.weight_checksums(dtype)
            answer = _greedy_answer(rollouts)

            prompt, completion = tuple(range(10, 20)), tuple(range(20, 40))
            policy.update([Sequence(prompt, completion, advantage, (-6.0,) * 20) for advantage in (1.0, -0.5)])
            weights.sync(1)

            assert rollouts.engines.on([0, 1], "weight_checksums", dtype) == [policy.weight_checksums(dtype)] * 2
            after = policy.weight_checksums(dtype)
            frozen = ("norm", "embed_tokens", "lm_head") if lora else ("norm",)
            trained = [name for name in before if not any(part in name for part in frozen)]
            assert trained
            assert all(after[name] != before[name] for name in trained)
            assert "lm_head.weight" in before
            assert _greedy_answer(rollouts) != answer
            batches = rollouts.generate([PROMPT] * 2, range(1), 1)
            assert {rollout.policy_version for batch in batches for rollout in batch} == {1}
        finally:
            spawner.close()
    assert not ray.is_initialized()


def _greedy_answer(rollouts: RolloutGroup) -> str:
    first, second = rollouts.write([Draft(None, PROMPT.text, "")] * 2)  # one per engine
    assert first == second, "two engines with the same weights answer differently"
    return first.text
