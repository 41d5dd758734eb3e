"""The intervention study on real engines: every harmful prompt under every forced depth."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rapo_ray import console
from rapo_ray.atomic import write_json_atomically
from rapo_ray.config import RunConfig
from rapo_ray.errors import ConfigError
from rapo_ray.evaluation.collect import RowFile, collect_rows, make_items
from rapo_ray.evaluation.intervention import DEPTHS, Cell, InterventionResults, forced_thinking, refusal_table
from rapo_ray.evaluation.rows import EvalRow
from rapo_ray.pipeline.evaluate import chunk_size, decoding, judge_of, same_evaluation, start_inference, suite_prompts
from rapo_ray.pipeline.inputs import check_temperature
from rapo_ray.pipeline.target import Target
from rapo_ray.report import terminal
from rapo_ray.report.page import publish_report
from rapo_ray.storage.json_records import to_json
from rapo_ray.storage.layout import EvaluationLayout, RunLayout
from rapo_ray.types import Draft, Prompt, Response

if TYPE_CHECKING:
    from actors.rollout_group import RolloutGroup


class ForcedResponder:
    """Engines whose responses continue from a forced trace."""

    def __init__(self, engines: "RolloutGroup", depth: str, system_prompt: str | None) -> None:
        self._engines = engines
        self._depth = depth
        self._system_prompt = system_prompt

    def respond(self, prompts_P: list[Prompt]) -> Iterator[list[Response]]:
        """One greedy response a prompt, the forced words included."""
        thoughts = [forced_thinking(self._depth, prompt.level or 1) for prompt in prompts_P]
        drafts = [
            Draft(self._system_prompt, prompt.text, thought, closed=thought is not None)
            for prompt, thought in zip(prompts_P, thoughts, strict=True)
        ]
        for group, generated in enumerate(self._engines.write(drafts)):
            yield [Response(group, 0, prompts_P[group].id, generated.text, generated.truncated)]

    def prompt_lengths(self, prompts: list[Prompt]) -> None:
        """None: a draft that leaves no room comes back truncated."""


def intervene(config: RunConfig, target: Target, folder: Path) -> list[Cell]:
    """Run the study, show it, and write intervention.json; raises ConfigError for an endpoint. Resumes like any."""
    if target.path is None:
        raise ConfigError("an intervention needs the model itself: an endpoint takes no forced beginning of its answer")
    check_temperature(config)
    prompts = [replace(prompt, level=prompt.level or 1) for prompt in suite_prompts(config) if prompt.harmful]
    if not prompts:
        raise ConfigError(f"evaluation.suites={config.evaluation.suites!r} has no harmful prompt to study")
    folder.mkdir(parents=True, exist_ok=True)
    same_evaluation(folder, config, [target])
    items = make_items(prompts, ["none"])
    rows: dict[str, list[EvalRow]] = {}
    with start_inference(config, target) as (rollouts, judge):
        for depth in DEPTHS:
            forced = ForcedResponder(rollouts, depth, config.model.system_prompt)
            with console.progress(f"forced {depth}") as progress:
                file = RowFile(EvaluationLayout(folder).rows_of(depth))
                rows[depth] = collect_rows(
                    target.id, items, forced, judge, file, chunk_size(config), progress.judged, chat=target.chat
                )
    cells = refusal_table(dict(rows))
    path = EvaluationLayout(folder).study
    results = InterventionResults(target.id, target.revision, decoding(config), judge_of(config), cells)
    write_json_atomically(path, to_json(results))
    terminal.show_intervention(cells)
    console.say(f"results: {path}")
    if RunLayout(folder.parent).config.is_file():  # a run's, whose report shows the study
        publish_report(folder.parent)
    return cells
