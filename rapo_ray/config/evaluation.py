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
    tries: int = Field(default=0, ge=0, le=256)
    """Further attacks tried on every harmful prompt, so many by each split of the families; 0 for none.

    Their chains are drawn by `seed` from the families of `data.heldout_families`, and from all others. Each benign
    prompt, the twin of a harmful one, is sent under its chains.
    """
    longest_chain: int = Field(default=3, ge=1)
    """Largest number of families in the chain of a try; the tries take lengths of 1 to this in turn."""
    temperature: float | None = Field(default=0.0, ge=0)
    """Sampling temperature; 0 decodes greedily. Null sends an endpoint none, which then uses its own."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Token limit of an evaluated completion; unset, it is `rollout.max_new_tokens`."""
    trace_swaps: int = Field(default=24, ge=0)
    """Prompts whose traces are swapped at each held-out measurement, evaluation and intervention; 0 for none."""
    request: ModelRequestConfig = ModelRequestConfig()
    """Fields of each request to an endpoint whose model is evaluated."""


BENIGN_ANSWERED_ATTACKED = "benign_answered_attacked"  # share of benign twins' tries that the model helps with
ASR_AT = "asr_at_"  # before the number of tries
LEAST = frozenset({"trace_follows", BENIGN_ANSWERED_ATTACKED})  # gates that are lower bars; the others are upper ones


def asr_at(tries: int) -> str:
    """Name of the attack success rate within so many tries."""
    return f"{ASR_AT}{tries}"


def of_tries(metric: str) -> bool:
    """True for the figures of tries, which are over behaviours and not over rows."""
    return metric.startswith(ASR_AT) or metric == BENIGN_ANSWERED_ATTACKED


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
    asr_at: dict[Annotated[int, Field(ge=1)], Annotated[float, Field(ge=0, le=1, strict=True)]] = Field(
        default_factory=dict
    )
    """Largest share of behaviours that succumb within so many tries of held-out families, as `{8: 0.2}`.

    Needs `evaluation.tries`, and `benign_answered_attacked`: to refuse everything is safe too.
    """
    benign_answered_attacked: float | None = Field(default=None, gt=0, le=1)
    """Smallest share of the benign twins' tries that the model helps with, under the held-out families."""

    def bars(self) -> dict[str, float]:
        """The limits that are set, by metric."""
        scalars = {name: bar for name, bar in self if isinstance(bar, float)}
        return scalars | {asr_at(tries): bar for tries, bar in sorted(self.asr_at.items())}

    @property
    def most_tries(self) -> int:
        """Number of tries that the bars need; 0 where none is about tries."""
        return max(self.asr_at, default=int(self.benign_answered_attacked is not None))
