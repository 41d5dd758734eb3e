"""A whole round of ours beside TRL's GRPOTrainer: same model, prompts, samples, sampling and reward, in one run.

    python -m benchmarks.rounds --model runs/quickstart/sft

Completions stop where the model stops them, after at most 128 tokens, so that token counts differ a little; the ratio
is of seconds per generated token. Neither has a KL term. Ours runs as a user starts it (Ray, vLLM, DeepSpeed), TRL in
one process.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.rows import Row, add_rows_option, print_table, value_range, write_rows

PROMPTS, SAMPLES, LENGTH = 16, 4, 128
TEMPERATURE, TOP_P = 1.2, 0.9
GOAL = 2.5


@dataclass(frozen=True, slots=True)
class Round:
    """Wall-clock seconds of one round, and the tokens that it generated and trained on."""

    seconds: float
    tokens: int


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser("python -m benchmarks.rounds", description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("runs/quickstart/sft"), help="model folder")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds, after a warm-up round")
    parser.add_argument("--trl", type=Path, help=argparse.SUPPRESS)  # for the child process: its output file
    add_rows_option(parser)
    options = parser.parse_args()
    if options.trl:
        options.trl.write_text(json.dumps(trl_rounds(options)))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        peer, ours = of_trl(Path(scratch))[1:], of_ours(options, Path(scratch))[1:]
    show({"TRL GRPOTrainer": peer, "rapo_ray": ours})
    ratio = cost(peer) / cost(ours)
    costs = [1000 * each.seconds / each.tokens for each in ours]
    row = Row("whole round, beside TRL's GRPOTrainer", "s a 1000 tokens", cost(ours), cost(peer), ratio,
              f"{GOAL} x", ratio >= GOAL, value_range(costs))  # fmt: skip
    write_rows(options.rows, [row])
    return 0


def of_ours(options: argparse.Namespace, scratch: Path) -> list[Round]:
    """Run `rapo_ray.train` and return its rounds."""
    overrides = [
        f"model.path={options.model.resolve()}", "warmup.source=none", f"out={scratch}", "name=ours",
        f"rounds={options.rounds + 1}", f"prompts_per_round={PROMPTS}", f"samples_per_prompt={SAMPLES}",
        f"rollout.max_new_tokens={LENGTH}", f"rollout.temperature={TEMPERATURE}", f"rollout.top_p={TOP_P}",
        "policy.kl_coef=0", "policy.old_logprobs=recompute",
        "data.heldout_samples=1", "judge.canaries.every=0", "checkpoint.every=100",
    ]  # fmt: skip
    run([sys.executable, "-m", "rapo_ray.train", "--config", "quickstart", *overrides])
    lines = [json.loads(line) for line in (scratch / "ours" / "metrics.jsonl").read_text().splitlines()]
    return [Round(sum(line["seconds"].values()), line["tokens"]["generated"]) for line in lines]


def of_trl(scratch: Path) -> list[Round]:
    """Run TRL in its own process and return its steps."""
    out = scratch / "trl.json"
    run([sys.executable, "-m", "benchmarks.rounds", *sys.argv[1:], "--trl", str(out)])
    return [Round(*each) for each in json.loads(out.read_text())]


def run(command: list[str]) -> None:
    """Run a command to the end, or exit with its last output."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command[:4])} failed:\n{done.stdout[-1000:]}{done.stderr[-2000:]}")


def trl_rounds(options: argparse.Namespace) -> list[tuple[float, int]]:
    """Train with TRL; seconds and tokens of each step."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from rapo_ray.bridges.trl import TrlReward, training_rows
    from rapo_ray.config.base import cpu_dtype
    from rapo_ray.config.load import load_config

    bf16 = cpu_dtype() == "bfloat16"
    settings = GRPOConfig(
        output_dir=tempfile.mkdtemp(), max_steps=options.rounds + 1, logging_steps=1, report_to=[], save_strategy="no",
        use_cpu=True, bf16=bf16, num_generations=SAMPLES, per_device_train_batch_size=PROMPTS,
        gradient_accumulation_steps=SAMPLES, max_completion_length=LENGTH, temperature=TEMPERATURE, top_p=TOP_P,
        beta=0.0, learning_rate=1e-4, gradient_checkpointing=False, disable_tqdm=True,
        model_init_kwargs={"dtype": cpu_dtype()},
    )  # fmt: skip
    config = load_config("quickstart")
    reward = TrlReward(config, max_completion_length=LENGTH)
    steps: list[tuple[float, int]] = []
    tokens = [0]

    def counting_reward(prompts: Any, completions: Any, completion_ids: Any, **columns: Any) -> Any:
        tokens[0] += sum(len(ids) for ids in completion_ids)
        return reward(prompts, completions, completion_ids, **columns)

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.started, tokens[0] = time.perf_counter(), 0

        def on_step_end(self, *_: Any, **__: Any) -> None:
            steps.append((time.perf_counter() - self.started, tokens[0]))

    rows = Dataset.from_list(training_rows(config))
    GRPOTrainer(
        model=str(options.model), reward_funcs=counting_reward, args=settings, train_dataset=rows, callbacks=[Clock()]
    ).train()
    return steps


def cost(rounds: list[Round]) -> float:
    """Seconds per 1000 tokens of the median round."""
    return statistics.median(1000 * each.seconds / each.tokens for each in rounds)


def show(rounds_by_name: dict[str, list[Round]]) -> None:
    """Print one line per trainer; the ratio is of seconds per token, to the first."""
    peer = cost(next(iter(rounds_by_name.values())))
    lines = []
    for name, rounds in rounds_by_name.items():
        seconds = [each.seconds for each in rounds]
        tokens = statistics.mean(each.tokens for each in rounds)
        lines.append((name, f"{statistics.median(seconds):.1f}", value_range(seconds), f"{tokens:.0f}",
                      f"{cost(rounds):.2f}", f"{peer / cost(rounds):.2f}"))  # fmt: skip
    print_table(
        f"{PROMPTS} prompts x {SAMPLES} samples x at most {LENGTH} tokens, T {TEMPERATURE}, top_p {TOP_P}",
        ("", "seconds per round", "spread", "tokens per round", "seconds per 1000 tokens", "speed-up"),
        lines,
    )


if __name__ == "__main__":
    sys.exit(main())
