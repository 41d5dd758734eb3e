"""Settings of the attacks that are made during training."""

from typing import Literal, Self

from pydantic import Field, model_validator

from rapo_ray.attacks.split import ONE_TURN
from rapo_ray.config.base import Strict


class AttackConfig(Strict):
    """An attacker that rewrites a share of each round's prompts."""

    share: float = Field(gt=0, le=1)
    """Share of each round's prompts that are attacked, in pairs: a harmful prompt, and a benign one, its twin.

    The twin is sent under the same chain with the same seed. Half of the pairs' prompts are harmful, whatever the data.
    """
    attacker: Literal["bandit"] = "bandit"
    """`bandit` needs no model: it picks families and k at which the policy neither always falls nor always holds."""
    families: tuple[str, ...] | None = None
    """Families of attacks that training uses; unset, all but those of `data.heldout_families`."""
    max_k: int = Field(default=2, ge=1)
    """Largest complexity k, the number of families in a chain; each makes a prompt one level deeper, 3 at most."""

    @model_validator(mode="after")
    def _families_are_known(self) -> Self:
        names = self.families
        if names is None:
            return self
        if not names:
            raise ValueError("data.attack.families=[] leaves no family to attack with: name some, or leave it out")
        if unknown := [name for name in names if name not in ONE_TURN]:
            raise ValueError(
                f"data.attack.families has {unknown[0]!r}, which is no family of one turn: take some of "
                f"{', '.join(ONE_TURN)}"
            )
        if len(set(names)) < len(names):
            raise ValueError(f"data.attack.families={list(names)} names a family twice: name it once")
        return self
