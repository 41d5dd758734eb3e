"""Evaluation while a run trains, on its live engines; the best weights are those that pass the gate with least ASR."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rapo_ray.atomic import write_json_atomically
from rapo_ray.config import RunConfig
from rapo_ray.evaluation.collect import RowFile
from rapo_ray.evaluation.results import Evaluated, Results, summarise
from rapo_ray.models.chat import ChatFormat
from rapo_ray.pipeline.evaluate import decoding, effort_of, evaluate_live, judge_of, max_new_tokens, suite_prompts
from rapo_ray.pipeline.target import Target
from rapo_ray.roles import Judge, Policy
from rapo_ray.storage.json_records import to_json
from rapo_ray.storage.layout import EvaluationLayout, RunLayout, round_name
from rapo_ray.storage.reader import read_optional, read_swaps
from rapo_ray.storage.records import Best
from rapo_ray.storage.rows import write_results

if TYPE_CHECKING:
    from actors.rollout_group import RolloutGroup

BEFORE = "before"  # the model that the rounds start from, which drops are measured against


def is_due(config: RunConfig, number: int) -> bool:
    """True after the rounds that are evaluated: every `evaluation.every` of them, and the last where a gate is set."""
    every = config.evaluation.every
    if number == config.rounds and (every or config.gates.bars()):
        return True
    return bool(every) and number % every == 0


class RunEvaluations:
    """Evaluations of one run, below `evaluations/`."""

    def __init__(self, config: RunConfig, run: Path, chat: ChatFormat) -> None:
        self._config = config
        self._chat = chat
        self._run = RunLayout(run)

    def layout(self, number: int) -> EvaluationLayout:
        """Paths of the evaluation after a round."""
        return self._run.evaluation(round_name(number))

    def evaluate(self, number: int, rollouts: "RolloutGroup", judge: Judge) -> Results | None:
        """Evaluate the engines' weights after a round; None where that is done already."""
        config, layout = self._config, self.layout(number)
        if layout.results.exists():
            return None
        layout.path.mkdir(parents=True, exist_ok=True)
        name, identity = "model" if number else BEFORE, f"{config.name} after round {number}"
        target = Target(name, identity, None, f"round-{number}", chat=self._chat)
        assert config.evaluation.temperature is not None  # checked at the start
        responder = rollouts.sampling(config.evaluation.temperature, max_new_tokens(config))
        evaluated = [evaluate_live(config, target, suite_prompts(config), responder, judge, layout.path, responder)]
        if number and (rows := RowFile(self.layout(0).rows_of(BEFORE)).read()):
            identity = f"{config.name} before the rounds"
            swaps = read_swaps(self.layout(0).swaps_of(BEFORE))
            evaluated.append(
                Evaluated(name=BEFORE, id=identity, revision="round-0", rows=rows, expected=len(rows), swaps=swaps)
            )
        results = summarise(evaluated, decoding(config), judge_of(config), config.gates, config.seed, effort_of(config))
        write_results(results, evaluated, layout.path)
        return results

    def keep_best(self, number: int, results: Results, policy: Policy, complete: Callable[[Path, int], None]) -> bool:
        """Export the weights to `best/` where they pass the gate with a lower ASR than any before; True where so.

        `complete` adds what makes the folder a published model.
        """
        asr, gate, best = results.overall(results.model, "asr"), results.gate, self._run.best
        if gate is None or not gate.passed or asr is None or asr.value is None:
            return False
        earlier = read_optional(Best, self._run.best_record)
        if earlier is not None and earlier.asr <= asr.value:
            return False
        temporary = best.with_name(f"{best.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        policy.export(temporary, "bfloat16")
        write_json_atomically(temporary / self._run.best_record.name, to_json(Best(number, asr.value, gate)))
        complete(temporary, number)
        shutil.rmtree(best, ignore_errors=True)
        temporary.rename(best)
        return True
