"""Settings of the attacks that are made during training."""

from typing import Literal, Self

from pydantic import Field, model_validator

from rapo_ray.attacks.library import FAMILIES
from rapo_ray.config.base import Strict


class AttackConfig(Strict):
    """An attacker that rewrites a share of each round's prompts."""

    share: float = Field(gt=0, le=1)
    """Share of each round's prompts that attacks replace, in pairs: an attack on a harmful prompt, and its benign twin,
    which is the same chain over a benign prompt."""
    attacker: Literal["bandit"] = "bandit"
    """`bandit` needs no model: it picks families and k at which the policy neither always falls nor always holds."""
    families: tuple[str, ...] | None = None
    """Families of attacks that training uses; unset, all that are not held out."""
    held_out: tuple[str, ...] = ()
    """Families that training never uses, so that success with them shows what holds beyond the trained ones."""
    max_k: int = Field(default=2, ge=1)
    """Largest complexity k, the number of families in a chain; each makes a prompt one level deeper, 3 at most."""

    @property
    def trained(self) -> tuple[str, ...]:
        """The families that training uses."""
        return (
            tuple(name for name in sorted(FAMILIES) if name not in self.held_out)
            if self.families is None
            else (self.families)
        )

    @model_validator(mode="after")
    def _families_are_known_and_apart(self) -> Self:
        named = [*(self.families or ()), *self.held_out]
        if unknown := [name for name in named if name not in FAMILIES]:
            raise ValueError(f"{unknown[0]!r} is no family of attacks: take some of {', '.join(sorted(FAMILIES))}")
        if twice := sorted({name for name in named if named.count(name) > 1}):
            raise ValueError(f"{twice[0]!r} is in data.attack.families or data.attack.held_out twice: name it once")
        if not self.trained:
            raise ValueError("no family is left to train on: leave some out of data.attack.held_out")
        if self.max_k > len(self.trained):
            raise ValueError(
                f"data.attack.max_k={self.max_k} is more than the {len(self.trained)} families that are trained on"
            )
        return self
