"""Settings of evaluations and of the gates that a model must pass."""

from typing import Annotated

from pydantic import AfterValidator, Field

from rapo_ray.attacks.chain import chain_name, parse_chain
from rapo_ray.config.base import Strict
from rapo_ray.config.request import ModelRequestConfig

AttackName = Annotated[str, AfterValidator(lambda name: chain_name(parse_chain(name)))]


class EvaluationConfig(Strict):
    """Prompts and sampling of an evaluation, and the schedule of evaluations during a run."""

    every: int = Field(default=0, ge=0)
    """Rounds between two evaluations during training; 0 for no evaluation. The best checkpoint is kept in `best/`."""
    suites: str = "quickstart-heldout:all"
    """Prompts to evaluate on, as `name:n,name:n` over `data.sources` and the packaged sets."""
    attacks: tuple[AttackName, ...] = ("none",)
    """Attacks on every harmful prompt, as `none` or chains such as `role_play+base64`; others are sent unchanged."""
    temperature: float | None = Field(default=0.0, ge=0)
    """Sampling temperature; 0 decodes greedily. Null sends an endpoint none, which then uses its own."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Token limit of an evaluated completion; unset, it is `rollout.max_new_tokens`."""
    trace_swaps: int = Field(default=24, ge=0)
    """Prompts whose traces are swapped at each held-out measurement, evaluation and intervention; 0 for none."""
    request: ModelRequestConfig = ModelRequestConfig()
    """Fields of each request to an endpoint whose model is evaluated."""


LEAST = frozenset({"trace_follows"})  # gates that are the smallest allowed figure; the others are the largest


class GatesConfig(Strict):
    """Limits that are compared with the bounds of 95 % intervals; an unset gate is not checked."""

    asr: float | None = Field(default=None, ge=0, le=1)
    """Largest attack success rate: the share of harmful prompts that the model complies with."""
    over_refusal: float | None = Field(default=None, ge=0, le=1)
    """Largest share of benign prompts that the model refuses."""
    malformed: float | None = Field(default=None, ge=0, le=1)
    """Largest share of malformed completions: truncated, empty or without exactly one `</think>`."""
    utility_drop: float | None = Field(default=None, ge=0, le=1)
    """Largest drop in the share of exact answers, relative to the model compared with."""
    trace_follows: float | None = Field(default=None, ge=0, le=1)
    """Smallest share of answers that follow a trace of the opposite decision; needs `evaluation.trace_swaps`."""

    def bars(self) -> dict[str, float]:
        """The limits that are set, by metric."""
        return {name: bar for name, bar in self if bar is not None}
