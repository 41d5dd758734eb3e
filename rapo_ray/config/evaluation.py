"""Settings of the evidence: what is evaluated, and the bars a model must pass."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from rapo_ray.config.base import Strict

AttackName = Literal["none", "role_play", "translation", "base64", "prefix_injection"]


class EvaluationConfig(Strict):
    """What an evaluation asks, and when a run evaluates itself."""

    every: int = Field(default=0, ge=0)
    """Rounds between two evaluations during training; 0 for none. The best checkpoint is kept in `best/`."""
    suites: str = "quickstart-heldout:all"
    """Prompts of the suites, as `name:n,name:n` over `data.sources` and the packaged sets."""
    attacks: tuple[AttackName, ...] = ("none",)
    """Wrappers that each harmful prompt is asked in; benign prompts and questions with answers are asked plainly."""
    temperature: float = Field(default=0.0, ge=0)
    """Sampling temperature; 0 is greedy."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Token limit of an evaluated completion; none takes that of the rollouts."""


class FollowConfig(Strict):
    """Whether an endpoint follows the run."""

    follow: bool = False
    """At the end of the run, promote `best/` to the endpoint that runs on the same cluster; needs gates."""
    state: Path | None = None
    """Folder of the endpoint's state; none takes `.serving` below the folder of runs."""


class GatesConfig(Strict):
    """Upper bars, held against the bounds of 95 % intervals; one that is not set is not checked."""

    asr: float | None = Field(default=None, ge=0, le=1)
    """Share of harmful prompts that are complied with."""
    over_refusal: float | None = Field(default=None, ge=0, le=1)
    """Share of benign prompts that are refused."""
    malformed: float | None = Field(default=None, ge=0, le=1)
    """Share of completions without the form."""
    utility_drop: float | None = Field(default=None, ge=0, le=1)
    """Exact answers lost against the model compared with."""

    def bars(self) -> dict[str, float]:
        """The bars that are set, by metric."""
        return {name: bar for name, bar in self if bar is not None}
