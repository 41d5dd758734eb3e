"""The update's attention by torch's real kernels beside float32 rows of one sequence: log-probs and gradients."""

from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters
from transformers import Qwen3Config, Qwen3ForCausalLM

from rapo_ray.trainer.batch import MicroBatch
from rapo_ray.trainer.model import ActionLogProbs, collate
from rapo_ray.types import Sequence

pytestmark = pytest.mark.gpu

CUDA = torch.device("cuda")
CONFIG = Qwen3Config(
    vocab_size=512,
    hidden_size=256,
    intermediate_size=512,
    num_hidden_layers=2,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=64,
    pad_token_id=0,
)
Rows = list[tuple[Sequence, ...]]


def sequence(prompt: int, length: int) -> Sequence:
    """Make a sequence of random completion tokens after a prompt of so many tokens."""
    tokens = torch.randint(3, 512, (length,), generator=torch.Generator().manual_seed(length)).tolist()
    return Sequence(tuple(3 + index % 400 for index in range(prompt)), tuple(tokens), 1.0, ())


A, B, C = sequence(190, 300), sequence(41, 77), sequence(9, 513)
MORE = [sequence(190, length) for length in (1, 64, 200)]
LAYOUTS: dict[str, tuple[str, list[Rows]]] = {
    "padded": ("varlen", [[(A,), (B,), (C,)], [(B,)]]),
    "packed": ("varlen", [[(A, B), (C,)], [(B, A)]]),
    "shared": ("flex", [[(A, *MORE, B), (C,)], [(B, A, MORE[2])], [(A, MORE[0])]]),
}


def update(micro_batches: list[Rows], dtype: torch.dtype, checkpointing: bool = False) -> tuple[set[str], Any, Any]:
    """Paths taken, all log-probs in order, and the gradient of a weighted sum of them, in float32."""
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(CONFIG).to(dtype).to(CUDA).train()
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    module = ActionLogProbs(model, 1.0)
    paths, logprobs = set(), []
    for rows in micro_batches:
        batch = collate(MicroBatch(tuple(rows))).to(CUDA)
        paths.add(module.attention(batch).path)
        values = module(batch)[0][batch.action_mask]
        (values * torch.linspace(-1, 1, len(values), device=CUDA)).sum().backward()
        logprobs.append(values.detach().float())
    gradients = [parameter.grad.float().flatten() for parameter in module.parameters() if parameter.grad is not None]
    return paths, torch.cat(logprobs), torch.cat(gradients)


def one_a_row(micro_batches: list[Rows]) -> list[Rows]:
    return [[(each,) for row in rows for each in row] for rows in micro_batches]


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Norm of the difference, relative to the other's."""
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_kernels_are_as_close_to_float32_as_sdpa_in_bf16_is(
    layout: str, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, micro_batches = LAYOUTS[layout]
    _, exact, exact_gradient = update(one_a_row(micro_batches), torch.float32)
    paths, logprobs, gradient = update(micro_batches, torch.bfloat16, checkpointing)
    assert paths == {path}
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda *_: (7, 5))  # SDPA without a mask
    paths, plain, plain_gradient = update(one_a_row(micro_batches), torch.bfloat16)
    assert paths == {"causal"}
    assert distance(logprobs, exact) <= 1.5 * distance(plain, exact)
    assert distance(gradient, exact_gradient) <= 1.5 * distance(plain_gradient, exact_gradient)


@pytest.mark.parametrize("layout", ["packed", "shared"])
def test_float32_takes_sdpa_with_a_mask(layout: str) -> None:
    _, micro_batches = LAYOUTS[layout]
    _, exact, exact_gradient = update(one_a_row(micro_batches), torch.float32)
    paths, logprobs, gradient = update(micro_batches, torch.float32)
    assert paths == {"dense"}
    torch.testing.assert_close(logprobs, exact, rtol=1e-4, atol=1e-4)
    assert distance(gradient, exact_gradient) < 1e-3


def test_flex_attention_is_compiled_once_for_all_sizes() -> None:
    counters.clear()
    update([[(A, *MORE[:number], B)] for number in (1, 2, 3)], torch.bfloat16)
    assert counters["stats"]["unique_graphs"] <= 1  # none if a test before compiled it
