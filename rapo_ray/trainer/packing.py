"""Masks of packed rows in the forms that attention kernels take, and the kernel that a batch takes."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.nn.attention.flex_attention import BlockMask

from rapo_ray.errors import ModelError

BLOCK = 128  # tokens, a side of FlexAttention's blocks
SLAB = 8 * BLOCK  # queries whose dense mask is alive at once while blocks are counted

Visible = Callable[..., torch.Tensor]


@dataclass(frozen=True, slots=True)
class Packing:
    """The sequences in R right-padded rows of L tokens.

    Consecutive sequences of one prompt share its tokens: each is a branch, which sees the prompt and itself. A row's
    padding counts as a prompt of its own, so that every query sees a key.
    """

    origins: torch.Tensor  # [R, L] int32, where in the flattened rows each token's prompt starts
    branches: torch.Tensor  # [R, L] int32, number of each token's completion in its row; 0 in prompts
    ends: torch.Tensor  # [S + 1] int32, cumulative lengths of S prompts in one row, each with its completions
    longest: int  # tokens of the longest of these
    several: bool  # a row holds more than one sequence
    shared: bool  # sequences share a prompt

    def to(self, device: torch.device) -> "Packing":
        """Copy the description to a device."""
        origins, branches, ends = (part.to(device) for part in (self.origins, self.branches, self.ends))
        return Packing(origins, branches, ends, self.longest, self.several, self.shared)

    @property
    def size(self) -> int:
        """Tokens of the rows as one."""
        return size_as_one_row(*self.origins.shape)

    def dense(self) -> torch.Tensor:
        """Mask [R, 1, L, L], true where a key is visible."""
        rows, length = self.origins.shape
        tokens = torch.arange(length, device=self.origins.device)
        row = torch.arange(rows, device=self.origins.device).view(-1, 1, 1, 1)
        return visibility(self.origins, self.branches)(row, 0, tokens.unsqueeze(1), tokens)

    def cumulative(self) -> torch.Tensor:
        """`ends` as a mask [1, 1, longest, S + 1], which holds the longest in its shape: no kernel waits to read it."""
        return self.ends.expand(1, 1, self.longest, -1)

    def blocks(self) -> BlockMask:
        """Block mask of the rows as one, marked so that FlexAttention is compiled once for all sizes."""
        size = self.size
        origins, branches = as_one_row(self.origins, size, self.origins.numel()), as_one_row(self.branches, size)
        visible = visibility(origins, branches)
        keys = torch.arange(size, device=origins.device)
        counts = torch.cat(
            [  # not create_block_mask, which makes the dense mask of all queries at once
                visible(0, 0, queries.unsqueeze(1), keys).view(-1, BLOCK, size // BLOCK, BLOCK).sum((1, 3))
                for queries in keys.split(SLAB)
            ]
        )
        whole = counts == BLOCK * BLOCK
        mask = BlockMask.from_kv_blocks(
            *_indices((counts > 0) & ~whole),
            *_indices(whole),
            BLOCK_SIZE=BLOCK,
            mask_mod=visible,
            seq_lengths=(size, size),
        )
        for part in mask.as_tuple():
            if isinstance(part, torch.Tensor):
                torch._dynamo.maybe_mark_dynamic(part, list(range(2, part.dim())))
        return mask


def size_as_one_row(rows: int, length: int) -> int:
    """Tokens of R rows of L tokens as one row, padded to a multiple of BLOCK.

    At least two blocks, since kernels would be compiled another time for the size 1.
    """
    return max(2, math.ceil(rows * length / BLOCK)) * BLOCK


def as_one_row(rows: torch.Tensor, size: int, fill: int = 0) -> torch.Tensor:
    """Rows [R, L] one after another, padded: [1, size]."""
    return torch.nn.functional.pad(rows.reshape(1, -1), (0, size - rows.numel()), value=fill)


def visibility(origins: torch.Tensor, branches: torch.Tensor) -> Visible:
    """Mask function of FlexAttention, which says of row, head, query and key if the key is visible."""

    def visible(row: Any, head: Any, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        same = origins[row, query] == origins[row, key]
        branch = branches[row, key]
        return same & ((branch == 0) | (branches[row, query] == branch)) & (key <= query)

    return visible


def _indices(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Number [1, 1, Q] and indices [1, 1, Q, K] of the key blocks that each query block has, those first."""
    chosen = blocks[None, None].int()
    return chosen.sum(-1, dtype=torch.int32), chosen.argsort(dim=-1, descending=True, stable=True).int()


@dataclass(frozen=True, slots=True)
class Layers:
    """The attention of a model's layers, as far as it decides on masks and kernels."""

    head_size: int
    window: int | None = None  # tokens that layers with a sliding window see
    mixed: bool = False  # such layers beside others, so that masks go by the type of layer
    separable: bool = True  # masks keep the sequences of a row apart in every layer
    special: str = ""  # the reason that varlen and FlexAttention do not compute it; empty if they do


def layers_of(model: Any) -> Layers:
    """Attention of a transformers model's layers, by its config."""
    config = model.config.get_text_config()
    types = set(getattr(config, "layer_types", None) or ())
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    window = getattr(config, "sliding_window", None) if not types or "sliding_attention" in types else None
    if others := sorted(types - {"full_attention", "sliding_attention"}):
        return Layers(head_size, separable=False, special=f"layers of type {others[0]}")
    if model._is_stateful:
        return Layers(head_size, separable=False, special="recurrent layers")
    if window is not None:
        return Layers(head_size, window, mixed=bool(types), special=f"a sliding window of {window} tokens")
    if not model._supports_attention_backend:
        return Layers(head_size, special="attention of the model's own")
    if getattr(config, "v_head_dim", None) is not None:
        return Layers(head_size, special="values of another size than keys")
    return Layers(head_size)


@dataclass(frozen=True, slots=True)
class Choice:
    """A way through attention, and the reason for it.

    `varlen` and `flex` are kernels that skip what is masked, over the rows as one; `causal` and `dense` are PyTorch's
    SDPA (on CPU ours), without a mask and with one of all pairs of tokens.
    """

    path: Literal["varlen", "flex", "causal", "dense"]
    reason: str


def choose(packing: Packing, layers: Layers, dtype: torch.dtype, capability: tuple[int, int] | None) -> Choice:
    """The way through attention on a GPU of a CUDA capability, or on CPU (None).

    Raises ModelError if the rows hold sequences that the model's layers would mix.
    """
    if packing.several and not layers.separable:
        raise ModelError(
            f"rows of several sequences, but the model has {layers.special}, which would mix them: set "
            "policy.row_tokens=0 and policy.objective=clip"
        )
    if reason := _obstacle(layers, dtype, capability):
        return Choice("dense" if packing.several else "causal", reason)
    return Choice("flex", "sequences share a prompt") if packing.shared else Choice("varlen", "no prompt is shared")


def _obstacle(layers: Layers, dtype: torch.dtype, capability: tuple[int, int] | None) -> str:
    """Reason that varlen and FlexAttention do not fit; empty if they do."""
    if capability is None:
        return "on CPU"
    if capability < (8, 0):
        return f"a GPU of CUDA capability {capability[0]}.{capability[1]}, below 8.0"
    if dtype not in (torch.bfloat16, torch.float16):
        return f"{dtype}, where the kernels take 16-bit numbers"
    # Flash attention has kernels for multiples of 8 (above 192 not for every card), FlexAttention from 16 on.
    if layers.head_size % 8 or not 16 <= layers.head_size <= 192:
        return f"heads of size {layers.head_size}, not a multiple of 8 from 16 to 192"
    return layers.special
