"""The intervention study on real engines: every harmful prompt under every forced depth."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rapo_ray import console
from rapo_ray.atomic import write_json_atomically
from rapo_ray.config import RunConfig
from rapo_ray.errors import ConfigError
from rapo_ray.evaluation.collect import RowFile, collect_rows, make_items
from rapo_ray.evaluation.forcing import ForcedResponder, Thought
from rapo_ray.evaluation.intervention import DEPTHS, FREE, Cell, InterventionResults, forced_thinking, refusal_table
from rapo_ray.evaluation.rows import EvalRow
from rapo_ray.evaluation.swap_plan import decided_rows
from rapo_ray.evaluation.swaps import swap_figures
from rapo_ray.pipeline.evaluate import chunk_size, decoding, judge_of, same_evaluation, start_inference, suite_prompts
from rapo_ray.pipeline.inputs import check_no_scripts, check_temperature
from rapo_ray.pipeline.swaps import swap_traces
from rapo_ray.pipeline.target import Target
from rapo_ray.report import terminal
from rapo_ray.report.page import publish_report
from rapo_ray.storage.json_records import to_json
from rapo_ray.storage.layout import EvaluationLayout, RunLayout
from rapo_ray.types import Prompt


def forced_thoughts(depth: str, prompts_P: Sequence[Prompt]) -> list[Thought | None]:
    """The whole thinking that a depth forces on each prompt; None where the model thinks itself."""
    texts = [forced_thinking(depth, prompt.level or 1) for prompt in prompts_P]
    return [None if text is None else Thought(text, closed=True) for text in texts]


def intervene(config: RunConfig, target: Target, folder: Path) -> list[Cell]:
    """Run the study, show it, and write intervention.json; raises ConfigError for an endpoint. Resumes like any.

    Traces are swapped between harmful and benign prompts, so that the model's own traces of both are needed.
    """
    if target.path is None:
        raise ConfigError("an intervention needs the model itself: an endpoint takes no forced beginning of its answer")
    check_temperature(config)
    suite = [prompt for prompt in suite_prompts(config) if prompt.expected is None]
    check_no_scripts("evaluation.suites", suite)
    prompts = [replace(prompt, level=prompt.level or 1) for prompt in suite if prompt.harmful]
    benign = [prompt for prompt in suite if not prompt.harmful] if config.evaluation.trace_swaps else []
    if not prompts:
        raise ConfigError(f"evaluation.suites={config.evaluation.suites!r} has no harmful prompt to study")
    folder.mkdir(parents=True, exist_ok=True)
    same_evaluation(folder, config, [target])
    layout = EvaluationLayout(folder)
    rows: dict[str, list[EvalRow]] = {}
    with start_inference(config, target) as (rollouts, judge):
        for depth in DEPTHS:
            items = make_items(prompts + (benign if depth == FREE else []), ["none"])
            forced = ForcedResponder(rollouts, config.model.system_prompt, partial(forced_thoughts, depth))
            with console.progress(f"forced {depth}") as progress:
                file = RowFile(layout.rows_of(depth))
                rows[depth] = collect_rows(
                    target.id, items, forced, judge, file, chunk_size(config), progress.judged, chat=target.chat
                )
        decided = decided_rows(rows[FREE], prompts + benign, target.chat)
        swaps = swap_figures(swap_traces(config, decided, rollouts, judge, layout.swaps_of(FREE)))
    cells = refusal_table(dict(rows))
    path = layout.study
    results = InterventionResults(target.id, target.revision, decoding(config), judge_of(config), cells, swaps)
    write_json_atomically(path, to_json(results))
    terminal.show_intervention(cells)
    terminal.show_swaps(swaps)
    console.say(f"results: {path}")
    if RunLayout(folder.parent).config.is_file():  # a run's, whose report shows the study
        publish_report(folder.parent)
    return cells
