"""A judge that shares a rollout engine's GPU is scheduled onto it (Ray counts GPUs that need not exist)."""

from collections.abc import Iterator

import pytest
import ray

from actors.placement import plan
from actors.spawn import Spawner
from rapo_ray.config import RunConfig

pytestmark = pytest.mark.cluster


class GpuProbe:
    """An actor that reports the GPUs that Ray assigned to it."""

    def gpus(self) -> list[int]:
        """Ids of the assigned GPUs."""
        return list(ray.get_gpu_ids())


@pytest.fixture
def two_gpus() -> Iterator[None]:
    ray.init(num_cpus=4, num_gpus=2, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def test_judge_and_engine_see_the_same_gpu(two_gpus: None) -> None:
    judge = {"backend": "vllm", "model": "m", "memory_share": 0.3, "share_rollout_gpu": True, "actors": 2}
    config = RunConfig.model_validate(
        {"rollout": {"engines": 2, "memory_share": 0.6}, "judge": {"risk": judge}, "cluster": {"cpus_per_actor": 0.5}}
    )
    spawner = Spawner(config, plan(config))
    places = spawner._reserve(spawner.plan.inference, "engines and judges")
    actors = {place.slot.name: spawner._start(spawner._create(GpuProbe, place, {}, None)) for place in places}
    gpus = {name: ray.get(actor.gpus.remote(), timeout=60) for name, actor in actors.items()}
    spawner.close()
    assert gpus["judge-risk-0"] == gpus["rollout-0"]
    assert gpus["judge-risk-1"] == gpus["rollout-1"]
    assert sorted(gpus["rollout-0"] + gpus["rollout-1"]) == [0, 1]
