"""GPU figures: rollout tokens per second, the update's share of the card's peak, and seconds per weight sync.

    python -m benchmarks.gpu --model Qwen/Qwen3-1.7B                    # one GPU, shared by engine and policy
    python -m benchmarks.gpu --model Qwen/Qwen3-8B rollout.colocate=false policy.ranks=4 policy.zero_stage=3

Engines, DeepSpeed ranks and the weight transfer between them are those of a run, placed by the recipe gpu-1 and the
overrides.
"""

import argparse
import random
import statistics
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.floor import count_parameters, timed
from benchmarks.rows import Row, add_rows_option, print_table, value_range, write_rows

PEAKS = {
    "H100": 989e12,
    "H200": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
}  # dense bf16 operations/s, from NVIDIA's data sheets


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--model", required=True, help="a model on the hub, or its folder")
    parser.add_argument("--prompts", type=int, default=256, help="completions per batch")
    parser.add_argument("--length", type=int, default=1024, help="tokens per completion")
    parser.add_argument("--repeats", type=int, default=3, help="timed repeats, after a warm-up")
    parser.add_argument("--peak", type=float, help="dense bf16 operations/s of a card that is not listed here")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="overrides of the recipe gpu-1")
    add_rows_option(parser)
    options = parser.parse_intermixed_args()
    card = name_of_card()
    peak = options.peak or next((rate for name, rate in PEAKS.items() if name in card), None)
    if peak is None:
        parser.error(f"--peak: no peak is known for {card!r}; give its dense bf16 operations/s")
    rows = measure(options, peak)
    lines = [(row.name, f"{row.ours:.4g} {row.unit}", row.spread) for row in rows]
    print_table(f"{options.model} on {card}", ("", "median", "spread"), lines)
    write_rows(options.rows, rows)
    return 0


def name_of_card() -> str:
    """Name of the first GPU; exits if there is none."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"benchmarks.gpu needs an NVIDIA GPU: {error}")


def measure(options: argparse.Namespace, peak: float) -> list[Row]:
    """Start the actors of one placement and measure all figures on them."""
    from actors.cluster import ray_cluster
    from rapo_ray.config.load import load_config
    from rapo_ray.models.resolve import resolve_model

    settings = [f"model.path={options.model}", "policy.kl_coef=0", f"rollout.max_new_tokens={options.length}"]
    config = load_config("gpu-1", [*settings, *options.overrides])
    model = Path(resolve_model(config.model.path, config.model.revision))
    with ray_cluster(config.cluster):
        from actors.placement import plan
        from actors.spawn import Spawner

        with closing(Spawner(config, plan(config))) as spawner:
            rollouts, judges = spawner.start_inference(model, {})
            policy, _, weights = spawner.start_training(model, rollouts, judges)
            weights.sync(0)
            return figures(options, peak, count_parameters(model), config.policy.ranks, rollouts, policy, weights)


def figures(
    options: argparse.Namespace, peak: float, parameters: int, ranks: int, rollouts: Any, policy: Any, weights: Any
) -> list[Row]:
    """Time rounds of generation, update and sync, after one warm-up round."""
    from rapo_ray.types import Prompt, Sequence

    prompts = [Prompt(f"b/{n}", f"Write a long story about the number {n}.", False, 1, "b", "train")
               for n in range(options.prompts)]  # fmt: skip
    rates, shares, syncs = [], [], []
    generator = random.Random(0)
    for number in range(1, options.repeats + 2):
        started = time.perf_counter()
        generated = [rollout for batch in rollouts.generate(prompts, range(1), number) for rollout in batch]
        rates.append(sum(len(rollout.tokens) for rollout in generated) / (time.perf_counter() - started))
        sequences = [
            Sequence(rollout.prompt_tokens, rollout.tokens, generator.choice((-1.0, 1.0)), rollout.logprobs)
            for rollout in generated
        ]  # fmt: skip
        tokens = sum(len(sequence.tokens) for sequence in sequences)
        seconds = timed(policy.update, sequences)
        shares.append(100 * 6 * parameters * tokens / seconds / (ranks * peak))
        syncs.append(timed(weights.sync, number))
    results = {"rollout": ("tokens/s", rates), "policy update": ("% of peak", shares), "weight sync": ("s", syncs)}
    return [
        Row(f"{name} on GPU", unit, statistics.median(values[1:]), None, None, "-", None, value_range(values[1:], 2))
        for name, (unit, values) in results.items()
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
