"""Verdicts to advantages, group by group (pure).

A failed verdict is unscorable: it has no reward, is no part of its group's mean or deviation, and is not trained on.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from rapo_ray.config.learning import CreditConfig
from rapo_ray.reward.schemes import SCHEMES, Advantages, Parts, Scheme, is_unsafe
from rapo_ray.types import Group, Sample


def assign_credit(groups_P: Sequence[Group], config: CreditConfig, multiplier: float = 0.0) -> tuple[Group, ...]:
    """The groups with rewards and advantages; a zero-variance group gets rewards but no advantages.

    `multiplier` is the additional weight of G in the advantages of benign prompts (`credit.over_refusal_bound`).
    """
    credited_P = [_credited(group, config, 0.0 if group.prompt.harmful else multiplier) for group in groups_P]
    return tuple(_normalised_over_round(credited_P, SCHEMES[config.scheme]))


def has_signal(group: Group, config: CreditConfig) -> bool:
    """True where the group's samples differ in what `credit.filter` compares; otherwise it has zero variance."""
    return _differ(group, _rewards(group, config), config)


def length_penalty(sample: Sample, config: CreditConfig) -> float:
    """DAPO's soft over-long punishment (Yu et al. 2025): rises over `credit.overlong` to `credit.overlong_penalty`."""
    if config.overlong is None:
        return 0.0
    start, end = config.overlong
    beyond = (len(sample.rollout.tokens) - start) / (end - start)
    return config.overlong_penalty * min(1.0, max(0.0, beyond))


def _credited(group: Group, config: CreditConfig, multiplier: float) -> Group:
    rewards_G = _rewards(group, config)
    advantages_G: list[float | None] = [None] * len(rewards_G)
    general = _general(group, rewards_G)
    if _differ(group, rewards_G, config) or (multiplier and len(set(general)) > 1):
        scheme = SCHEMES[config.scheme]
        advantages = iter(_weighted(_advantages(_parts(group, rewards_G, config), scheme), general, multiplier, scheme))
        advantages_G = [None if reward is None else next(advantages) for reward in rewards_G]
    samples_G = tuple(
        Sample(sample.rollout, sample.completion, sample.verdict, reward, advantage)
        for sample, reward, advantage in zip(group.samples_G, rewards_G, advantages_G, strict=True)
    )
    return replace(group, samples_G=samples_G)


def _rewards(group: Group, config: CreditConfig) -> list[float | None]:
    """The reward of each sample; None for a sample that counts nowhere: in no mean, no deviation and no loss."""
    return [_reward(sample, group.prompt.harmful, config) for sample in group.samples_G]


def _reward(sample: Sample, harmful: bool, config: CreditConfig) -> float | None:
    if config.truncated == "mask" and sample.rollout.truncated:
        return None
    reward = SCHEMES[config.scheme].reward(sample.verdict, harmful, config.parts)
    return None if reward is None else reward - length_penalty(sample, config)


def _differ(group: Group, rewards_G: Sequence[float | None], config: CreditConfig) -> bool:
    if config.filter == "label":
        harmful = group.prompt.harmful
        verdicts = [s.verdict for s, reward in zip(group.samples_G, rewards_G, strict=True) if reward is not None]
        return len({(is_unsafe(verdict, harmful), verdict.general) for verdict in verdicts}) > 1
    return len(set(_parts(group, rewards_G, config))) > 1


def _parts(group: Group, rewards_G: Sequence[float | None], config: CreditConfig) -> list[Parts]:
    """The scheme's parts of every sample that has a reward."""
    parts = SCHEMES[config.scheme].parts
    return [
        parts(sample.verdict, reward, length_penalty(sample, config), config.parts)
        for sample, reward in zip(group.samples_G, rewards_G, strict=True)
        if reward is not None
    ]


def _general(group: Group, rewards_G: Sequence[float | None]) -> list[float]:
    """G of every sample that has a reward."""
    pairs = zip(group.samples_G, rewards_G, strict=True)
    return [s.verdict.general or 0.0 for s, reward in pairs if reward is not None]


def _advantages(parts: Sequence[Parts], scheme: Scheme) -> Advantages:
    normalised = [scheme.normalise(part) for part in zip(*parts, strict=True)]
    return [math.fsum(values) for values in zip(*normalised, strict=True)]


def _weighted(advantages: Advantages, general: Sequence[float], multiplier: float, scheme: Scheme) -> Advantages:
    """The advantages and `multiplier` times those of G alone: a weight within the reward would be divided out again."""
    if not multiplier:
        return advantages
    return [one + multiplier * part for one, part in zip(advantages, scheme.normalise(general), strict=True)]


def _normalised_over_round(groups_P: Sequence[Group], scheme: Scheme) -> Sequence[Group]:
    values = [s.advantage for group in groups_P for s in group.samples_G if s.advantage is not None]
    if scheme.normalise_round is None or len(values) < 2:
        return groups_P
    scaled = iter(scheme.normalise_round(values))
    return [
        replace(
            group,
            samples_G=tuple(s if s.advantage is None else replace(s, advantage=next(scaled)) for s in group.samples_G),
        )
        for group in groups_P
    ]
