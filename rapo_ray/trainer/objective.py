"""The RAPO objective: OpenRLHF's clipped policy loss, with its KL estimators against the frozen reference.

At equal settings it matches TRL's GRPO loss (a test checks agreement to 1e-5).
"""

from dataclasses import dataclass, field
from typing import Any

import torch

from rapo_ray.config.learning import PolicyConfig
from rapo_ray.trainer import flash_attn_stand_in


@dataclass(frozen=True, slots=True)
class TokenInputs:
    """Per-token inputs of the loss, all [S, T] over the action mask."""

    logprobs: torch.Tensor
    old_logprobs: torch.Tensor
    rollout_logprobs: torch.Tensor
    reference_logprobs: torch.Tensor | None
    advantages: torch.Tensor  # [S, 1]
    mask: torch.Tensor  # float


@dataclass(frozen=True, slots=True)
class LossTerms:
    """The loss to differentiate, and sums over action tokens for the metrics."""

    loss: torch.Tensor
    sums: dict[str, float] = field(default_factory=dict)


class Objective:
    """Policy loss plus weighted KL, averaged over the whole step on all ranks."""

    def __init__(self, config: PolicyConfig, num_ranks: int) -> None:
        flash_attn_stand_in.provide()
        from openrlhf.models.loss import PolicyLoss, aggregate_loss
        from openrlhf.models.utils import compute_approx_kl

        self._config = config
        self._num_ranks = num_ranks
        self._aggregate: Any = aggregate_loss
        self._kl: Any = compute_approx_kl
        level = {"off": "off", "token": "token", "sequence": "seq"}[config.importance_correction]
        self._policy_loss = PolicyLoss(
            clip_eps_low=config.clip_low,
            clip_eps_high=config.clip_high,
            token_level_loss=config.loss_mean == "token",
            is_correction_level=level,
            is_correction_mode="clip" if level == "token" else "mask",
            is_correction_threshold=list(config.importance_bounds),
        )

    def __call__(self, inputs: TokenInputs, total_sequences: int, total_tokens: int) -> LossTerms:
        """Compute a micro-batch's share of the loss of a step with these totals; gradients are averaged over ranks."""
        totals = {
            "dp_size": self._num_ranks,
            "batch_num_tokens": float(total_tokens),
            "global_batch_size": float(total_sequences),
        }
        loss, clip_share, *_ = self._policy_loss(
            inputs.logprobs,
            inputs.old_logprobs,
            inputs.advantages,
            action_mask=inputs.mask,
            rollout_log_probs=inputs.rollout_logprobs,
            **totals,
        )
        tokens = float(inputs.mask.sum())
        sums = {"tokens": tokens, "clipped": float(clip_share) * tokens}
        if inputs.reference_logprobs is not None:
            kl = self._kl(inputs.logprobs, inputs.reference_logprobs, kl_estimator=self._config.kl_estimator)
            by_token = self._config.loss_mean == "token"
            penalty = self._aggregate(kl, inputs.mask, token_level_loss=by_token, **totals)
            loss = loss + self._config.kl_coef * penalty
            sums["kl"] = float((kl.detach() * inputs.mask).sum())
        return LossTerms(loss, sums)
