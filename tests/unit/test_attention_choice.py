"""The way through attention that a batch takes, and why."""

from itertools import product
from typing import Any

import pytest
import torch

from rapo_ray.errors import ModelError
from rapo_ray.trainer.packing import Layers, Packing, choose

pytestmark = pytest.mark.unit


def rows_that(several: bool = False, shared: bool = False) -> Packing:
    empty = torch.zeros(0)
    return Packing(empty, empty, empty, 0, several or shared, shared)


ONE, SEVERAL, SHARED = rows_that(), rows_that(several=True), rows_that(shared=True)
PLAIN, HOPPER = Layers(head_size=128), (9, 0)
CASES: list[tuple[Layers, Any, tuple[int, int] | None, str]] = [
    (PLAIN, torch.bfloat16, None, "on CPU"),
    (PLAIN, torch.float32, HOPPER, "16-bit"),
    (PLAIN, torch.float16, (7, 5), "7.5, below 8.0"),
    (Layers(256), torch.bfloat16, HOPPER, "size 256"),
    (Layers(100), torch.bfloat16, HOPPER, "size 100"),
    (Layers(8), torch.bfloat16, HOPPER, "size 8"),
    (Layers(64, 512, special="a sliding window of 512 tokens"), torch.bfloat16, HOPPER, "sliding window of 512"),
]


@pytest.mark.parametrize(("layers", "dtype", "capability", "reason"), CASES, ids=[case[-1] for case in CASES])
def test_a_kernel_that_does_not_fit_is_not_taken(layers: Layers, dtype: Any, capability: Any, reason: str) -> None:
    choices = [choose(rows, layers, dtype, capability) for rows in (ONE, SEVERAL, SHARED)]
    assert [choice.path for choice in choices] == ["causal", "dense", "dense"]
    assert all(reason in choice.reason for choice in choices)


def test_sixteen_bit_rows_on_a_gpu_take_the_kernel_for_their_structure() -> None:
    for dtype, capability in product((torch.bfloat16, torch.float16), ((8, 0), HOPPER, (12, 0))):
        paths = [choose(rows, PLAIN, dtype, capability).path for rows in (ONE, SEVERAL, SHARED)]
        assert paths == ["varlen", "varlen", "flex"]


@pytest.mark.parametrize("capability", [None, HOPPER])
def test_sequences_that_layers_would_mix_are_refused_in_one_line(capability: Any) -> None:
    recurrent = Layers(64, separable=False, special="layers of type linear_attention")
    assert choose(ONE, recurrent, torch.bfloat16, capability).path == "causal"
    with pytest.raises(ModelError, match=r"layers of type linear_attention.* policy\.row_tokens=0"):
        choose(SEVERAL, recurrent, torch.bfloat16, capability)
