"""Settings of the prompts: training, held-out measurement, attacks on them."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from rapo_ray.attacks.split import HELD_OUT, ONE_TURN, split_families
from rapo_ray.config.attack import AttackConfig
from rapo_ray.config.base import Strict
from rapo_ray.config.sources import SourceConfig


class DataConfig(Strict):
    """The sources of prompts, and their use for training and evaluation."""

    train: str = "quickstart:all"
    """Training prompts, as `name:n,name:n`: `all` takes every row, a number takes a seeded sample of that size."""
    heldout: str = "quickstart-heldout:all"
    """Prompts that compare base, sft and rapo, never trained on; to tune settings, take `quickstart-validation:all`."""
    heldout_samples: int = Field(default=1, ge=1)
    """Completions per held-out prompt for sft and rapo; base gets one, since no difference to it is computed."""
    evaluation: str | None = None
    """Prompts of evaluation suites, as `name:n,name:n`, that may not be trained on either; unset, there are none."""
    contamination: Literal["refuse", "keep and accept contaminated figures"] = "refuse"
    """`refuse` leaves out training prompts and demonstrations that occur in a suite; the other value keeps them."""
    heldout_families: tuple[str, ...] = tuple(mechanism.value for mechanism in HELD_OUT)
    """Families of attacks, or mechanisms with all of their families, that are never trained on; all others may be."""
    sources: dict[str, SourceConfig] = Field(default_factory=dict)
    """Data files by name; `quickstart`, `quickstart-validation` and `quickstart-heldout` come with the package."""
    max_bad_share: float = Field(default=0.05, ge=0, le=1)
    """Largest share of a source's rows that may be quarantined; above it the run stops."""
    long_prompts: Literal["refuse", "leave_out"] = "refuse"
    """Prompts of more than `rollout.max_prompt_tokens`: refused, all named at once, or left out and listed."""
    attack: AttackConfig | None = None
    """Attacks that replace a share of each round's prompts; unset, there are none."""

    @field_validator("heldout_families")
    @classmethod
    def _families_are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if names:
            split_families(names)
        return names

    @property
    def trained_families(self) -> tuple[str, ...]:
        """Families that attacks of the rounds are made of; none without `data.attack`."""
        if self.attack is None:
            return ()
        if self.attack.families is not None:
            return self.attack.families
        return split_families(self.heldout_families).trained if self.heldout_families else ONE_TURN

    @model_validator(mode="after")
    def _attacks_leave_families_out(self) -> Self:
        attack, trained = self.attack, self.trained_families
        if attack is None:
            return self
        heldout = split_families(self.heldout_families).held_out if self.heldout_families else ()
        if both := [name for name in trained if name in heldout]:
            raise ValueError(
                f"data.attack.families trains on {both[0]!r}, which data.heldout_families holds out: choose one"
            )
        if attack.max_k > len(trained):
            raise ValueError(
                f"data.attack.max_k={attack.max_k} is more than the {len(trained)} families that attacks are made of"
            )
        return self
