"""The real orchestrator over waiting actors: every completion comes, and engines share them."""

from typing import Any

import pytest

from actors.cluster import ray_cluster
from rapo_ray.config.run import ClusterConfig, RunConfig
from rapo_ray.simulation.profile import Profile
from rapo_ray.simulation.rounds import SimulatedRound, Simulation

pytestmark = pytest.mark.cluster

ENGINES, PROMPTS, SAMPLES = 12, 48, 4


@pytest.fixture(scope="module")
def cluster() -> Any:
    with ray_cluster(ClusterConfig(device="cpu")) as resources:
        yield resources


def play(profile: Profile, staleness: int, rounds: int = 2) -> list[SimulatedRound]:
    config = RunConfig.model_validate(
        {
            "prompts_per_round": PROMPTS,
            "samples_per_prompt": SAMPLES,
            "rollout": {"engines": ENGINES, "max_num_seqs": 16, "staleness": staleness, "max_new_tokens": 64},
            "judge": {"risk": {"backend": "rules", "actors": 3}},
            "policy": {"ranks": 2},
            "checkpoint": {"every": 2},
        }
    )
    simulation = Simulation(config, profile)
    try:
        return simulation.rounds(rounds)
    finally:
        simulation.close()


def test_every_completion_comes_and_the_engines_share_them(cluster: Any) -> None:
    profile = Profile(step_seconds=0.01, completion_tokens=40, completion_spread=0.3, sync_seconds=0.0)
    for each in play(profile, staleness=0):
        assert each.rollouts == PROMPTS * SAMPLES
        assert set(each.busy) == {"rollout", "judge", "policy", "reference"}
        assert all(seconds > 0 for seconds in each.busy.values())
        assert each.longest["rollout"] < 3 * each.busy["rollout"], "one engine had much more to do than the others"
