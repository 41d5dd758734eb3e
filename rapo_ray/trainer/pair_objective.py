"""DPO and IPO on online pairs: OpenRLHF's loss over sequence log-probs (a test checks that it matches TRL's)."""

from typing import Any

import torch

from rapo_ray.config.learning import PolicyConfig
from rapo_ray.trainer import flash_attn_stand_in
from rapo_ray.trainer.objective import LossTerms, TokenInputs


class PairObjective:
    """Pair loss of a micro-batch whose sequences alternate between chosen and rejected."""

    def __init__(self, config: PolicyConfig, num_ranks: int) -> None:
        flash_attn_stand_in.provide()
        from openrlhf.models.loss import DPOLoss

        self._config = config
        self._num_ranks = num_ranks
        self._loss: Any = DPOLoss(config.pair_beta, ipo=config.objective == "ipo")

    def __call__(self, inputs: TokenInputs, total_sequences: int, total_tokens: int) -> LossTerms:
        """Compute a micro-batch's share of the mean over the step's pairs; gradients are averaged over ranks."""
        assert inputs.reference_logprobs is not None, "the pair loss needs reference log-probs"
        policy = self._scores(inputs.logprobs, inputs.mask)
        reference = self._scores(inputs.reference_logprobs, inputs.mask)
        loss, chosen, rejected = self._loss(policy[0::2], policy[1::2], reference[0::2], reference[1::2])
        pairs = float(len(chosen))
        tokens = float(inputs.mask.sum())
        drift = (inputs.logprobs.detach() - inputs.reference_logprobs) * inputs.mask
        sums = {
            "tokens": tokens,
            "kl": float(drift.sum()),
            "pairs": pairs,
            "pair_accuracy": float((chosen > rejected).float().sum()),
            "pair_margin": float((chosen - rejected).sum()),
        }
        share = pairs / (total_sequences / 2)
        return LossTerms(loss * share * self._num_ranks, sums)

    def _scores(self, logprobs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        total = (logprobs * mask).sum(-1)
        # IPO's squared loss would grow with length: its authors use the average over tokens (as TRL does)
        return total / mask.sum(-1).clamp(min=1) if self._config.objective == "ipo" else total
