"""The language model as the update uses it: log-probs of action tokens, with no full logits materialized."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from rapo_ray.errors import ModelError
from rapo_ray.trainer import attention
from rapo_ray.trainer.batch import MicroBatch
from rapo_ray.trainer.head import ActionHead
from rapo_ray.trainer.packing import Choice, Packing, as_one_row, choose, layers_of, size_as_one_row
from rapo_ray.types import Sequence

if TYPE_CHECKING:  # the GPU check runs where pydantic may be missing
    from rapo_ray.config.learning import PolicyConfig


@dataclass(frozen=True, slots=True)
class Collated:
    """A micro-batch as tensors: R right-padded rows with S sequences and N action tokens in total."""

    tokens: torch.Tensor  # [R, L] int64
    positions: torch.Tensor  # [R, L] int64, counted within each sequence
    packing: Packing
    sources: torch.Tensor  # [N] position in the flattened rows whose hidden state predicts each action token
    labels: torch.Tensor  # [N] int64
    action_mask: torch.Tensor  # [S, T] bool

    def to(self, device: torch.device) -> "Collated":
        """Copy the micro-batch to a device."""
        moved = (part.to(device) for part in (self.sources, self.labels, self.action_mask))
        return Collated(self.tokens.to(device), self.positions.to(device), self.packing.to(device), *moved)


@dataclass(slots=True)
class _Layout:
    """One row: each token's position, the start of its prompt, and the completion that it belongs to (0: none)."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    origins: list[int] = field(default_factory=list)
    branches: list[int] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)

    def add(self, tokens: tuple[int, ...], first_position: int, origin: int, branch: int) -> None:
        """Append tokens to the row."""
        self.tokens += tokens
        self.positions += range(first_position, first_position + len(tokens))
        self.origins += [origin] * len(tokens)
        self.branches += [branch] * len(tokens)


def _lay_out(row: tuple[Sequence, ...]) -> _Layout:
    layout = _Layout()
    before: tuple[int, ...] | None = None
    origin = 0
    for branch, sequence in enumerate(row, start=1):
        prompt, completion = sequence.prompt, sequence.completion
        if prompt != before:
            origin, before = len(layout.tokens), prompt
            layout.add(prompt, 0, origin, 0)
        start = len(layout.tokens)
        layout.add(completion, len(prompt), origin, branch)
        # the prompt's last token predicts the completion's first, which need not come right after it
        layout.sources += [origin + len(prompt) - 1, *range(start, start + len(completion) - 1)]
    return layout


def _packing(layouts: list[_Layout], width: int) -> Packing:
    origins, branches = [], []
    for number, layout in enumerate(layouts):
        start, length = number * width, len(layout.tokens)
        padding = width - length
        origins.append([start + origin for origin in layout.origins] + [start + length] * padding)
        branches.append(layout.branches + [0] * padding)
    tokens = len(layouts) * width
    starts = {origin for row in origins for origin in row}
    ends = torch.tensor(sorted({*starts, tokens, size_as_one_row(len(layouts), width)}))
    prompts = sum(len(set(layout.origins)) for layout in layouts)
    sequences = sum(max(layout.branches) for layout in layouts)
    return Packing(
        torch.tensor(origins, dtype=torch.int32),
        torch.tensor(branches, dtype=torch.int32),
        ends.int(),
        longest=int(ends.diff().max()),
        several=sequences > len(layouts),
        shared=sequences > prompts,
    )


def collate(micro_batch: MicroBatch) -> Collated:
    """Lay out a micro-batch as tensors; a token attends to earlier tokens of its own sequence only."""
    layouts = [_lay_out(row) for row in micro_batch.rows]
    width = max(len(layout.tokens) for layout in layouts)

    # Positions count on behind a row: one that starts over at 0 tells transformers that sequences are packed, and it
    # builds a mask [R, 1, L, L], which flash attention does not take.
    positions = [
        [*layout.positions, *range(layout.positions[-1] + 1, layout.positions[-1] + 1 + width - len(layout.positions))]
        for layout in layouts
    ]

    tokens = [layout.tokens + [0] * (width - len(layout.tokens)) for layout in layouts]
    sequences = micro_batch.sequences
    longest = max(len(sequence.completion) for sequence in sequences)
    lengths = torch.tensor([len(sequence.completion) for sequence in sequences])
    sources = [number * width + source for number, layout in enumerate(layouts) for source in layout.sources]
    labels = [token for sequence in sequences for token in sequence.completion]
    return Collated(
        torch.tensor(tokens, dtype=torch.long),
        torch.tensor(positions, dtype=torch.long),
        _packing(layouts, width),
        torch.tensor(sources, dtype=torch.long),
        torch.tensor(labels, dtype=torch.long),
        torch.arange(longest) < lengths.unsqueeze(1),
    )


def scatter_to_mask(values_per_sequence: list[tuple[float, ...]], action_mask: torch.Tensor) -> torch.Tensor:
    """Scatter ragged per-token values [S][T] to the action positions of an [S, T] tensor."""
    out = torch.zeros(action_mask.shape, dtype=torch.float32, device=action_mask.device)
    flat = [value for row in values_per_sequence for value in row]
    out[action_mask] = torch.tensor(flat, dtype=torch.float32, device=action_mask.device)
    return out


class ActionLogProbs(nn.Module):
    """A causal language model whose forward pass returns the log-probs of the action tokens.

    Its layers attend as `attention.attend` does. Only hidden states that predict an action token are projected onto the
    vocabulary.
    """

    def __init__(self, language_model: Any, temperature: float) -> None:
        super().__init__()
        attention.set_on(language_model)
        self.language_model = language_model
        self.head = ActionHead(language_model.get_output_embeddings(), temperature)
        self.layers = layers_of(language_model)

    def attention(self, batch: Collated) -> Choice:
        """The way through attention that a batch takes; raises ModelError if the model would mix its sequences."""
        device = batch.tokens.device
        capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
        return choose(batch.packing, self.layers, self.language_model.dtype, capability)

    def forward(self, batch: Collated) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probs [S, T] with gradient, zero outside the action mask, and entropies of every fourth action token."""
        choice = self.attention(batch)
        tokens, positions = batch.tokens, batch.positions
        mask = attention.mask_for(choice, batch.packing, positions, self.layers, self.language_model.dtype)
        if choice.path in ("varlen", "flex"):  # `sources` count in the flattened rows either way
            tokens, positions = (as_one_row(part, batch.packing.size) for part in (tokens, positions))
        every = self.language_model.base_model(
            input_ids=tokens, attention_mask=mask, position_ids=positions, use_cache=False
        ).last_hidden_state.flatten(0, 1)
        # Not `every[sources]`: on CPU its gradient sums over a shared source (a group's first tokens) in any order.
        hidden = nn.functional.embedding(batch.sources, every)
        flat, entropies = self.head(hidden, batch.labels)
        out = torch.zeros(batch.action_mask.shape, dtype=torch.float32, device=flat.device)
        return out.masked_scatter(batch.action_mask, flat), entropies


def load_language_model(path: Path, dtype: str, gradient_checkpointing: bool = False) -> Any:
    """Load a causal language model from a folder; raises ModelError if its LM head is not a plain projection."""
    from transformers import AutoModelForCausalLM

    # sdpa refuses the models that need another attention than ours
    model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype), attn_implementation="sdpa")
    for name in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
        if getattr(model.config, name, None) not in (None, 1, 1.0):
            raise ModelError(f"{path}: `{name}` in its config means an LM head that is not supported yet")
    if gradient_checkpointing:
        # not reentrant: with frozen embeddings (LoRA) no gradient would reach a reentrant block
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def load_for_training(path: Path, config: "PolicyConfig") -> Any:
    """Load a model to train: in training mode, as transformers checkpoints in no other, but without dropout.

    Under ZeRO-3 it is loaded in shards (inside `deepspeed_setup.sharded_loading`).
    """
    model = load_language_model(path, config.dtype, config.gradient_checkpointing).train()
    for module in model.modules():  # the engines have none: log-probs would differ
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0
    return model


def save_language_model(model: Any, state: dict[str, torch.Tensor], folder: Path, dtype: str) -> None:
    """Write `state`, whose tensors are in `dtype`, as safetensors with a config that names that dtype."""
    model.save_pretrained(folder, state_dict=state, safe_serialization=True)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["dtype"] = dtype  # transformers writes the module's, which may differ
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
