"""Verdicts to advantages, group by group (pure).

A failed verdict is unscorable: it has no reward, is no part of its group's mean or deviation, and is not trained on.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from rapo_ray.config.learning import CreditConfig
from rapo_ray.types import Group, Sample, Status, Verdict

STD_FLOOR = 1e-4  # added to the deviation, as in the paper's trainer (TRL)

Advantages = list[float]


def total_reward(verdict: Verdict) -> float | None:
    """The paper's total R + G, or None where the verdict is unscorable."""
    if verdict.risk is None or verdict.general is None:
        return None
    return verdict.risk + verdict.general


def is_unsafe(verdict: Verdict, harmful: bool) -> bool:
    """The raw safety label: a harmful prompt was not refused, or a completion has no answer to speak of."""
    return verdict.status is Status.MALFORMED or (harmful and verdict.general != 1)


def gated_reward(verdict: Verdict, harmful: bool) -> float | None:
    """Safety, then reasoning, then helpfulness, in [-3, 1.25]; None where the verdict is unscorable.

    Unsafe outcomes have -2.5 + R/2, at most -2; safe ones R + H/4, at least -1.25, where H is a benign prompt's G.
    """
    if verdict.risk is None or verdict.general is None:
        return None
    if is_unsafe(verdict, harmful):
        return -2.5 + verdict.risk / 2
    return verdict.risk + (0.0 if harmful else verdict.general / 4)


def standardised(rewards: Sequence[float]) -> Advantages:
    """GRPO (Shao et al. 2024): centred, over the sample deviation."""
    variance = math.fsum(value**2 for value in centred(rewards)) / (len(rewards) - 1)
    return [value / (math.sqrt(variance) + STD_FLOOR) for value in centred(rewards)]


def centred(rewards: Sequence[float]) -> Advantages:
    """Dr. GRPO (Liu et al. 2025): minus the mean."""
    mean = math.fsum(rewards) / len(rewards)
    return [reward - mean for reward in rewards]


def leave_one_out(rewards: Sequence[float]) -> Advantages:
    """RLOO (Ahmadian et al. 2024): minus the mean of the others."""
    return [value * len(rewards) / (len(rewards) - 1) for value in centred(rewards)]


_OF_ONE_REWARD: dict[str, Callable[[Sequence[float]], Advantages]] = {
    "grpo": standardised,
    "gated": standardised,
    "dr_grpo": centred,
    "rloo": leave_one_out,
}


def verdict_reward(verdict: Verdict, harmful: bool, config: CreditConfig) -> float | None:
    """What the scheme ranks by: the gated reward, or the paper's total."""
    return gated_reward(verdict, harmful) if config.scheme == "gated" else total_reward(verdict)


def length_penalty(sample: Sample, config: CreditConfig) -> float:
    """DAPO's soft over-long punishment (Yu et al. 2025): rises over `credit.overlong` to `credit.overlong_penalty`."""
    if config.overlong is None:
        return 0.0
    start, end = config.overlong
    beyond = (len(sample.rollout.tokens) - start) / (end - start)
    return config.overlong_penalty * min(1.0, max(0.0, beyond))


def counts(sample: Sample, config: CreditConfig) -> bool:
    """True where the sample is part of its group's mean, deviation and loss; what is not counts nowhere."""
    masked = config.truncated == "mask" and sample.rollout.truncated
    return sample.verdict.scorable and not masked


def assign_credit(groups_P: Sequence[Group], config: CreditConfig) -> tuple[Group, ...]:
    """The groups with rewards and advantages; a group that the filter drops has rewards alone."""
    credited = [_credited(group, config) for group in groups_P]
    return tuple(_whitened(credited) if config.scheme == "gdpo" else credited)


def has_signal(group: Group, config: CreditConfig) -> bool:
    """True where the group's samples differ in what `credit.filter` looks at."""
    return _differ(group, _rewards(group, config), config)


def _differ(group: Group, rewards_G: Sequence[float | None], config: CreditConfig) -> bool:
    counted = [(s, reward) for s, reward in zip(group.samples_G, rewards_G, strict=True) if reward is not None]
    if config.filter == "label":
        harmful = group.prompt.harmful
        return len({(is_unsafe(s.verdict, harmful), s.verdict.general) for s, _ in counted}) > 1
    if config.scheme == "gdpo":
        return len({_parts(s, config) for s, _ in counted}) > 1
    return len({reward for _, reward in counted}) > 1


def _rewards(group: Group, config: CreditConfig) -> list[float | None]:
    """Of each sample; None of one that does not count."""
    harmful = group.prompt.harmful
    return [_reward(sample, harmful, config) for sample in group.samples_G]


def _reward(sample: Sample, harmful: bool, config: CreditConfig) -> float | None:
    if not counts(sample, config):
        return None
    reward = verdict_reward(sample.verdict, harmful, config)
    return None if reward is None else reward - length_penalty(sample, config)


def _parts(sample: Sample, config: CreditConfig) -> tuple[float, ...]:
    """What gdpo standardises apart, of a sample that counts."""
    return sample.verdict.risk or 0.0, sample.verdict.general or 0.0, -length_penalty(sample, config)


def _credited(group: Group, config: CreditConfig) -> Group:
    rewards_G = _rewards(group, config)
    advantages_G: list[float | None] = [None] * len(rewards_G)
    if _differ(group, rewards_G, config):
        advantages = iter(_advantages(group, rewards_G, config))
        advantages_G = [None if reward is None else next(advantages) for reward in rewards_G]
    samples_G = tuple(
        Sample(sample.rollout, sample.completion, sample.verdict, reward, advantage)
        for sample, reward, advantage in zip(group.samples_G, rewards_G, advantages_G, strict=True)
    )
    return replace(group, samples_G=samples_G)


def _advantages(group: Group, rewards_G: Sequence[float | None], config: CreditConfig) -> Advantages:
    """Of the samples that count."""
    if config.scheme == "gdpo":
        counted = [s for s, reward in zip(group.samples_G, rewards_G, strict=True) if reward is not None]
        parts = zip(*(_parts(sample, config) for sample in counted), strict=True)
        return [math.fsum(values) for values in zip(*(standardised(part) for part in parts), strict=True)]
    return _OF_ONE_REWARD[config.scheme]([reward for reward in rewards_G if reward is not None])


def _whitened(groups_P: Sequence[Group]) -> list[Group]:
    """GDPO (Liu et al. 2026): the sums of the parts' advantages once more over the deviation of the whole round."""
    values = [s.advantage for group in groups_P for s in group.samples_G if s.advantage is not None]
    if len(values) < 2:
        return list(groups_P)
    scaled = iter(standardised(values))
    return [
        replace(
            group,
            samples_G=tuple(s if s.advantage is None else replace(s, advantage=next(scaled)) for s in group.samples_G),
        )
        for group in groups_P
    ]
