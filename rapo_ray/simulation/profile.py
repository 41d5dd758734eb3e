"""Times of each role, from a file or from the rounds of a real run."""

from pathlib import Path

import yaml
from pydantic import Field, ValidationError

from rapo_ray.config.base import Strict
from rapo_ray.errors import ConfigError, ReportError
from rapo_ray.statistics import mean
from rapo_ray.storage.layout import RunLayout
from rapo_ray.storage.reader import read_config, read_metrics
from rapo_ray.types import Phase

PROMPT_TOKENS = 64  # of a simulated prompt


class Profile(Strict):
    """Times of one actor of each role; rates, lengths and sync are by default those of `make run` on two CPU cores."""

    step_seconds: float = Field(default=0.12, ge=0)
    """One decoding step of an engine, which gives every sequence that it runs a token: with few sequences and an empty
    cache."""
    launch_seconds: float = Field(default=0, ge=0)
    """Least duration of a step, in which the processor launches its kernels one by one."""
    arithmetic_seconds: float = Field(default=0, ge=0)
    """Arithmetic of a step for one sequence; it counts where all of them together exceed `step_seconds`."""
    cached_token_seconds: float = Field(default=0, ge=0)
    """Part of a step that each token in the key-value cache adds."""
    sequence_seconds: float = Field(default=0, ge=0)
    """Part of a step that each running sequence adds on the processor."""
    prompt_seconds: float = Field(default=0, ge=0)
    """Reading of a prompt by an engine, in which it decodes nothing."""
    running_sequences: int | None = Field(default=None, ge=1)
    """Sequences that an engine's cache holds at once; none for `rollout.max_num_seqs`, which it never exceeds."""
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
    turn_seconds: float = Field(default=0, ge=0)
    """A policy rank's states to host memory, or back, where it takes turns with engines (`rollout.colocate`)."""
    swap_seconds: float = Field(default=0, ge=0)
    """The policy's weights and the reference's changing places and back again, in that layout."""
    judge_turn_seconds: float = Field(default=0, ge=0)
    """A judge's weights to host memory, or back, in that layout."""

    def decoding_step(self, running: int, cached: float) -> float:
        """Seconds of a step of so many running sequences that have `cached` tokens together."""
        card = max(self.step_seconds, running * self.arithmetic_seconds) + cached * self.cached_token_seconds
        return max(self.launch_seconds, card) + running * self.sequence_seconds


def read_profile(path: Path) -> Profile:
    """Read a profile from a YAML file, or take it from the folder of a run; raises ConfigError."""
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
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {key}: {first['msg']} (it is {first['input']!r})") from None


def profile_of_run(run: Path) -> Profile:
    """Average the times of a run's rounds; raises ConfigError where it has none."""
    layout = RunLayout(run)
    try:
        config, metrics = read_config(layout.config), read_metrics(layout.metrics)
    except ReportError as error:
        raise ConfigError(f"{run} is no run with rounds to take times from: {error}") from None
    if not metrics:
        raise ConfigError(f"{run} has no finished round to take times from")
    samples = config.prompts_per_round * config.samples_per_prompt
    batches = -(-samples // (config.rollout.engines * config.rollout.max_num_seqs))
    generate = mean(one.seconds.get(Phase.GENERATE_AND_JUDGE) for one in metrics) or 0.0
    longest = mean(one.lengths.completion_tokens.max for one in metrics) or 1.0
    reference = mean(one.tokens_per_second.get(Phase.REFERENCE) for one in metrics)
    update = mean(one.tokens_per_second.get(Phase.UPDATE) for one in metrics)
    return Profile(
        step_seconds=generate / (longest * batches),
        completion_tokens=mean(one.lengths.completion_tokens.mean for one in metrics) or 1.0,
        reference_tokens_per_second=reference and reference / config.reference.actors,
        update_tokens_per_second=update and update / config.policy.ranks,
        sync_seconds=mean(one.seconds.get(Phase.SYNC) for one in metrics) or 0.0,
    )
