"""Supervised fine-tuning on one DeepSpeed rank: the token-mean loss over completions (without Ray)."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from rapo_ray.config.learning import PolicyConfig
from rapo_ray.config.run import WarmupConfig
from rapo_ray.errors import TrainingError
from rapo_ray.trainer import flash_attn_stand_in
from rapo_ray.trainer.batch import Step, plan_steps
from rapo_ray.trainer.deepspeed_setup import backward, gathered_on, load_policy, make_engine, whole_parameters
from rapo_ray.trainer.model import ActionLogProbs, collate, save_language_model
from rapo_ray.types import Sequence

WARMUP_SHARE = 0.1  # of the optimizer steps, over which the learning rate warms up


def plan_epochs(sequences: list[Sequence], warmup: WarmupConfig, policy: PolicyConfig, seed: int) -> list[list[Step]]:
    """The steps of all epochs as `[rank][step]`, each epoch shuffled by the seed."""
    shares: list[list[Step]] = [[] for _ in range(policy.ranks)]
    for epoch in range(warmup.epochs):
        order = list(sequences)
        random.Random(f"{seed}/{epoch}").shuffle(order)
        for start in range(0, len(order), warmup.batch_size):
            batch = order[start : start + warmup.batch_size]
            plan = plan_steps(batch, 1, policy.ranks, policy.micro_batch_tokens, policy.row_tokens)
            for share, steps in zip(shares, plan, strict=True):
                share += steps
    return shares


class SftRank:
    """A DeepSpeed engine that trains on demonstrations."""

    def __init__(
        self, model: Path, tokenizer: Any, warmup: WarmupConfig, policy: PolicyConfig, total_steps: int
    ) -> None:
        from transformers import get_scheduler

        flash_attn_stand_in.provide()
        from openrlhf.models.loss import SFTLoss

        self._tokenizer = tokenizer
        self._ranks = policy.ranks
        self._zero_stage = policy.zero_stage
        self._loss: Any = SFTLoss(token_level_loss=True)
        language_model = load_policy(model, policy)
        self._engine = make_engine(
            ActionLogProbs(language_model, temperature=1.0),
            policy,
            warmup.learning_rate,
            policy.ranks,
            lambda optimizer: get_scheduler("linear", optimizer, int(WARMUP_SHARE * total_steps), total_steps),
        )

    def run(self, steps: list[Step]) -> Iterator[dict[str, float]]:
        """Take the optimizer steps and yield the loss of each; raises TrainingError on a non-finite loss."""
        for number, step in enumerate(steps, start=1):
            total = sum(self._forward_backward(step, index) for index in range(len(step.micro_batches)))
            self._engine.step()
            yield {"step": number, "loss": total, "learning_rate": float(self._engine.get_lr()[0])}

    def _forward_backward(self, step: Step, index: int) -> float:
        micro_batch = step.micro_batches[index]
        batch = collate(micro_batch).to(self._engine.device)
        logprobs, _ = self._engine(batch)
        mask = batch.action_mask.float()
        loss = self._loss(logprobs, mask, dp_size=self._ranks, batch_num_tokens=float(step.total_tokens))
        if not torch.isfinite(loss):
            raise TrainingError(f"warm-up: the loss is {float(loss)}; lower warmup.learning_rate")
        backward(self._engine, loss * 0.0 if micro_batch.filler else loss)
        return 0.0 if micro_batch.filler else float(loss.detach())

    def export(self, folder: Path, write: bool) -> None:
        """Gather the model on all ranks; the rank with `write` writes it with its tokenizer."""
        model = self._engine.module.language_model
        state = gathered_on(write, whole_parameters(model, self._zero_stage, torch.float32, self._engine.device))
        if write:
            save_language_model(model, state, folder, "float32")
            self._tokenizer.save_pretrained(folder)
