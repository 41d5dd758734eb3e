"""The driver's overhead per round, and the time that prefetching rollouts hides, on simulated actors.

    python -m benchmarks.simulation

Rounds run in the real orchestrator; all actors share this machine's cores with it, so the figures are upper bounds.
"""

import argparse
import sys
from typing import Any

from benchmarks.rows import Row, add_rows_option, print_table, write_rows

ENGINES, SAMPLES = 1000, 10
GOAL_SECONDS, GOAL_RATIO, GOAL_OVERLAP = 10.0, 2.6, 1.1


def main() -> int:
    """Run the benchmark and print both tables."""
    parser = argparse.ArgumentParser("python -m benchmarks.simulation", description=__doc__)
    parser.add_argument("--rollouts", type=int, default=100_000, help="rollouts of a round over 1,000 engines")
    add_rows_option(parser)
    options = parser.parse_args()
    from actors.cluster import ray_cluster
    from rapo_ray.config.run import ClusterConfig

    with ray_cluster(ClusterConfig(device="cpu")):
        overlapped, longer = overlap()
        half, whole = (overhead(count) for count in (options.rollouts // 2, options.rollouts))
    print_table(
        "a round that is generated while the policy trains on the previous one",
        ("seconds", "of the longer side", "ratio", "goal"),
        [(f"{overlapped:.1f}", f"{longer:.1f}", f"{overlapped / longer:.2f}", f"{GOAL_OVERLAP}")],
    )
    print_table(
        f"{ENGINES} engines, actors that take no time: seconds per round",
        ("rollouts", "generate and judge", "reference", "update", "sync", "all", "CPU seconds of the driver"),
        [
            (str(each.rollouts), *(f"{each.phases.get(name, 0.0):.1f}" for name in PHASES), f"{each.seconds:.1f}",
             f"{each.driver:.1f}")
            for each in (half, whole)
        ],
    )  # fmt: skip
    growth = whole.seconds / half.seconds
    best = f"{whole.driver:.1f} s of CPU in the driver; the actors share its cores"
    rows = [
        Row("round with k = 1 over its longer side (simulated)", "x", overlapped / longer, None, None,
            f"{GOAL_OVERLAP}", overlapped <= GOAL_OVERLAP * longer),
        Row("orchestration of 100,000 rollouts on 1,000 engines", "s", whole.seconds, None, None,
            f"{GOAL_SECONDS:.0f} s", whole.seconds < GOAL_SECONDS, floor=best),
        Row("orchestration, twice the rollouts", "x", growth, None, None, f"{GOAL_RATIO}", growth <= GOAL_RATIO),
    ]  # fmt: skip
    write_rows(options.rows, rows)
    return 0


PHASES = ("generate_and_judge", "reference", "update", "sync")


def simulated(profile: Any, **settings: Any) -> list[Any]:
    """Run rounds over simulated actors."""
    from rapo_ray.config import RunConfig
    from rapo_ray.simulation.rounds import Simulation

    rounds = settings.pop("rounds")
    simulation = Simulation(RunConfig.model_validate({"checkpoint": {"every": 2}, **settings}), profile)
    try:
        return simulation.rounds(rounds)
    finally:
        simulation.close()


def overlap() -> tuple[float, float]:
    """Seconds of a round whose rollouts are prefetched, and of the longer of its two sides."""
    from rapo_ray.simulation.profile import Profile

    profile = Profile(
        step_seconds=0.1, completion_tokens=200, completion_spread=0.2, sync_seconds=0.5,
        reference_tokens_per_second=60_000, update_tokens_per_second=7_000, judge_seconds=0.05, judge_concurrency=64,
    )  # fmt: skip
    played = simulated(
        profile, rounds=4, prompts_per_round=64, samples_per_prompt=8,
        rollout={"engines": 16, "max_num_seqs": 32, "staleness": 1},
        judge={"risk": {"backend": "rules", "actors": 4}}, policy={"ranks": 1},
    )[1:-1]  # fmt: skip
    sides = [max(each.drawing, each.seconds - each.waiting) for each in played]
    return sum(each.seconds for each in played) / len(played), sum(sides) / len(sides)


def overhead(rollouts: int) -> Any:
    """Run a round whose actors take no time."""
    from rapo_ray.simulation.profile import Profile

    profile = Profile(
        step_seconds=0.0, completion_tokens=100, completion_spread=0.0, sync_seconds=0.0, judge_seconds=0.0,
        reference_tokens_per_second=None, update_tokens_per_second=None,
    )  # fmt: skip
    return simulated(
        profile, rounds=2, prompts_per_round=rollouts // SAMPLES, samples_per_prompt=SAMPLES,
        rollout={"engines": ENGINES, "max_num_seqs": 128},
        judge={"risk": {"backend": "rules", "actors": 64}}, policy={"ranks": 64, "kl_coef": 0.0},
    )[-1]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
