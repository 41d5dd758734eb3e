"""Rollout tokens per second: our CPU sampler beside vLLM's, on the same engine, prompts and sampling, in one run.

    python -m benchmarks.rollout

A test checks that both sample from the same distribution (tests/e2e/test_sampling.py).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.floor import count_parameters, matrix_rate
from benchmarks.rows import Row, add_rows_option, in_shares, print_table, value_range, write_rows
from rapo_ray.engines.environment import cpu_threads, engine_environment

SEQUENCES, LENGTH = 64, 128
TEMPERATURE, TOP_P = 1.2, 0.9
GOAL = 450.0  # tokens per second on two cores


@dataclass(frozen=True, slots=True)
class Measured:
    """Result of one sampler."""

    rates: list[float]  # tokens per second of each batch
    floor: float  # tokens per second if the forward pass's matmuls took all the time
    profile: dict[str, float]  # share of one more batch's time by part of the engine


PARTS = {  # of the engine, by file names in a stack; the first match counts
    "sampling": ("cpu_sampling", "/v1/sample/"),
    "attention": ("/attention",),
    "linear layers": ("/layers/linear", "/layers/utils", "/layers/logits_processor"),
    "the rest of the forward": ("/model_executor/",),
}


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser("python -m benchmarks.rollout", description=__doc__)
    parser.add_argument("--model", default="embedded:smollm2-135m", help="model that generates")
    parser.add_argument("--repeats", type=int, default=3, help="timed batches")
    parser.add_argument("--sampler", choices=["ours", "vLLM's"], help=argparse.SUPPRESS)  # of a child
    add_rows_option(parser)
    options = parser.parse_args()
    if options.sampler:
        print(json.dumps(measure(options)))
        return 0
    results = {sampler: run(sampler) for sampler in ("vLLM's", "ours")}
    peer, ours = (statistics.median(each.rates) for each in results.values())
    print_table(
        f"{SEQUENCES} sequences of at most {LENGTH} tokens, T {TEMPERATURE}, top_p {TOP_P}, seeds, log-probs",
        ("sampler", "tokens/s", "spread", "times as fast", "goal"),
        [
            (sampler, f"{statistics.median(each.rates):.0f}", value_range(each.rates, 0),
             f"{statistics.median(each.rates) / peer:.2f}", f"{GOAL:.0f}")
            for sampler, each in results.items()
        ],
    )  # fmt: skip
    print(f"of the engine's time with our sampler: {in_shares(results['ours'].profile)}")
    best = f"{results['ours'].floor:.0f} /s: the forward's products alone"
    row = Row("rollout tokens/s, beside vLLM's sampler", "/s", ours, peer, ours / peer, f"{GOAL:.0f} /s", ours >= GOAL,
              value_range(results["ours"].rates, 0), best)  # fmt: skip
    write_rows(options.rows, [row])
    return 0


def run(sampler: str) -> Measured:
    """Measure one sampler in its own process."""
    command = [sys.executable, "-m", "benchmarks.rollout", *sys.argv[1:], "--sampler", sampler]
    env = {**os.environ, **engine_environment("cpu", cpu_threads("cpu", 1), 1)}  # read at process start
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.stderr[-3000:])
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure tokens per second of each batch, the upper bound, and a profile."""
    from rapo_ray.models.resolve import resolve_model

    model = resolve_model(options.model)
    from rapo_ray.config.base import cpu_dtype
    from rapo_ray.data.quickstart_set import load_quickstart
    from rapo_ray.engines import cpu_sampling
    from rapo_ray.engines.vllm_engine import EngineSettings, VllmEngine
    from rapo_ray.models.source import ModelSource
    from rapo_ray.types import Sampling

    if options.sampler == "vLLM's":
        cpu_sampling.install = lambda: None
    engine = VllmEngine(
        EngineSettings(
            model=ModelSource.of(model), dtype=cpu_dtype(), max_model_len=512, max_num_seqs=SEQUENCES,
            tensor_parallel=1, memory_share=0.9, enforce_eager=True, chunked_prefill=False, seed=0,
        )
    )  # fmt: skip
    texts = [prompt.text for prompt in load_quickstart("quickstart", "train", 0.0).prompts[:SEQUENCES]]
    prompts = [engine.encode_chat(None, text) for text in texts]

    def batch(number: int) -> float:
        requests: list[tuple[list[int], Any]] = [
            (tokens, Sampling(TEMPERATURE, TOP_P, LENGTH, 1000 * number + index, logprobs=True))
            for index, tokens in enumerate(prompts)
        ]
        started = time.perf_counter()
        generated = [future.result() for future in engine.submit(requests)]
        return sum(len(one.tokens) for one in generated) / (time.perf_counter() - started)

    batch(0)  # warm-up
    return {
        "rates": [batch(number) for number in range(1, options.repeats + 1)],
        "floor": matrix_rate(cpu_dtype()) / (2 * count_parameters(model)),
        "profile": profile(lambda: batch(options.repeats + 1)),
    }


def profile(act: Callable[[], object]) -> dict[str, float]:
    """Profile the engine's stepping thread by sampling its stack a hundred times per second."""
    stepping = next(thread.ident for thread in threading.enumerate() if thread.name == "engine-steps")
    samples: Counter[str] = Counter()
    done = threading.Event()

    def sample_stacks() -> None:
        while not done.wait(0.01):
            frame = sys._current_frames().get(stepping or 0)
            files = []
            while frame:
                files.append(frame.f_code.co_filename)
                frame = frame.f_back
            matches = (part for part, names in PARTS.items() if any(name in file for name in names for file in files))
            samples[next(matches, "the rest")] += 1

    profiler = threading.Thread(target=sample_stacks)
    profiler.start()
    act()
    done.set()
    profiler.join()
    return {part: count / samples.total() for part, count in samples.items()}


if __name__ == "__main__":
    sys.exit(main())
