"""Attention of the update, behind transformers' interface: the mask that a layer gets says which kernel computes it.

On CPU it is plain matrix products, with the query heads that share a key head side by side: on rows as short as ours
PyTorch's CPU kernel stays far below the machine's matmul rate. They keep the attention probabilities for the backward
pass, so longer rows fall back to PyTorch. In bfloat16, scores are rounded before the softmax, as in transformers' eager
attention. On GPUs it is torch's varlen attention, FlexAttention or SDPA (`packing.choose`); unverified on a GPU.
"""

from collections.abc import Callable
from functools import cache
from inspect import signature
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.attention.varlen import varlen_attn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

from rapo_ray.errors import ModelError
from rapo_ray.trainer.packing import Choice, Layers, Packing

NAME = "rapo"
LONGEST = 1024  # tokens; up to here a row's probabilities are about as large as the layer's other activations
UNKNOWN_TO_SDPA = ("softcap", "s_aux")  # keywords that transformers' SDPA would pass over in silence
UNKNOWN_TO_KERNELS = (*UNKNOWN_TO_SDPA, "sliding_window", "position_bias")
GROUPS_ARE_SAID = "enable_gqa" in signature(varlen_attn).parameters  # torch 2.11 takes fewer key heads without a word

Mask = torch.Tensor | BlockMask | None


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Mask,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attend from queries [B, H, L, D] to keys and values [B, K, L, D], K a divisor of H; returns [B, L, H, D].

    The mask is one that `mask_for` or transformers made. Raises ModelError if a layer wants what the kernel has not.
    """
    kernel = isinstance(attention_mask, BlockMask) or (
        attention_mask is not None and attention_mask.dtype == torch.int32
    )
    for name in UNKNOWN_TO_KERNELS if kernel else UNKNOWN_TO_SDPA:
        if others.get(name) is not None:
            raise ModelError(f"{type(module).__name__}: attention with `{name}` is not supported yet")
    if isinstance(attention_mask, BlockMask):
        return _flex(query, key, value, attention_mask, scaling), None
    if kernel:
        return _varlen(query, key, value, attention_mask, scaling), None
    plain = not dropout and others.get("position_bias") is None
    if _fits_products(query, key, attention_mask) and plain:
        return grouped_attention(query, key, value, attention_mask, scaling), None
    out, _ = sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
    )
    return out, None


def _varlen(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, scaling: float | None
) -> torch.Tensor:
    """Causal attention within each of the lengths that `Packing.cumulative` holds."""
    ends, longest = mask[0, 0, 0], mask.shape[2]
    query, key, value = (each.transpose(1, 2).squeeze(0) for each in (query, key, value))
    causal = (-1, 0)
    grouped: dict[str, Any] = {"enable_gqa": True} if GROUPS_ARE_SAID else {}
    out = varlen_attn(query, key, value, ends, ends, longest, longest, scale=scaling, window_size=causal, **grouped)
    assert isinstance(out, torch.Tensor)  # nothing else is requested
    return out.unsqueeze(0)


def _flex(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: BlockMask, scaling: float | None
) -> torch.Tensor:
    out = compiled_flex()(query, key, value, block_mask=mask, scale=scaling, enable_gqa=True)
    return out.transpose(1, 2).contiguous()


@cache
def compiled_flex() -> Callable[..., torch.Tensor]:
    """FlexAttention, compiled on its first call; past the limit of recompilations an error, not the slow dense form."""
    return torch.compile(flex_attention, dynamic=True, fullgraph=True)


def _fits_products(query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None) -> bool:
    short = key.shape[2] == query.shape[2] <= LONGEST
    return short and query.device.type == "cpu" and (mask is None or mask.dtype == torch.bool)


def grouped_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, visible: torch.Tensor | None, scaling: float | None
) -> torch.Tensor:
    """Attend as `attend` does, by matrix products.

    The mask is boolean [B or 1, 1, L, L], true where a key is visible; None means causal.
    """
    rows, heads, length, width = query.shape
    shared = key.shape[1]
    group = heads // shared
    hidden = additive(visible, length, query.dtype).repeat(1, 1, group, 1)
    biases = hidden.expand(rows, shared, -1, -1).reshape(rows * shared, group * length, length)
    queries = query.reshape(rows * shared, group * length, width)
    keys, values = (each.reshape(rows * shared, length, -1) for each in (key, value))
    scores = torch.baddbmm(biases, queries, keys.transpose(1, 2), alpha=scaling or width**-0.5)
    out = torch.bmm(torch.softmax(scores, dim=-1), values)
    return out.view(rows, heads, length, -1).transpose(1, 2).contiguous()


def additive(visible: torch.Tensor | None, length: int, dtype: torch.dtype) -> torch.Tensor:
    """Bias [B or 1, 1, L, L] that is added to scores: the lowest number of `dtype` at masked positions."""
    if visible is None:
        visible = torch.ones(1, 1, length, length, dtype=torch.bool).tril()
    zeros = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return zeros.masked_fill_(~visible, torch.finfo(dtype).min)


def mask_for(
    choice: Choice, packing: Packing, positions: torch.Tensor, layers: Layers, dtype: torch.dtype
) -> Mask | dict[str, torch.Tensor]:
    """Mask for a model's forward pass, of four dimensions, which transformers hands to the layers as it is.

    None where each row is one sequence: causal, or the masks that transformers makes. A dictionary by type of layer
    where some have a sliding window, whose tokens are counted by positions [R, L] within each sequence.
    """
    if choice.path == "causal":
        return None
    if choice.path == "varlen":
        return packing.cumulative()
    if choice.path == "flex":
        return packing.blocks()
    visible = packing.dense()

    def form(mask: torch.Tensor) -> torch.Tensor:
        # On GPUs SDPA would make this of a boolean mask in every layer, and keep each for the backward pass.
        return mask if mask.device.type == "cpu" else additive(mask, mask.shape[-1], dtype)

    if layers.window is None:
        return form(visible)
    distances = positions[:, None, :, None] - positions[:, None, None, :]
    windowed = form(visible & (distances < layers.window))
    return {"full_attention": form(visible), "sliding_attention": windowed} if layers.mixed else windowed


def set_on(model: Any) -> None:
    """Let a transformers model attend by `attend`."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)
