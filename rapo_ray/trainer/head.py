"""The LM head over action tokens: log-probs and entropies, one chunk of logits at a time."""

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from rapo_ray.trainer.batch import LOGIT_ROWS

ENTROPY_EVERY = 4  # entropy is a metric: a quarter of the tokens shows it at a quarter of the cost


class ActionHead(nn.Module):
    """Projects hidden states onto the vocabulary with the weights of a language model's own head.

    The weights stay registered with the language model. Under ZeRO-3 they are also external parameters of this module
    (`deepspeed_setup.make_engine`), so that they are gathered once a micro-batch: gathered once a chunk, ranks with
    other numbers of chunks would issue other collectives, and wait for each other for ever.
    """

    def __init__(self, projection: nn.Linear, temperature: float) -> None:
        super().__init__()
        self.weights = (projection.weight, projection.bias)  # in a tuple: not registered here
        self.temperature = temperature

    def forward(self, hidden: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probs [N] of labels [N] after hidden states [N, H], and the entropies of every fourth."""
        chunks = list(zip(hidden.split(LOGIT_ROWS), labels.split(LOGIT_ROWS), strict=True))
        if len(chunks) == 1 or not torch.is_grad_enabled():
            parts = [self._project(rows, labels) for rows, labels in chunks]
        else:  # one chunk's logits at a time, computed a second time for its gradient
            parts = [checkpoint(self._project, rows, labels, use_reentrant=False) for rows, labels in chunks]
        return torch.cat([logprobs for logprobs, _ in parts]), torch.cat([entropies for _, entropies in parts])

    def _project(self, rows: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weight, bias = self.weights
        logits = nn.functional.linear(rows, weight, bias)
        results: tuple[torch.Tensor, torch.Tensor] = LabelLogProbs.apply(logits, labels, self.temperature)  # type: ignore[no-untyped-call]  # torch's own
        return results


class LabelLogProbs(torch.autograd.Function):
    """Log-probs [N] of labels [N] under logits [N, V] and, without gradient, the entropy of every fourth row.

    Computed in float32 in one pass; the backward pass reuses the log-probs' memory for the logits' gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, labels: torch.Tensor, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        scaled = logits if temperature == 1 else logits.float() / temperature
        logprobs = torch.log_softmax(scaled, dim=-1, dtype=torch.float32)
        some = logprobs[::ENTROPY_EVERY]
        entropies = -(some.exp() * some).sum(-1)
        ctx.save_for_backward(logprobs, labels)
        ctx.temperature, ctx.dtype = temperature, logits.dtype
        ctx.mark_non_differentiable(entropies)
        return logprobs.gather(-1, labels.unsqueeze(-1)).squeeze(-1), entropies

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        logprobs, labels = ctx.saved_tensors
        grad = (grads[0] / ctx.temperature).unsqueeze(-1)
        out = logprobs.exp_().mul_(-grad)
        return out.scatter_add_(-1, labels.unsqueeze(-1), grad).to(ctx.dtype), None, None
