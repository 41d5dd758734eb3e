"""vLLM judging by reply format (free text, a constrained choice, one label), and the savings of asking levels once.

    python -m benchmarks.judging --run runs/quickstart

Judges real completions of a finished run, always the same ones, on one engine in this process.
"""

import argparse
import asyncio
import os
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.floor import count_parameters, matrix_rate
from benchmarks.rows import Row, add_rows_option, print_table, value_range, write_rows

SAMPLES_PER_PROMPT = 4
GOAL_RATE, GOAL_SAVED = 4.0, 40.0
MAX_REPLY_TOKENS = 64  # for free text; more than any JSON reply needs


@dataclass(frozen=True, slots=True)
class Measured:
    """Result of judging all completions in one way."""

    name: str
    seconds: float
    tokens: int
    failures: dict[str, int]
    verdicts: int
    cached: int  # prompt tokens served from the prefix cache

    @property
    def rate(self) -> float:
        """Judgements per second."""
        return self.verdicts / self.seconds


def main() -> int:
    """Run the benchmark and print both tables."""
    parser = argparse.ArgumentParser("python -m benchmarks.judging", description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/quickstart"), help="run whose completions are judged")
    parser.add_argument("--model", default="embedded:smollm2-135m", help="model of the judge")
    parser.add_argument("--completions", type=int, default=200, help="number of completions, a multiple of 4")
    parser.add_argument("--repeats", type=int, default=3, help="timings of each of the two ways that are compared")
    add_rows_option(parser)
    options = parser.parse_args()
    samples = real_completions(options.run, options.completions)
    print(f"{len(samples)} completions of {len(samples) // SAMPLES_PER_PROMPT} prompts of {options.run}")
    engine = start_engine(options.model)
    styles = [measure(engine, samples, style, "split") for style in ("text", "choice", "label")]
    show("by reply format", styles)
    # Without a source's levels, as with a user's own prompts: the judge has to be asked for the level.
    unlabelled = [(replace(prompt, level=None), completion) for prompt, completion in samples]
    modes = [measure(engine, unlabelled, "choice", mode) for mode in ("paper", "split")]
    peers, ours = [], []
    for _ in range(options.repeats):  # alternating, so that a slow hour affects both
        peers.append(measure(engine, unlabelled, "text", "paper"))
        ours.append(measure(engine, unlabelled, "label", "split"))
    show("by judging mode, levels unknown", [peers[-1], *modes, ours[-1]])
    saved = 1 - modes[1].tokens / modes[0].tokens
    print(f"judge tokens: split takes {saved:.0%} fewer than paper at G = {SAMPLES_PER_PROMPT}")
    explain(ours[-1], options.model)
    failed = sum(sum(each.failures.values()) for each in (*styles[1:], *modes, *ours))
    peer, rate = (statistics.median(each.rate for each in timings) for timings in (peers, ours))
    rows = [
        Row("judging, one label beside the paper's two calls in free text", "/s", rate, peer, rate / peer,
            f"{GOAL_RATE:.0f} x", rate >= GOAL_RATE * peer, value_range([each.rate for each in ours])),
        Row("judge tokens that asking the level once saves", "%", 100 * saved, None, None, f"{GOAL_SAVED:.0f} %",
            100 * saved >= GOAL_SAVED),
        Row("constrained judgements that failed", "", failed, None, None, "0", failed == 0),
    ]  # fmt: skip
    write_rows(options.rows, rows)
    return 0


def real_completions(run: Path, count: int) -> list[tuple[Any, Any]]:
    """Sample complete groups of well-formed completions, always the same for a given run."""
    from rapo_ray.models.chat import parse_completion
    from rapo_ray.storage.reader import read_groups
    from rapo_ray.types import Form

    groups: list[list[tuple[Any, Any]]] = []
    for path in sorted(run.glob("rounds/*.parquet")):
        for group in read_groups(path):
            parsed = [parse_completion(s.rollout.text, s.rollout.truncated) for s in group.samples_G]
            well_formed = [each for each in parsed if each.form is Form.OK][:SAMPLES_PER_PROMPT]
            if len(well_formed) == SAMPLES_PER_PROMPT:
                groups.append([(group.prompt, each) for each in well_formed])
    if len(groups) * SAMPLES_PER_PROMPT < count:
        sys.exit(f"{run} has {len(groups)} groups of 4 well-formed completions; {count // 4} are needed")
    picked = random.Random(0).sample(groups, count // SAMPLES_PER_PROMPT)
    return [sample for group in picked for sample in group]


def start_engine(model: str) -> Any:
    """Start the judge's engine."""
    from rapo_ray.engines.environment import cpu_threads, engine_environment
    from rapo_ray.models.resolve import resolve_model

    folder = resolve_model(model)
    os.environ.update(engine_environment("cpu", cpu_threads("cpu", 1), 1))
    from rapo_ray.config.base import cpu_dtype
    from rapo_ray.engines.vllm_engine import EngineSettings, VllmEngine
    from rapo_ray.judging.backends import BLOCK_TOKENS
    from rapo_ray.models.source import ModelSource

    settings = EngineSettings(
        model=ModelSource.of(folder),
        dtype=cpu_dtype(),
        max_model_len=2048,
        max_num_seqs=64,
        tensor_parallel=1,
        memory_share=0.9,
        enforce_eager=True,
        chunked_prefill=False,
        seed=0,
        block_tokens=BLOCK_TOKENS,
    )
    return VllmEngine(settings)


def measure(engine: Any, samples: Sequence[tuple[Any, Any]], style: Any, mode: Any) -> Measured:
    """Judge every completion; nothing is kept between two measurements."""
    from rapo_ray.judging.ask import JudgeSettings
    from rapo_ray.judging.llm import LlmJudge
    from rapo_ray.judging.vllm_ask import VllmAsk

    judge = LlmJudge(VllmAsk(engine, 2048, MAX_REPLY_TOKENS), JudgeSettings("bench", None, mode, style, timeout=3600))

    async def judge_all() -> list[Any]:
        return await asyncio.gather(*(judge.judge(prompt, completion) for prompt, completion in samples))

    engine._llm.reset_prefix_cache()
    with counted_hits(engine) as hits:
        started = time.perf_counter()
        verdicts = asyncio.run(judge_all())
        seconds = time.perf_counter() - started
    failures = Counter(verdict.status.value for verdict in verdicts if not verdict.scorable)
    name = f"{mode}, {style}"
    print(f"{name}: {seconds:.0f} s", flush=True)
    return Measured(
        name, seconds, sum(verdict.tokens for verdict in verdicts), dict(failures), len(verdicts), sum(hits)
    )


@contextmanager
def counted_hits(engine: Any) -> Iterator[list[int]]:
    """Count the prompt tokens of each finished request that came from the prefix cache."""
    hits: list[int] = []
    step = engine._engine.step

    def counting() -> Any:
        outputs = step()
        hits.extend(output.num_cached_tokens or 0 for output in outputs if output.finished)
        return outputs

    engine._engine.step = counting
    try:
        yield hits
    finally:
        engine._engine.step = step


def explain(one: Measured, model: str) -> None:
    """Print the seconds that the forward pass's matmuls alone would take beside the seconds measured."""
    from rapo_ray.config.base import cpu_dtype
    from rapo_ray.models.resolve import resolve_model

    computed = one.tokens - one.cached
    best = 2 * count_parameters(resolve_model(model)) * computed / matrix_rate(cpu_dtype())
    print(
        f"{one.name}: {one.tokens / one.verdicts:.0f} tokens per judgement, {one.cached / one.tokens:.0%} of them "
        f"cached; at the matmul rate, its matmuls would take {best:.1f} of its {one.seconds:.1f} s"
    )


def show(title: str, rows: Sequence[Measured]) -> None:
    """Print one line per measurement, with its rate relative to the slowest."""
    slowest = min(row.rate for row in rows)
    lines = []
    for row in rows:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(row.failures.items())) or "-"
        lines.append(
            (
                row.name, f"{sum(row.failures.values())} of {row.verdicts}", kinds,
                f"{row.tokens / row.verdicts:.0f}", f"{row.rate:.2f}", f"{row.rate / slowest:.2f}",
            )
        )  # fmt: skip
    print_table(title, ("", "failed", "kinds", "tokens per judgement", "judgements/s", "ratio"), lines)


if __name__ == "__main__":
    sys.exit(main())
