"""Attention as matrix products against PyTorch's: the same values and gradients (no Ray)."""

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from rapo_ray.trainer import attention

pytestmark = pytest.mark.cluster
MODULE = torch.nn.Identity()  # transformers reads its `is_causal` and `num_key_value_groups`


def heads(number: int, seed: int) -> torch.Tensor:
    """Random heads of two rows of 12 tokens, in a model's memory layout: tokens before heads."""
    values = torch.randn(2, 12, number, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values.transpose(1, 2).requires_grad_()


def run(function: object, shared: int, mask: torch.Tensor | None) -> list[torch.Tensor]:
    """Return the values, and the gradients of a weighted sum of them."""
    MODULE.num_key_value_groups, MODULE.is_causal = 6 // shared, True  # type: ignore[assignment]
    inputs = [heads(6, 1), heads(shared, 2), heads(shared, 3)]
    out, _ = function(MODULE, *inputs, mask, dropout=0.0, scaling=0.3)  # type: ignore[operator]
    (out * torch.arange(out.numel()).view(out.shape)).sum().backward()
    return [out.detach(), *(each.grad for each in inputs if each.grad is not None)]


MASKS = {
    "causal": None,
    "two sequences in a row": torch.block_diag(torch.ones(5, 5), torch.ones(7, 7)).bool().tril()[None, None],
    "another mask for each row": torch.stack(
        [torch.ones(12, 12).bool().tril(), torch.block_diag(torch.ones(3, 3), torch.ones(9, 9)).bool().tril()]
    ).unsqueeze(1),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("shared", [1, 2, 6])
def test_values_and_gradients_are_those_of_pytorch(shared: int, mask: torch.Tensor | None) -> None:
    ours, theirs = (run(each, shared, mask) for each in (attention.attend, sdpa_attention_forward))
    assert len(ours) == 4
    for mine, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, their, rtol=1e-9, atol=1e-9)


def test_rows_that_are_too_long_fall_back_to_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "LONGEST", 11)
    monkeypatch.setattr(torch, "baddbmm", None)  # would be called
    assert run(attention.attend, 2, None)[0].shape == (2, 12, 6, 8)
