"""The policy update: its share of the machine's matmul rate, and its peak memory beside an update over full logits.

    python -m benchmarks.update

Each way runs in its own process on the same sequences; a test checks that their gradients agree
(tests/cluster/test_packing.py).
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.floor import matrix_rate, timed
from benchmarks.rows import Row, add_rows_option, in_shares, print_table, value_range, write_rows
from rapo_ray.engines.environment import cpu_threads, engine_environment

PROMPT = 64  # prompt tokens of each sequence
GOAL_SHARE, GOAL_MEMORY = 60.0, 3.0
FULL, OURS, SMALL_BATCHES = "full logits", "ours", "ours, in the quickstart's micro-batches"


@dataclass(frozen=True, slots=True)
class Measured:
    """Result of one way of updating."""

    seconds: list[float]
    peak_mib: float  # above weights, gradients and optimizer state
    parameters: int
    matrix_rate: float  # operations per second of a large matmul in the same dtype
    profile: dict[str, float]  # share of one more update's time by kind of operation


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser("python -m benchmarks.update", description=__doc__)
    parser.add_argument("--model", default="embedded:smollm2-135m", help="model to update")
    parser.add_argument("--sequences", type=int, default=16, help="sequences of the single micro-batch")
    parser.add_argument("--length", type=int, default=512, help="tokens per sequence")
    parser.add_argument("--repeats", type=int, default=3, help="timed updates")
    parser.add_argument("--way", choices=[FULL, OURS, SMALL_BATCHES], help=argparse.SUPPRESS)  # for the child process
    add_rows_option(parser)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options)))
        return 0
    results = {way: run(way) for way in (FULL, OURS, SMALL_BATCHES)}
    show(results, options)
    rate = max(one.matrix_rate for one in results.values())
    rows = []
    for layout, way in (("one micro-batch", OURS), ("micro-batches of the quickstart", SMALL_BATCHES)):
        peer, ours = (100 * share(results[each], rate, options) for each in (FULL, way))
        peer_mib, our_mib = results[FULL].peak_mib, results[way].peak_mib
        rows += [
            Row(f"policy update, {layout}: share of the matrix rate", "%", ours, peer, ours / peer,
                f"{GOAL_SHARE:.0f} %", ours >= GOAL_SHARE, value_range(results[way].seconds) + " s",
                f"100 % is {rate / 1e9:.0f} GFLOP/s"),
            Row(f"policy update, {layout}: peak memory", "MiB", our_mib, peer_mib, peer_mib / our_mib,
                f"{GOAL_MEMORY:.0f} x", peer_mib >= GOAL_MEMORY * our_mib),
        ]  # fmt: skip
    write_rows(options.rows, rows)
    return 0


def run(way: str) -> Measured:
    """Measure one way in its own process."""
    command = [sys.executable, "-m", "benchmarks.update", *sys.argv[1:], "--way", way]
    env = {**os.environ, **engine_environment("cpu", cpu_threads("cpu", 1))}  # read at process start
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.stderr[-3000:])
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Time updates and read this process's peak memory from the kernel."""
    from rapo_ray.models.resolve import resolve_model

    model = resolve_model(options.model)
    from rapo_ray.config.base import cpu_dtype
    from rapo_ray.config.learning import PolicyConfig
    from rapo_ray.config.load import load_config
    from rapo_ray.trainer import policy
    from rapo_ray.trainer.batch import plan_steps
    from rapo_ray.trainer.deepspeed_setup import join_process_group

    if options.way == FULL:
        policy.ActionLogProbs = full_logits()  # type: ignore[misc]
    tokens = options.sequences * options.length
    if options.way == SMALL_BATCHES:
        tokens = load_config("quickstart").policy.micro_batch_tokens
    config = PolicyConfig(
        ranks=1, zero_stage=0, dtype=cpu_dtype(), micro_batch_tokens=tokens, row_tokens=0,
        old_logprobs="rollout", kl_coef=0.0, importance_correction="off",
    )  # fmt: skip
    join_process_group(0, 1, "127.0.0.1", 29571, "cpu")
    rank = policy.PolicyRank(config, model, 0, 1.0, 100, 0)
    if options.way == FULL:
        rank._language_model().set_attn_implementation("sdpa")
    (small,) = plan_steps(sequences(1, PROMPT + 8), 1, 1, config.micro_batch_tokens, 0)
    (steps,) = plan_steps(sequences(options.sequences, options.length), 1, 1, config.micro_batch_tokens, 0)
    rank.update(small)  # allocates gradients and optimizer state
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    seconds = [timed(lambda: rank.update(steps)) for _ in range(options.repeats)]
    parameters = sum(parameter.numel() for parameter in rank._language_model().parameters())
    return {
        "seconds": seconds,
        "peak_mib": memory("VmHWM") - before,
        "parameters": parameters,
        "matrix_rate": matrix_rate(config.dtype),
        "profile": profile(lambda: rank.update(steps)) if options.way == OURS else {},
    }


KINDS = {"matrix products": ("mm", "linear"), "copies": ("copy", "cat"), "optimizer": ("adam",)}


def profile(act: Callable[[], object]) -> dict[str, float]:
    """Share of each kind of operation in the total time, over all threads, as PyTorch's profiler counts it."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    with record(activities=[ProfilerActivity.CPU], acc_events=True) as recorded:
        act()
    shares: dict[str, float] = {}
    for event in recorded.key_averages():
        kind = next((kind for kind, parts in KINDS.items() if any(part in event.key for part in parts)), "the rest")
        shares[kind] = shares.get(kind, 0.0) + event.self_cpu_time_total
    return {kind: share / sum(shares.values()) for kind, share in shares.items()}


def sequences(rows: int, length: int) -> list[Any]:
    """Make sequences of random tokens with alternating advantages."""
    from rapo_ray.types import Sequence

    generator = random.Random(0)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(generator.randrange(1000, 40_000) for _ in range(count))

    return [
        Sequence(tokens(PROMPT), tokens(length - PROMPT), (-1.0) ** row, (-5.0,) * (length - PROMPT))
        for row in range(rows)
    ]


def full_logits() -> type:
    """Model of a plain trainer: PyTorch's attention, float32 logits of every token, then their log-softmax."""
    import torch

    from rapo_ray.trainer.model import ActionLogProbs, Collated

    class FullLogits(ActionLogProbs):
        def forward(self, batch: Collated) -> tuple[torch.Tensor, torch.Tensor]:
            logits = self.language_model(input_ids=batch.tokens, use_cache=False).logits.float() / self.temperature
            logprobs = torch.log_softmax(logits[:, :-1], -1).gather(-1, batch.tokens[:, 1:].unsqueeze(-1)).squeeze(-1)
            entropies = torch.zeros(1)
            return logprobs[:, PROMPT - 1 :].where(batch.action_mask, 0.0), entropies

    return FullLogits


def memory(field: str) -> float:
    """Read a memory figure of this process from /proc, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {field}")


def share(one: Measured, matrix_rate: float, options: argparse.Namespace) -> float:
    """Share of the machine's matmul rate that an update reaches, at 6 operations per parameter and token."""
    return 6 * one.parameters * options.sequences * options.length / statistics.median(one.seconds) / matrix_rate


def show(results: dict[str, Measured], options: argparse.Namespace) -> None:
    """Print one line per way of updating."""
    rate = max(one.matrix_rate for one in results.values())
    lines = [
        (
            way, f"{statistics.median(one.seconds):.1f}", value_range(one.seconds), f"{share(one, rate, options):.0%}",
            f"{one.peak_mib:.0f}", f"{one.peak_mib / results[FULL].peak_mib:.2f}",
        )
        for way, one in results.items()
    ]  # fmt: skip
    print_table(
        f"update of {options.sequences} x {options.length} tokens, 6 operations per parameter and token",
        ("", "seconds", "spread", "share of the matmul rate", "peak MiB", "of full logits"),
        lines,
    )
    print(f"time of one of our updates: {in_shares(results[OURS].profile)}")


if __name__ == "__main__":
    sys.exit(main())
