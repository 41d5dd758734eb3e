"""Actors that Ray ends because the node is out of memory: lost like any other, and said in one line."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from actors.calls import Where, here
from actors.judge_group import JudgeGroup
from actors.rollout_group import Engines, RolloutGroup
from rapo_ray.cluster import ray_cluster
from rapo_ray.config import ClusterConfig, LimitsConfig, RolloutConfig
from rapo_ray.errors import ActorDied
from tests.make import make_prompt, make_rollout

pytestmark = pytest.mark.cluster

LIMITS = LimitsConfig(start=60, restarts=0)


class Slow:
    """An engine and a judge whose work takes longer than Ray lets them live."""

    def where(self) -> Where:
        """Its node and process."""
        return here()

    def collect(self, *_: Any) -> None:
        """Never ends in time."""
        time.sleep(600)

    def judge(self, *_: Any) -> None:
        """Never ends in time."""
        time.sleep(600)


@pytest.fixture
def cluster() -> Iterator[None]:
    """A cluster of its own, for which the memory in use is too much."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_memory_usage_threshold", "0.01")
        patch.setenv("RAY_memory_monitor_refresh_ms", "2000")
        with ray_cluster(ClusterConfig(device="cpu")):
            yield


def slow() -> Any:
    return ray.remote(Slow).options(num_cpus=0.1, max_restarts=0).remote()


def test_what_runs_out_of_memory_is_lost_in_one_line(cluster: None) -> None:
    engines = Engines([slow()], LIMITS)
    rollouts = RolloutGroup(engines, RolloutConfig(), 0, 8).generate([make_prompt()], range(1), 1)
    with pytest.raises(ActorDied, match=r"rollout-0 was lost 1 times, more than limits\.restarts=0: .*memory") as error:
        list(rollouts)
    assert "\n" not in str(error.value)

    judge = JudgeGroup([slow()], [], LIMITS).score([make_prompt()], iter([[make_rollout()]]))
    with pytest.raises(ActorDied, match=r"judging failed, an actor died: .*memory") as error:
        list(judge)
    assert "\n" not in str(error.value)
