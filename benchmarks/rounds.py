"""A whole round of ours beside TRL's GRPOTrainer: same model, prompts, samples, sampling and reward, in one run.

    python -m benchmarks.rounds --model runs/quickstart/sft

Completions end where the model ends them, at most 128 tokens, so that tokens differ a little; the ratio is of seconds a
generated token. Neither has a KL term. Ours runs as a user starts it (Ray, vLLM, DeepSpeed), TRL in one process.
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

from benchmarks.rows import Row, add_rows_option, print_table, spread, write_rows

PROMPTS, SAMPLES, LENGTH = 16, 4, 128
TEMPERATURE, TOP_P = 1.2, 0.9
GOAL = 2.5


@dataclass(frozen=True, slots=True)
class Round:
    """One round's wall clock and the tokens that it generated and learned from."""

    seconds: float
    tokens: int


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.rounds", description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("runs/quickstart/sft"), help="folder of a model")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds, after one that warms up")
    parser.add_argument("--trl", type=Path, help=argparse.SUPPRESS)  # of a child: where to write
    add_rows_option(parser)
    options = parser.parse_args()
    if options.trl:
        options.trl.write_text(json.dumps(trl_rounds(options)))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        found = {"TRL GRPOTrainer": of_trl(Path(scratch)), "rapo_ray": of_ours(options, Path(scratch))}
    peer, ours = (rounds[1:] for rounds in found.values())
    show({"TRL GRPOTrainer": peer, "rapo_ray": ours})
    ratio = cost(peer) / cost(ours)
    row = Row("whole round, beside TRL's GRPOTrainer", "s a 1000 tokens", cost(ours), cost(peer), ratio,
              f"{GOAL} x", ratio >= GOAL, spread([1000 * each.seconds / each.tokens for each in ours]))  # fmt: skip
    write_rows(options.rows, [row])
    return 0


def of_ours(options: argparse.Namespace, scratch: Path) -> list[Round]:
    """Rounds of `rapo_ray.train`."""
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
    """Steps of TRL, in a process of its own."""
    out = scratch / "trl.json"
    run([sys.executable, "-m", "benchmarks.rounds", *sys.argv[1:], "--trl", str(out)])
    return [Round(*each) for each in json.loads(out.read_text())]


def run(command: list[str]) -> None:
    """Run to the end, or stop with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command[:4])} failed:\n{done.stdout[-1000:]}{done.stderr[-2000:]}")


def trl_rounds(options: argparse.Namespace) -> list[tuple[float, int]]:
    """Seconds and tokens of each step."""
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
    seen: list[tuple[float, int]] = []
    counted = [0]

    def counting(prompts: Any, completions: Any, completion_ids: Any, **columns: Any) -> Any:
        counted[0] += sum(len(ids) for ids in completion_ids)
        return reward(prompts, completions, completion_ids, **columns)

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.started, counted[0] = time.perf_counter(), 0

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seen.append((time.perf_counter() - self.started, counted[0]))

    rows = Dataset.from_list(training_rows(config))
    GRPOTrainer(
        model=str(options.model), reward_funcs=counting, args=settings, train_dataset=rows, callbacks=[Clock()]
    ).train()
    return seen


def cost(rounds: list[Round]) -> float:
    """Seconds a 1000 tokens, the median round."""
    return statistics.median(1000 * each.seconds / each.tokens for each in rounds)


def show(found: dict[str, list[Round]]) -> None:
    """One line each; the ratio is of seconds a token, to the first."""
    peer = cost(next(iter(found.values())))
    lines = []
    for name, rounds in found.items():
        seconds = [each.seconds for each in rounds]
        tokens = statistics.mean(each.tokens for each in rounds)
        lines.append((name, f"{statistics.median(seconds):.1f}", spread(seconds), f"{tokens:.0f}",
                      f"{cost(rounds):.2f}", f"{peer / cost(rounds):.2f}"))  # fmt: skip
    print_table(
        f"{PROMPTS} prompts x {SAMPLES} samples x at most {LENGTH} tokens, T {TEMPERATURE}, top_p {TOP_P}",
        ("", "seconds a round", "spread", "tokens a round", "seconds a 1000 tokens", "times as fast"),
        lines,
    )


if __name__ == "__main__":
    sys.exit(main())
