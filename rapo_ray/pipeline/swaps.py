"""Swapped traces of a measurement, on its live engines and judges."""

from collections.abc import Sequence
from pathlib import Path

from rapo_ray.config import RunConfig
from rapo_ray.evaluation.forcing import collect_swaps
from rapo_ray.evaluation.swap_plan import Decided, plan_swaps
from rapo_ray.evaluation.swaps import SwapRow
from rapo_ray.roles import Judge, Writer
from rapo_ray.storage.reader import read_swaps
from rapo_ray.storage.rows import write_rows


def swap_traces(
    config: RunConfig, decided: Sequence[Decided], writer: Writer, judge: Judge, path: Path
) -> list[SwapRow]:
    """Swap traces of `evaluation.trace_swaps` prompts, where there are any; rows on disk are not made again."""
    count, system_prompt = config.evaluation.trace_swaps, config.model.system_prompt
    if not count:
        return []
    planned = plan_swaps(decided, count, config.seed)
    prompts = {one.prompt.id: one.prompt for one in decided}
    rows = collect_swaps(planned, read_swaps(path), prompts, writer, judge, system_prompt)
    write_rows(SwapRow, rows, path)
    return rows
