"""Verdicts to rewards and group-relative advantages.

A failed verdict is unscorable: it has no reward, is no part of its group's mean or deviation, and is not trained on.
"""

import math
from dataclasses import replace

from rapo_ray.config import CreditConfig
from rapo_ray.types import Group, Verdict

STD_FLOOR = 1e-4  # added to the deviation, as in the paper's trainer (TRL)


def total_reward(verdict: Verdict) -> float | None:
    """The paper's total R + G, or None where the verdict is unscorable."""
    if verdict.risk is None or verdict.general is None:
        return None
    return verdict.risk + verdict.general


def assign_credit(group: Group, config: CreditConfig) -> Group:
    """The group with rewards and GRPO advantages (sample deviation); a group without variance gets none."""
    rewards_G = [total_reward(sample.verdict) for sample in group.samples_G]
    scored = [reward for reward in rewards_G if reward is not None]
    if len(scored) < 2 or max(scored) == min(scored):
        advantages_G: list[float | None] = [None] * len(rewards_G)
    else:
        mean = math.fsum(scored) / len(scored)
        variance = math.fsum((reward - mean) ** 2 for reward in scored) / (len(scored) - 1)
        scale = math.sqrt(variance) + STD_FLOOR if config.scale_by_std else 1.0
        advantages_G = [None if reward is None else (reward - mean) / scale for reward in rewards_G]
    samples_G = tuple(
        replace(sample, reward=reward, advantage=advantage)
        for sample, reward, advantage in zip(group.samples_G, rewards_G, advantages_G, strict=True)
    )
    return replace(group, samples_G=samples_G)
