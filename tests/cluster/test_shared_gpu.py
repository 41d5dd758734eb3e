"""Judges and policy ranks see the cards of the engine that hosts them (Ray counts GPUs that need not exist)."""

import os
from collections.abc import Iterator

import pytest
import ray

from actors.placement import Role, plan
from actors.spawn import Spawner
from rapo_ray.config import RunConfig

pytestmark = pytest.mark.cluster


class GpuProbe:
    """An actor that reports the GPUs that CUDA would show it."""

    def devices(self) -> list[str]:
        """Ids of the visible GPUs."""
        return [device for device in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if device]


@pytest.fixture
def four_gpus() -> Iterator[None]:
    ray.init(num_cpus=8, num_gpus=4, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


JUDGE = {"backend": "vllm", "model": "m", "memory_share": 0.3, "actors": 2}


def visible(config: RunConfig) -> dict[str, list[str]]:
    """The GPUs that each actor of a config sees, by its name."""
    spawner = Spawner(config, plan(config))
    places = spawner._reserve([*spawner.plan.inference, *spawner.plan.training], "everybody")
    hosts = [place for place in places if place.slot.role is Role.ROLLOUT]
    guests = [place for place in places if place.slot.role is not Role.ROLLOUT]
    actors = {place.slot.name: spawner._start(spawner._create(GpuProbe, place, {}, None)) for place in hosts}
    spawner._devices = {name: ray.get(actor.devices.remote(), timeout=60) for name, actor in actors.items()}
    actors |= {place.slot.name: spawner._start(spawner._create(GpuProbe, place, {}, None)) for place in guests}
    devices = {name: ray.get(actor.devices.remote(), timeout=60) for name, actor in actors.items()}
    spawner.close()
    return devices


def test_a_judge_sees_the_gpu_of_its_engine(four_gpus: None) -> None:
    judge = {**JUDGE, "share_rollout_gpu": True}
    rollout = {"engines": 2, "memory_share": 0.6}
    settings = {"rollout": rollout, "judge": {"risk": judge}, "cluster": {"cpus_per_actor": 0.5}}
    gpus = visible(RunConfig.model_validate(settings))
    assert gpus["judge-risk-0"] == gpus["rollout-0"]
    assert gpus["judge-risk-1"] == gpus["rollout-1"]
    alone = ("rollout-0", "rollout-1", "policy-0", "reference-0")
    assert sorted(card for name in alone for card in gpus[name]) == ["0", "1", "2", "3"]


def test_in_the_time_shared_layout_each_rank_sees_one_card_of_its_engine(four_gpus: None) -> None:
    config = RunConfig.model_validate(
        {
            "rollout": {"engines": 2, "tensor_parallel": 2, "colocate": True, "memory_share": 0.5},
            "judge": {"risk": {**JUDGE, "tensor_parallel": 2}},
            "policy": {"ranks": 4},
            "cluster": {"cpus_per_actor": 0.5},
        }
    )
    gpus = visible(config)
    assert sorted(gpus["rollout-0"] + gpus["rollout-1"]) == ["0", "1", "2", "3"]
    assert [gpus[f"judge-risk-{index}"] for index in range(2)] == [gpus[f"rollout-{index}"] for index in range(2)]
    cards = [gpus[f"policy-{rank}"] for rank in range(4)]
    assert cards == [[card] for card in gpus["rollout-0"] + gpus["rollout-1"]]
