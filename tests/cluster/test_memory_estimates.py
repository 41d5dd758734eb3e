"""The memory plan's count of saved activations beside what torch really keeps of transformers' models."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from rapo_ray.models.shape import shape_of

pytestmark = pytest.mark.cluster

SIZES: dict[str, Any] = {
    "vocab_size": 1000,
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
}
TOKENS = 256


def saved_bytes(model: Any) -> int:
    """Bytes of all tensors that autograd keeps for the backward pass of one row, parameters left out."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved: dict[int, Any] = {}  # alive together, so that no address is used twice

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            saved[storage.data_ptr()] = storage
        return tensor

    tokens = torch.randint(0, SIZES["vocab_size"], (1, TOKENS))
    positions = torch.arange(TOKENS).unsqueeze(0)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.model(input_ids=tokens, position_ids=positions, use_cache=False)
    return sum(storage.nbytes() for storage in saved.values())


@pytest.mark.parametrize(("kind", "of"), [(LlamaForCausalLM, LlamaConfig), (Qwen3ForCausalLM, Qwen3Config)])
def test_a_layer_keeps_what_the_plan_counts_and_hardly_less(kind: Any, of: Any) -> None:
    def made(layers: int) -> Any:
        config = of(num_hidden_layers=layers, attn_implementation="sdpa", **SIZES)
        return kind(config).to(torch.bfloat16).train()

    two, four = made(2), made(4)
    measured = (saved_bytes(four) - saved_bytes(two)) / 2 / TOKENS
    counted = shape_of(four.config.to_dict()).activation_bytes
    assert 0.95 * counted <= measured <= counted
