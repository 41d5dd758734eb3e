"""Layouts on cards of 80 GB, by arithmetic and simulation: models that fit, the longest row, and seconds a round.

    python -m benchmarks.layouts

Nothing here is measured on a GPU: the memory plan and the GPU profile are estimates from the models' shapes, and rounds
run in the real orchestrator over actors that only wait. Completions have 4,096 tokens on average and 8,192 at most.
"""

import argparse
import sys
from typing import TYPE_CHECKING

from actors.cluster import ray_cluster
from actors.memory_plan import fits, model_shapes, plan_memory, remedy
from benchmarks.rows import Row, add_rows_option, print_table, write_rows
from rapo_ray.config import RunConfig
from rapo_ray.config.load import load_config
from rapo_ray.config.run import ClusterConfig
from rapo_ray.models.shape import ModelShape
from rapo_ray.simulation.gpu import CARDS as KINDS
from rapo_ray.simulation.gpu import gpu_profile
from rapo_ray.types import Phase

if TYPE_CHECKING:  # it imports Ray, which reads at its import whether tokens are on
    from rapo_ray.simulation.rounds import SimulatedRound

JUDGE = "Qwen/Qwen3-8B"
MODELS = {
    "1.7B": "Qwen/Qwen3-1.7B",
    "8B": "Qwen/Qwen3-8B",
    "32B": "Qwen/Qwen3-32B",
    "70B": "meta-llama/Llama-3.3-70B-Instruct",
}
CARDS = (1, 8, 64)
WIDTH = {"1.7B": 1, "8B": 2, "32B": 4, "70B": 8}  # cards of an engine: its weights take 18 GB of each at most
PROMPTS = {1: 64, 8: 64, 64: 512}  # a round, of eight samples each
MEAN_TOKENS = 4096  # of a completion; 8,192 at most
LONGEST = 1 << 20  # tokens of a row; no longer one is tried
CARD_BYTES = 80 * 2.0**30
GOAL_RATIO, GOAL_BUSY = 0.35, 0.75


def main() -> int:
    """Run the benchmark and print both tables."""
    parser = argparse.ArgumentParser("python -m benchmarks.layouts", description=__doc__)
    parser.add_argument("--speed", type=float, default=20.0, help="simulated seconds that pass in a real one")
    parser.add_argument("--only", choices=["compared", "sizes"], help="print one of the tables")
    add_rows_option(parser)
    options = parser.parse_args()
    with ray_cluster(ClusterConfig(device="cpu")):
        if options.only != "sizes":
            write_rows(options.rows, compare(options.speed))
        if options.only != "compared":
            headings = ("model", "cards", "fits", "with", "longest row", "seconds a round", "cards busy")
            lines = [size(model, cards, options.speed) for model in MODELS for cards in CARDS]
            print_table("time-shared layout: 512 completions a round, on 64 cards 4,096", headings, lines)
    return 0


def compare(speed: float) -> list[Row]:
    """Print a round of the split layout beside one of the time-shared one."""
    before, after = simulate(split(), speed, detokenising=True), simulate(layout("8B", 8), speed)
    ratio = after.seconds / before.seconds
    print_table(
        f"8B on 8 cards, 512 completions, judge of 8B: seconds a round, ratio {ratio:.2f}",
        ("layout", *(phase.replace("_", " ") for phase in Phase), "all", "cards busy"),
        [compared("split, eager, detokenising", before), compared("time-shared", after)],
    )
    return [
        Row("round of 8B on 8 cards, time-shared over split (simulated)", "x", ratio, None, None, f"{GOAL_RATIO}",
            ratio <= GOAL_RATIO),
        Row("cards busy in the time-shared layout (simulated)", "", after.cards_busy, None, None, f"{GOAL_BUSY}",
            after.cards_busy >= GOAL_BUSY),
    ]  # fmt: skip


def layout(model: str, cards: int, *overrides: str) -> RunConfig:
    """A model on all cards, which take turns: the recipe gpu-8 in that size, on one card with the judge by rule."""
    width = min(WIDTH[model], cards)
    sizes = {
        "prompts_per_round": PROMPTS[cards], "model.path": MODELS[model], "rollout.engines": cards // width,
        "rollout.tensor_parallel": width, "policy.ranks": cards, "judge.risk.actors": cards // width,
        "judge.risk.tensor_parallel": width,
    }  # fmt: skip
    if cards == 1:
        sizes |= {"rollout.memory_share": 0.8, "judge.risk": "{backend: rules}"}
    elif width == 1:  # a card holds the whole judge
        sizes |= {"rollout.memory_share": 0.5, "judge.risk.memory_share": 0.35}
    return load_config("gpu-8", [*(f"{key}={value}" for key, value in sizes.items()), *overrides])


def split() -> RunConfig:
    """The split layout of 8B on 8 cards: 3 eager engines, a judge, 3 policy ranks and a reference."""
    return layout(
        "8B", 8, "rollout.colocate=false", "rollout.engines=3", "rollout.tensor_parallel=1",
        "rollout.enforce_eager=true", "rollout.memory_share=0.85", "policy.ranks=3", "judge.risk.actors=1",
        "judge.risk.tensor_parallel=1", "judge.risk.memory_share=0.85",
    )  # fmt: skip


def simulate(config: RunConfig, speed: float, detokenising: bool = False) -> "SimulatedRound":
    """Play one round on H100s."""
    from rapo_ray.simulation.rounds import Simulation

    profile = gpu_profile(config, shapes_of(config), KINDS["h100"], MEAN_TOKENS, detokenising)
    simulation = Simulation(config, profile, speed)
    try:
        return simulation.rounds(1)[0]
    finally:
        simulation.close()


def shapes_of(config: RunConfig) -> dict[str, ModelShape]:
    """Shapes of a config's models, all of which are known."""
    return dict(model_shapes(config) or {})


def fit(config: RunConfig) -> bool:
    """True where the memory plan fits."""
    return fits(plan_memory(config, shapes_of(config), CARD_BYTES), CARD_BYTES)


def longest_fitting(config: RunConfig) -> int:
    """Tokens of the longest training row that the memory plan fits, prompt included, to 1,024 tokens; by bisection."""

    def with_row(tokens: int) -> RunConfig:
        longer = {"max_new_tokens": tokens - config.rollout.max_prompt_tokens}
        return config.model_copy(update={"rollout": config.rollout.model_copy(update=longer)})

    low, high = 0, LONGEST // 1024
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fit(with_row(1024 * middle)) else (low, middle - 1)
    return 1024 * low


def size(model: str, cards: int, speed: float) -> tuple[str, ...]:
    """A line of the first table."""
    config = layout(model, cards)
    settings = [] if fit(config) else remedy(config, shapes_of(config), CARD_BYTES)
    if not settings and not fit(config):
        return model, str(cards), "no", "", "", "", ""
    config = layout(model, cards, *settings)
    played = simulate(config, speed)
    return (
        model, str(cards), "yes", " ".join(settings), f"{longest_fitting(config) // 1024}k", f"{played.seconds:.0f}",
        f"{played.cards_busy:.0%}",
    )  # fmt: skip


def compared(name: str, played: "SimulatedRound") -> tuple[str, ...]:
    """A line of the second table."""
    phases = [f"{played.phases.get(phase, 0.0):.0f}" for phase in Phase]
    return name, *phases, f"{played.seconds:.0f}", f"{played.cards_busy:.0%}"


if __name__ == "__main__":
    sys.exit(main())
