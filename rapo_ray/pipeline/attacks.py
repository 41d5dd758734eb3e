"""A run's prompts, and the one place where its attacker is built."""

from typing import TYPE_CHECKING

from rapo_ray.attacks.attacker import Attacker
from rapo_ray.attacks.bandit import Bandit
from rapo_ray.config import RunConfig
from rapo_ray.config.attack import AttackConfig
from rapo_ray.data.sampler import PromptSampler
from rapo_ray.orchestrator.prompts import Limits, RoundAttacks, TrainingPrompts
from rapo_ray.pipeline.inputs import Inputs

if TYPE_CHECKING:
    from actors.rollout_group import RolloutGroup


def training_prompts(config: RunConfig, inputs: Inputs, rollouts: "RolloutGroup") -> TrainingPrompts:
    """The source of a run's prompts, with its attacker if the config has one."""
    sampler = PromptSampler(inputs.train_P, config.prompts_per_round, config.seed)
    if config.data.attack is None:
        return TrainingPrompts(sampler, None)
    limits = Limits(inputs.guard, rollouts.prompt_lengths, config.rollout.max_prompt_tokens)
    attacker = build_attacker(config.data.attack, config.seed)
    return TrainingPrompts(sampler, RoundAttacks(attacker, config.attacked_pairs, limits, config.seed))


def build_attacker(config: AttackConfig, seed: int) -> Attacker:
    """The attacker that a config names."""
    return Bandit(config.trained, config.max_k, seed)
