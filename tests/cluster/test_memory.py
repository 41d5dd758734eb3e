"""Actors that Ray kills because the node is out of memory: lost like any other, and reported in one line."""

import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import ray

from actors.cluster import ray_cluster
from actors.judge_group import JudgeGroup
from actors.ray_calls import ProcessAddress, process_address
from actors.rollout_group import Engines, RolloutGroup
from rapo_ray.config.run import ClusterConfig, LimitsConfig, RolloutConfig
from rapo_ray.errors import ActorDied
from tests.make import make_prompt, make_rollout

pytestmark = pytest.mark.cluster

LIMITS = LimitsConfig(start=60, silence=120, judge=120, restarts=0)
ROOM = 3 << 30  # bytes that the cluster may use beyond current usage; Ray itself takes less than one GiB
CHUNK = 128 << 20


def exhaust_memory() -> None:
    """Allocate more than the room, and wait to be killed."""
    chunks = []
    for _ in range(0, ROOM + (1 << 30), CHUNK):
        chunks.append(b"\1" * CHUNK)
        time.sleep(0.01)
    time.sleep(600)


class Greedy:
    """An engine and a judge that allocate more memory than is available."""

    def process_address(self) -> ProcessAddress:
        """Node and process of this actor."""
        return process_address()

    def capacity(self) -> int:
        """Sequences at once."""
        return 8

    def collect(self, *_: Any) -> None:
        """Never return."""
        exhaust_memory()

    def judge(self, *_: Any) -> None:
        """Never return."""
        exhaust_memory()


@pytest.fixture
def cluster() -> Iterator[None]:
    """A separate cluster, on a node that counts as full slightly above current memory usage."""
    memory = psutil.virtual_memory()
    threshold = (memory.total - memory.available + ROOM) / memory.total
    assert threshold < 0.98, "too little memory is free for this test"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_memory_usage_threshold", f"{threshold:.3f}")
        with ray_cluster(ClusterConfig(device="cpu")):
            yield


def greedy() -> Any:
    return ray.remote(Greedy).options(num_cpus=0.1).remote()


def test_an_actor_that_exhausts_memory_is_reported_in_one_line(cluster: None) -> None:
    engines = Engines([greedy()], LIMITS)
    rollouts = RolloutGroup(engines, RolloutConfig(), 0, 8).generate([make_prompt()], range(1), 1)
    with pytest.raises(ActorDied, match=r"rollout-0 was lost 1 times, more than limits\.restarts=0: .*memory") as error:
        list(rollouts)
    assert "\n" not in str(error.value)

    judge = JudgeGroup([greedy()], [], LIMITS).score([make_prompt()], iter([[make_rollout().response]]))
    with pytest.raises(ActorDied, match=r"judging failed, an actor died: .*memory") as error:
        list(judge)
    assert "\n" not in str(error.value)
