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
    simulation = Simulation(config, profile, speed=10.0)
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


def test_roles_that_take_turns_need_no_reference_and_less_time_than_on_cards_of_their_own(cluster: Any) -> None:
    """Four cards: an engine, a judge, a rank and a reference, or four engines whose cards the others share."""
    profile = Profile(
        step_seconds=0.1, completion_tokens=60, completion_spread=0.3, running_sequences=8, judge_seconds=0.1,
        reference_tokens_per_second=400, update_tokens_per_second=200, sync_seconds=0.5, turn_seconds=0.2,
        swap_seconds=0.1, judge_turn_seconds=0.1,
    )  # fmt: skip
    judge = {"backend": "vllm", "model": "judge", "memory_share": 0.4}
    split = {"judge": {"risk": judge}}
    shared = {
        "rollout": {"engines": 4, "colocate": True, "memory_share": 0.5, "max_new_tokens": 128},
        "judge": {"risk": {**judge, "actors": 4}},
        "policy": {"ranks": 4, "row_tokens": 0, "micro_batch_tokens": 128},
    }
    apart, turns = (play_layout(profile, layout, speed=10.0) for layout in (split, shared))
    assert set(apart.busy) == {"rollout", "judge", "policy", "reference"}
    assert set(turns.busy) == {"rollout", "judge", "policy"}
    assert turns.phases["reference"] > profile.swap_seconds + profile.turn_seconds + profile.judge_turn_seconds
    assert turns.seconds < 0.5 * apart.seconds
    assert turns.cards_busy > 1.5 * apart.cards_busy


def play_layout(profile: Profile, layout: dict[str, Any], speed: float) -> SimulatedRound:
    sizes = {"prompts_per_round": 16, "samples_per_prompt": 4, "cluster": {"device": "gpu"}}
    simulation = Simulation(RunConfig.model_validate({**sizes, **layout}), profile, speed)
    try:
        return simulation.rounds(1)[0]
    finally:
        simulation.close()


def test_figures_are_of_the_simulated_time_at_any_speed(cluster: Any) -> None:
    profile = Profile(
        step_seconds=0.1, completion_tokens=60, completion_spread=0.0, judge_seconds=0.01, sync_seconds=4.0,
        reference_tokens_per_second=1000, update_tokens_per_second=500,
    )  # fmt: skip
    played = play_layout(profile, {"policy": {"ranks": 2}}, speed=20.0)
    tokens = 64 * 60  # some of which have no signal to learn from
    assert played.phases["sync"] >= 4.0
    assert played.busy["rollout"] == pytest.approx(60 * 0.1)
    assert played.busy["policy"] <= tokens / 2 / 500
    assert played.phases["generate_and_judge"] >= 6.0
    assert played.phases["update"] >= played.busy["policy"] > 0
    assert played.seconds == pytest.approx(sum(played.phases.values()), rel=0.2)
