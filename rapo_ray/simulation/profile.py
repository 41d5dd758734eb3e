"""How long each role takes, from a file or from the rounds of a real run."""

import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from rapo_ray.config.base import Strict
from rapo_ray.errors import ConfigError

PROMPT_TOKENS = 64  # of a simulated prompt


class Profile(Strict):
    """Times of one actor of each role; rates, lengths and sync are by default those of `make run` on two CPU cores."""

    step_seconds: float = Field(default=0.12, ge=0)
    """One decoding step of an engine, which gives every sequence that it runs a token."""
    completion_tokens: float = Field(default=63, ge=1)
    """Mean length of a completion."""
    completion_spread: float = Field(default=0.5, ge=0)
    """Deviation of the logarithm of that length."""
    judge_seconds: float = Field(default=0.001, ge=0)
    """One judgement."""
    judge_concurrency: int = Field(default=1, ge=1)
    """Judgements that a judge works on at once."""
    reference_tokens_per_second: float | None = Field(default=550, gt=0)
    """Completion tokens of a reference actor; none for no time at all."""
    update_tokens_per_second: float | None = Field(default=180, gt=0)
    """Completion tokens that a policy rank learns from; none for no time at all."""
    sync_seconds: float = Field(default=0.54, ge=0)
    """Weights from the policy to all engines."""


def read_profile(path: Path) -> Profile:
    """The profile in a YAML file, or of the folder of a run; raises ConfigError."""
    if path.is_dir():
        return profile_of_run(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Profile.model_validate(content or {})
    except OSError as error:
        raise ConfigError(f"cannot read the profile {path}: {error.strerror}; give a YAML file or a run") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no YAML: {str(error).splitlines()[0]}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {where}: {first['msg']} (it is {first['input']!r})") from None


def profile_of_run(run: Path) -> Profile:
    """What a run's rounds took on average; raises ConfigError where it has none."""
    try:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{run} is no run with rounds to take times from: {error}") from None
    if not lines:
        raise ConfigError(f"{run} has no finished round to take times from")
    samples = config["prompts_per_round"] * config["samples_per_prompt"]
    batches = -(-samples // (config["rollout"]["engines"] * config["rollout"]["max_num_seqs"]))

    def mean(of: Any) -> float | None:
        values = [value for value in map(of, lines) if value is not None]
        return sum(values) / len(values) if values else None

    generate = mean(lambda line: line["seconds"]["generate_and_judge"]) or 0.0
    longest = mean(lambda line: line["lengths"]["completion_tokens"]["max"]) or 1.0
    reference = mean(lambda line: line["tokens_per_second"]["reference"])
    update = mean(lambda line: line["tokens_per_second"]["update"])
    return Profile(
        step_seconds=generate / (longest * batches),
        completion_tokens=mean(lambda line: line["lengths"]["completion_tokens"]["mean"]) or 1.0,
        reference_tokens_per_second=reference and reference / config["reference"]["actors"],
        update_tokens_per_second=update and update / config["policy"]["ranks"],
        sync_seconds=mean(lambda line: line["seconds"]["sync"]) or 0.0,
    )
