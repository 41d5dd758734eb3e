"""CPU attention as plain matrix products, with the query heads that share a key head side by side.

On rows as short as ours PyTorch's CPU kernel stays far below the machine's matmul rate. This version keeps the
attention probabilities for the backward pass, so longer rows fall back to PyTorch. In bfloat16, scores are rounded
before the softmax, as in transformers' eager attention.
"""

from typing import Any

import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

NAME = "rapo_grouped"
LONGEST = 1024  # tokens; up to here a row's probabilities are about as large as the layer's other activations


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attend from queries [B, H, L, D] to keys and values [B, K, L, D], K a divisor of H; returns [B, L, H, D].

    The mask is boolean [B or 1, 1, L, L], true where a key is visible; None means causal.
    """
    rows, heads, length, width = query.shape
    fits = key.shape[2] == length <= LONGEST and not dropout and others.get("position_bias") is None
    if not fits or (attention_mask is not None and attention_mask.dtype != torch.bool):
        out, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
        return out, None
    shared = key.shape[1]
    group = heads // shared
    hidden = _hidden(attention_mask, length, query.dtype).repeat(1, 1, group, 1)
    biases = hidden.expand(rows, shared, -1, -1).reshape(rows * shared, group * length, length)
    queries = query.reshape(rows * shared, group * length, width)
    keys, values = (each.reshape(rows * shared, length, -1) for each in (key, value))
    scores = torch.baddbmm(biases, queries, keys.transpose(1, 2), alpha=scaling or width**-0.5)
    out = torch.bmm(torch.softmax(scores, dim=-1), values)
    return out.view(rows, heads, length, -1).transpose(1, 2).contiguous(), None


def _hidden(visible: torch.Tensor | None, length: int, dtype: torch.dtype) -> torch.Tensor:
    """Bias [B or 1, 1, L, L] that is added to scores: the lowest number of `dtype` at masked positions."""
    if visible is None:
        visible = torch.ones(1, 1, length, length, dtype=torch.bool).tril()
    return torch.zeros(visible.shape, dtype=dtype).masked_fill_(~visible, torch.finfo(dtype).min)


def register() -> None:
    """Register the attention with transformers as `NAME`; idempotent."""
    AttentionInterface.register(NAME, grouped_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
