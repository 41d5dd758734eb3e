"""How a vLLM judge is best asked: free text, constrained JSON or one label; and what asking levels once saves.

    python -m benchmarks.judging --run runs/quickstart

Judges real completions of a finished run, the same ones each time, on one engine in this process.
"""

import argparse
import asyncio
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.rows import Row, add_rows_option, print_table, write_rows

SAMPLES_PER_PROMPT = 4
GOAL_RATE, GOAL_SAVED = 4.0, 40.0
MAX_REPLY_TOKENS = 64  # of free text: more than any JSON reply needs


@dataclass(frozen=True, slots=True)
class Measured:
    """One way of asking, over all completions."""

    name: str
    seconds: float
    tokens: int
    failures: dict[str, int]
    verdicts: int

    @property
    def rate(self) -> float:
        """Judgements a second."""
        return self.verdicts / self.seconds


def main() -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser("python -m benchmarks.judging", description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/quickstart"), help="a run whose completions to judge")
    parser.add_argument("--model", default="embedded:smollm2-135m", help="the judge")
    parser.add_argument("--completions", type=int, default=200, help="how many, a multiple of 4")
    add_rows_option(parser)
    options = parser.parse_args()
    samples = real_completions(options.run, options.completions)
    print(f"{len(samples)} completions of {len(samples) // SAMPLES_PER_PROMPT} prompts of {options.run}")
    engine = start_engine(options.model)
    styles = [measure(engine, samples, style, "split") for style in ("text", "choice", "label")]
    show("how the reply is asked for", styles)
    # Without a source's levels, as for one's own prompts: the level has to be asked for.
    unlabelled = [(replace(prompt, level=None), completion) for prompt, completion in samples]
    modes = [
        measure(engine, unlabelled, style, mode)
        for mode, style in (("paper", "text"), ("paper", "choice"), ("split", "choice"), ("split", "label"))
    ]
    show("what is asked, levels unknown", modes)
    saved = 1 - modes[2].tokens / modes[1].tokens
    print(f"judge tokens: split takes {saved:.0%} less than paper at G = {SAMPLES_PER_PROMPT}")
    failed = sum(sum(each.failures.values()) for each in (*styles[1:], *modes[1:]))
    faster = modes[3].rate / modes[0].rate
    rows = [
        Row("judging, one label beside the paper's two calls in free text", "/s", modes[3].rate, modes[0].rate, faster,
            f"{GOAL_RATE:.0f} x", faster >= GOAL_RATE),
        Row("judge tokens that asking the level once saves", "%", 100 * saved, None, None, f"{GOAL_SAVED:.0f} %",
            100 * saved >= GOAL_SAVED),
        Row("constrained judgements that failed", "", failed, None, None, "0", failed == 0),
    ]  # fmt: skip
    write_rows(options.rows, rows)
    return 0


def real_completions(run: Path, count: int) -> list[tuple[Any, Any]]:
    """Whole groups of well-formed completions, the same for the same run."""
    from rapo_ray.judging.completion import parse_completion
    from rapo_ray.records import read_groups
    from rapo_ray.types import Form

    groups: list[list[tuple[Any, Any]]] = []
    for path in sorted(run.glob("rounds/*.parquet")):
        for group in read_groups(path):
            parsed = [parse_completion(s.rollout.text, s.rollout.truncated) for s in group.samples_G]
            formed = [each for each in parsed if each.form is Form.OK][:SAMPLES_PER_PROMPT]
            if len(formed) == SAMPLES_PER_PROMPT:
                groups.append([(group.prompt, each) for each in formed])
    if len(groups) * SAMPLES_PER_PROMPT < count:
        sys.exit(f"{run} has {len(groups)} groups of 4 well-formed completions; {count // 4} are needed")
    picked = random.Random(0).sample(groups, count // SAMPLES_PER_PROMPT)
    return [sample for group in picked for sample in group]


def start_engine(model: str) -> Any:
    """The judge's engine."""
    from rapo_ray.engines.environment import cpu_threads, engine_environment
    from rapo_ray.models import resolve_model

    folder = resolve_model(model)
    os.environ.update(engine_environment("cpu", cpu_threads("cpu", 1), 1))
    from rapo_ray.config_base import cpu_dtype
    from rapo_ray.engines.vllm_engine import EngineSettings, VllmEngine
    from rapo_ray.judging.backends import BLOCK_TOKENS

    settings = EngineSettings(
        model=str(folder),
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
    """Judge every completion; nothing is kept between two measurements but the engine's prefix cache."""
    from rapo_ray.judging.llm import JudgeSettings, LlmJudge
    from rapo_ray.judging.vllm_ask import VllmAsk

    judge = LlmJudge(VllmAsk(engine, 2048, MAX_REPLY_TOKENS), JudgeSettings("bench", None, mode, style, timeout=3600))

    async def every() -> list[Any]:
        return await asyncio.gather(*(judge.judge(prompt, completion) for prompt, completion in samples))

    started = time.perf_counter()
    verdicts = asyncio.run(every())
    seconds = time.perf_counter() - started
    failures = Counter(verdict.status.value for verdict in verdicts if not verdict.scorable)
    name = f"{mode}, {style}"
    print(f"{name}: {seconds:.0f} s", flush=True)
    return Measured(name, seconds, sum(verdict.tokens for verdict in verdicts), dict(failures), len(verdicts))


def show(title: str, rows: Sequence[Measured]) -> None:
    """One line each; rates beside the slowest."""
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
    print_table(title, ("", "failed", "which", "tokens a judgement", "judgements/s", "ratio"), lines)


if __name__ == "__main__":
    sys.exit(main())
