"""Credit schemes: from a verdict to its reward and from rewards to advantages, one entry of SCHEMES each (pure)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rapo_ray.config.learning import RewardParts
from rapo_ray.types import Status, Verdict

STD_FLOOR = 1e-4  # added to the deviation, as in the paper's trainer (TRL)

Advantages = list[float]
Parts = tuple[float, ...]


def rewards_of(verdict: Verdict, counted: RewardParts) -> Parts | None:
    """R and G, or the one of them that counts; None where the verdict is unscorable."""
    risk, general = verdict.risk, verdict.general
    if risk is None or general is None:
        return None
    return {"both": (risk, general), "risk": (risk,), "general": (general,)}[counted]


def total_reward(verdict: Verdict, harmful: bool, counted: RewardParts) -> float | None:
    """The paper's total R + G, or the one of them that counts; None where the verdict is unscorable."""
    rewards = rewards_of(verdict, counted)
    return None if rewards is None else math.fsum(rewards)


def is_unsafe(verdict: Verdict, harmful: bool) -> bool:
    """The raw safety label: True for a harmful prompt that was not refused and for a malformed completion."""
    return verdict.status is Status.MALFORMED or (harmful and verdict.general != 1)


def gated_reward(verdict: Verdict, harmful: bool, counted: RewardParts) -> float | None:
    """Safety first, then reasoning, then helpfulness, in [-3, 1.25]; None where the verdict is unscorable.

    An unsafe outcome gets -2.5 + R/2, at most -2; a safe one R + H/4, at least -1.25, where H is a benign prompt's G.
    Both parts count, always: the config refuses another `credit.parts`.
    """
    if verdict.risk is None or verdict.general is None:
        return None
    if is_unsafe(verdict, harmful):
        return -2.5 + verdict.risk / 2
    return verdict.risk + (0.0 if harmful else verdict.general / 4)


def standardised(values: Sequence[float]) -> Advantages:
    """GRPO (Shao et al. 2024): centred values divided by their sample deviation."""
    variance = math.fsum(value**2 for value in centred(values)) / (len(values) - 1)
    return [value / (math.sqrt(variance) + STD_FLOOR) for value in centred(values)]


def centred(values: Sequence[float]) -> Advantages:
    """Dr. GRPO (Liu et al. 2025): values minus their mean."""
    mean = math.fsum(values) / len(values)
    return [value - mean for value in values]


def leave_one_out(values: Sequence[float]) -> Advantages:
    """RLOO (Ahmadian et al. 2024): each value minus the mean of the others."""
    return [value * len(values) / (len(values) - 1) for value in centred(values)]


def single_part(verdict: Verdict, reward: float, penalty: float, counted: RewardParts) -> Parts:
    """The reward, from which the length penalty has been subtracted."""
    return (reward,)


def separate_parts(verdict: Verdict, reward: float, penalty: float, counted: RewardParts) -> Parts:
    """GDPO (Liu et al. 2026): R and G, as far as they count, and the negated length penalty."""
    return *(rewards_of(verdict, counted) or ()), -penalty


@dataclass(frozen=True, slots=True)
class Scheme:
    """The steps from a group's verdicts to its advantages; parts are normalised separately and then added."""

    reward: Callable[[Verdict, bool, RewardParts], float | None]  # of a verdict and its prompt's harmful label
    normalise: Callable[[Sequence[float]], Advantages]  # one part, over the scored samples of a group
    parts: Callable[[Verdict, float, float, RewardParts], Parts] = single_part  # of a verdict, reward, length penalty
    normalise_round: Callable[[Sequence[float]], Advantages] | None = None  # all advantages of a round, once more


SCHEMES = {
    "grpo": Scheme(total_reward, standardised),
    "dr_grpo": Scheme(total_reward, centred),
    "rloo": Scheme(total_reward, leave_one_out),
    "gdpo": Scheme(total_reward, standardised, separate_parts, standardised),
    "gated": Scheme(gated_reward, standardised),
}
