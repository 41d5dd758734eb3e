"""Evaluation while a run trains, on its live engines; the best weights are those that pass the gate with least ASR."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rapo_ray.atomic import write_text_atomically
from rapo_ray.config import RunConfig
from rapo_ray.evaluation.collect import RowFile
from rapo_ray.evaluation.results import Evaluated, Results, summarise, write_results
from rapo_ray.pipeline.evaluate import decoding, evaluate_live, judge_of, max_new_tokens, suite_prompts
from rapo_ray.pipeline.target import Target
from rapo_ray.roles import Judge, Policy

if TYPE_CHECKING:
    from actors.rollout_group import RolloutGroup

BEFORE = "before"  # the model that the rounds start from, which drops are measured against


def is_due(config: RunConfig, number: int) -> bool:
    """True after the rounds that are evaluated: every so many, and the last wherever a gate waits for it."""
    every = config.evaluation.every
    if number == config.rounds and (every or config.gates.bars()):
        return True
    return bool(every) and number % every == 0


class RunEvaluations:
    """The evaluations of one run, below `evaluations/`."""

    def __init__(self, config: RunConfig, run: Path) -> None:
        self._config = config
        self._run = run
        self._best = run / "best"

    def folder(self, number: int) -> Path:
        """Where the evaluation after a round is."""
        return self._run / "evaluations" / f"round-{number:06d}"

    def evaluate(self, number: int, rollouts: "RolloutGroup", judge: Judge) -> Results | None:
        """Evaluate the engines' weights after a round; None where that is done already."""
        config, folder = self._config, self.folder(number)
        if (folder / "results.json").exists():
            return None
        folder.mkdir(parents=True, exist_ok=True)
        target = Target("model" if number else BEFORE, f"{config.name} after round {number}", None, f"round-{number}")
        responder = rollouts.sampling(config.evaluation.temperature, max_new_tokens(config))
        evaluated = [evaluate_live(config, target, suite_prompts(config), responder, judge, folder)]
        before = RowFile(self.folder(0) / f"{BEFORE}.jsonl").read() if number else []
        if before:
            evaluated.append(Evaluated(BEFORE, f"{config.name} before the rounds", "round-0", before, len(before)))
        results = summarise(evaluated, decoding(config), judge_of(config), config.gates, config.seed)
        write_results(results, folder)
        return results

    def keep_best(self, number: int, results: Results, policy: Policy, complete: Callable[[Path, int], None]) -> bool:
        """Export the weights to `best/` where they pass the gate with a lower ASR than any before; True where so.

        `complete` adds what makes the folder a published model.
        """
        asr = overall(results, "asr")
        if results.gate is None or not results.gate["passed"] or asr is None:
            return False
        kept = self._best / "best.json"
        if kept.exists() and json.loads(kept.read_text(encoding="utf-8"))["asr"] <= asr:
            return False
        temporary = self._best.with_name("best.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        policy.export(temporary, "bfloat16")
        content = json.dumps({"round": number, "asr": asr, "gate": results.gate}, indent=2) + "\n"
        write_text_atomically(temporary / "best.json", content)
        complete(temporary, number)
        shutil.rmtree(self._best, ignore_errors=True)
        temporary.rename(self._best)
        return True


def overall(results: Results, name: str) -> float | None:
    """An overall figure of the first model."""
    parts = ("suite", "attack", "category", "level")
    for metric in results.metrics:
        ours = metric["model"] == results.models[0].name and metric["name"] == name
        if ours and all(metric[part] is None for part in parts):  # type: ignore[literal-required]
            return metric["value"]
    return None
