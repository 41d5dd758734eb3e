"""A run's prompts, and the one place where its attacker is built."""

from collections.abc import Sequence

from rapo_ray.attacks.attacker import Attacker
from rapo_ray.attacks.bandit import Bandit
from rapo_ray.config import RunConfig
from rapo_ray.config.attack import AttackConfig
from rapo_ray.data.sampler import PromptSampler
from rapo_ray.orchestrator.prompts import Lengths, Limits, RoundAttacks, TrainingPrompts
from rapo_ray.pipeline.inputs import Inputs


def training_prompts(config: RunConfig, inputs: Inputs, lengths: Lengths) -> TrainingPrompts:
    """The source of a run's prompts, with its attacker if the config has one."""
    sampler = PromptSampler(inputs.train_P, config.prompts_per_round, config.seed)
    if config.data.attack is None:
        return TrainingPrompts(sampler, None)
    limits = Limits(inputs.guard, lengths, config.rollout.max_prompt_tokens)
    attacker = build_attacker(config.data.attack, config.data.trained_families, config.seed)
    return TrainingPrompts(sampler, RoundAttacks(attacker, config.attacked_pairs, limits, config.seed))


def build_attacker(config: AttackConfig, families: Sequence[str], seed: int) -> Attacker:
    """The attacker that a config names, for these families."""
    return Bandit(families, config.max_k, seed)
