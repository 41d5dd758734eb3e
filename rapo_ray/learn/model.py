"""The language model as the update sees it: log-probs of action tokens, nothing else materialised."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rapo_ray.errors import ModelError
from rapo_ray.learn.batch import MicroBatch

LOGIT_ROWS = 1024  # rows of the vocabulary projection at once; bounds the largest intermediate


@dataclass(frozen=True, slots=True)
class Collated:
    """A right-padded micro-batch; column t of the [B, L-1] tensors predicts token t+1."""

    tokens: torch.Tensor  # [B, L] int64
    attention_mask: torch.Tensor  # [B, L] int64
    action_mask: torch.Tensor  # [B, L-1] bool

    def to(self, device: torch.device) -> "Collated":
        """The same micro-batch on another device."""
        return Collated(self.tokens.to(device), self.attention_mask.to(device), self.action_mask.to(device))


def collate(micro_batch: MicroBatch) -> Collated:
    """Pad a micro-batch on the right."""
    rows = micro_batch.sequences
    width = max(len(row.tokens) for row in rows)
    tokens = torch.zeros(len(rows), width, dtype=torch.long)
    attention_mask = torch.zeros(len(rows), width, dtype=torch.long)
    action_mask = torch.zeros(len(rows), width - 1, dtype=torch.bool)
    for index, row in enumerate(rows):
        length = len(row.tokens)
        tokens[index, :length] = torch.tensor(row.tokens)
        attention_mask[index, :length] = 1
        action_mask[index, row.prompt_length - 1 : length - 1] = True
    return Collated(tokens, attention_mask, action_mask)


def spread(values_per_row: list[tuple[float, ...]], action_mask: torch.Tensor) -> torch.Tensor:
    """Lay ragged per-token values [B][T] onto the action positions of a [B, L-1] tensor."""
    out = torch.zeros(action_mask.shape, dtype=torch.float32, device=action_mask.device)
    flat = [value for row in values_per_row for value in row]
    out[action_mask] = torch.tensor(flat, dtype=torch.float32, device=action_mask.device)
    return out


class ActionLogProbs(nn.Module):
    """A causal language model whose forward returns log-probs and entropies of the action tokens.

    Hidden states are projected onto the vocabulary only where an action token is predicted.
    """

    def __init__(self, language_model: Any, temperature: float) -> None:
        super().__init__()
        self.language_model = language_model
        self.temperature = temperature

    def forward(self, batch: Collated) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probs (with gradient) and entropies (without), both [B, L-1], zero where nothing is predicted."""
        hidden = self.language_model.base_model(
            input_ids=batch.tokens, attention_mask=batch.attention_mask, use_cache=False
        ).last_hidden_state[:, :-1]
        labels = batch.tokens[:, 1:][batch.action_mask]
        head = self.language_model.get_output_embeddings()
        pieces = [
            _label_logprobs(head(rows), targets, self.temperature)
            for rows, targets in zip(hidden[batch.action_mask].split(LOGIT_ROWS), labels.split(LOGIT_ROWS), strict=True)
        ]
        logprobs = torch.zeros(batch.action_mask.shape, dtype=torch.float32, device=hidden.device)
        entropies = torch.zeros_like(logprobs)
        logprobs = logprobs.masked_scatter(batch.action_mask, torch.cat([piece[0] for piece in pieces]))
        entropies = entropies.masked_scatter(batch.action_mask, torch.cat([piece[1] for piece in pieces]))
        return logprobs, entropies


def _label_logprobs(
    logits: torch.Tensor, labels: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    scaled = logits.float() / temperature  # [N, V]
    normaliser = torch.logsumexp(scaled, dim=-1)
    picked = scaled.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    with torch.no_grad():
        entropy = normaliser - (torch.exp(scaled - normaliser.unsqueeze(-1)) * scaled).sum(-1)
    return picked - normaliser, entropy


def load_language_model(path: Path, dtype: str, gradient_checkpointing: bool = False) -> Any:
    """Load a causal language model from a folder; raises ModelError where its head is not a plain projection."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype), attn_implementation="sdpa")
    for name in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
        if getattr(model.config, name, None) not in (None, 1, 1.0):
            raise ModelError(f"{path}: `{name}` in its config means a vocabulary head that is not supported yet")
    if gradient_checkpointing:
        model.gradient_checkpointing_enable()
    return model


def save_language_model(model: Any, state: dict[str, torch.Tensor], folder: Path, dtype: str) -> None:
    """Write `state`, which is in `dtype`, as safetensors with a config that says so."""
    model.save_pretrained(folder, state_dict=state, safe_serialization=True)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["dtype"] = dtype  # transformers writes that of the module, which may be another
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
