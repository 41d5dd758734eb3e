"""Content that a result depends on, as short digests: results that a later command finds again are keyed by them."""

from collections.abc import Mapping
from pathlib import Path

from rapo_ray.config import RunConfig
from rapo_ray.config.judge import JudgeBackendConfig
from rapo_ray.judging import rubrics
from rapo_ray.judging.rules import RULES_JUDGE
from rapo_ray.models.folder import fingerprint
from rapo_ray.pipeline.inputs import Inputs
from rapo_ray.seeds import digest_of
from rapo_ray.types import Prompt

SETTINGS = {"guard", "reply", "max_reply_tokens", "max_thinking_tokens", "template_kwargs", "thinking"}
RUBRICS = (rubrics.LEVEL, rubrics.TRACE, rubrics.REFUSES, rubrics.HELPS, rubrics.PAPER, rubrics.DIALOGUE)


def run_content(inputs: Inputs, base: Path, judges: Mapping[str, Path]) -> dict[str, str]:
    """Digests of what a run's config names by path: its prompts, demonstrations, model and judges' models."""
    demonstrations = [[*_prompt(one.prompt)[1:], one.completion] for one in inputs.demonstrations]
    return {
        "model": fingerprint(base),
        **{f"judge.{part}.model": fingerprint(folder) for part, folder in judges.items()},
        "data.train": digest_of(*map(_prompt, inputs.train_P)),
        "data.heldout": digest_of(*map(_prompt, inputs.heldout_P)),
        "warmup": digest_of(demonstrations, *map(_prompt, inputs.synthesis_P)),
    }


def _prompt(prompt: Prompt) -> list[object]:
    return [prompt.id, *prompt.wording, prompt.harmful, prompt.level, prompt.expected]


def judge_identities(config: RunConfig, models: Mapping[str, Path]) -> dict[str, str]:
    """Each judge of verdicts by part, with its settings and rubrics; `models` are the folders of vllm judges' models.

    A model on disk is told by its content, wherever it lies.
    """
    judge = config.judge
    parts = {part: one for part, one in judge.named().items() if part != "second"}
    rules = digest_of(judge.mode, judge.checks_consistency)
    return {part: f"{_identity(one, models.get(part))}#{rules}" for part, one in parts.items()}


def _identity(judge: JudgeBackendConfig, model: Path | None) -> str:
    if judge.backend == "rules":
        return RULES_JUDGE
    settings = judge.model_dump(mode="json", include=SETTINGS)
    request = judge.request.model_dump(mode="json", exclude={"limit_field"}) if judge.backend == "http" else {}
    name = f"{judge.model} at {judge.url}" if model is None else "model"
    revision = judge.revision if model is None else fingerprint(model)
    return f"{judge.backend}:{name}@{revision}#{digest_of(settings, request, rubrics.rubric_hash(*RUBRICS))}"
