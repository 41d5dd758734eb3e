"""Engines on two Ray nodes: both receive the weights and an equal share of the work."""

from collections import Counter
from pathlib import Path

import pytest

from actors.cluster import ray_cluster
from rapo_ray.config.load import load_config
from rapo_ray.types import Prompt
from tests.e2e.conftest import tiny_recipe
from tests.nodes import ray_nodes

pytestmark = pytest.mark.e2e

PROMPTS = [Prompt(f"p/{number}", f"How do I bake bread {number}?", False, 1, "test", "test") for number in range(8)]


def test_two_nodes_get_the_weights_and_share_the_work(tiny: Path, tmp_path: Path) -> None:
    settings = {"rollout": {"engines": 2, "max_new_tokens": 24}, "warmup": {"max_new_tokens": 24}}
    with ray_nodes(2) as env:
        cluster = {"placement": "SPREAD", "address": env["RAY_ADDRESS"]}
        config = load_config(str(tiny_recipe(tiny, tmp_path / "run", cluster=cluster, **settings)))
        with ray_cluster(config.cluster):
            from actors.placement import plan
            from actors.spawn import Spawner

            spawner = Spawner(config, plan(config))
            try:
                rollouts, judges = spawner.start_inference(tiny / "model", {})
                policy, _, weights = spawner.start_training(tiny / "model", rollouts, judges)
                weights.sync(0)
                engines = rollouts.engines
                assert len({node for node, _ in engines.on(engines.all, "process_address")}) == 2
                expected = policy.weight_checksums(config.rollout.dtype)
                assert engines.on(engines.all, "weight_checksums", config.rollout.dtype) == [expected] * 2
                batches = rollouts.generate(PROMPTS, range(4), 1)
                made = Counter(rollout.engine for batch in batches for rollout in batch)
                assert made == {"rollout-0": 16, "rollout-1": 16}
            finally:
                spawner.close()
