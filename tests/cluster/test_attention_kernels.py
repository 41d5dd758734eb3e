"""The update's attention by every way through it: the same log-probs and gradients as one padded sequence a row.

Two stand in for the GPU kernels: for torch's varlen attention a loop over its segments, for compiled FlexAttention the
eager mathematics of the same operator, which has a backward pass on CPU. tests/gpu/test_attention.py has the real ones.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._higher_order_ops.flex_attention import flex_attention as flex_operator
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import scaled_dot_product_attention
from transformers import (
    GptOssConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from rapo_ray.errors import ModelError
from rapo_ray.trainer import attention
from rapo_ray.trainer.batch import MicroBatch
from rapo_ray.trainer.model import ActionLogProbs, Collated, collate
from rapo_ray.trainer.packing import Choice, Layers, layers_of
from rapo_ray.types import Sequence

pytestmark = pytest.mark.cluster  # a model, no Ray

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "pad_token_id": 0,
}
MODELS: dict[str, tuple[Any, Any]] = {
    "llama": (LlamaForCausalLM, LlamaConfig(**SIZES)),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**SIZES)),
}
WINDOW = 6
WINDOWED: dict[str, tuple[Any, Any]] = {
    "of all layers": (MistralForCausalLM, MistralConfig(**SIZES, sliding_window=WINDOW)),
    "of one layer in two": (
        Qwen3ForCausalLM,
        Qwen3Config(
            **SIZES,
            use_sliding_window=True,
            sliding_window=WINDOW,
            layer_types=["sliding_attention", "full_attention"],
        ),
    ),
}


def sequence(prompt: int, length: int, seed: int) -> Sequence:
    """Make a sequence of random completion tokens after a prompt of so many tokens."""
    tokens = torch.randint(3, 64, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return Sequence(tuple(range(3, 3 + prompt)), tuple(tokens), 1.0, ())


A, B, C = (sequence(prompt, length, prompt) for prompt, length in ((9, 13), (4, 30), (17, 5)))
A2, A3, B2 = sequence(9, 1, 21), sequence(9, 22, 22), sequence(4, 11, 23)
Rows = list[tuple[Sequence, ...]]
UNSHARED: list[Rows] = [[(A, B), (C,)], [(A3,)], [(B2, C, A2), (C, A)]]
SHARED: list[Rows] = [[(A, A2, B), (C,)], [(A3, A, B2, B)], [(A2, C, A)]]


def model(kind: str, checkpointing: bool = False) -> Any:
    """Make the tiny random model of a kind, the same each time."""
    of, config = {**MODELS, **WINDOWED}[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = of(config).train()
    if checkpointing:
        made.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return made


def update(module: ActionLogProbs, micro_batches: list[Rows]) -> tuple[list[float], torch.Tensor]:
    """Log-probs of all sequences in order, and the gradient of a weighted sum of them over the micro-batches."""
    logprobs: list[float] = []
    for rows in micro_batches:
        batch = collate(MicroBatch(tuple(rows)))
        values = module(batch)[0][batch.action_mask]
        (values * torch.linspace(-1, 1, len(values))).sum().backward()
        logprobs += values.tolist()
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    return logprobs, torch.cat([gradient.flatten() for gradient in gradients])


def one_a_row(micro_batches: list[Rows]) -> list[Rows]:
    """The same sequences, each in a row of its own."""
    return [[(each,) for row in rows for each in row] for rows in micro_batches]


def assert_same(mine: tuple[list[float], torch.Tensor], padded: tuple[list[float], torch.Tensor]) -> None:
    assert mine[0] == pytest.approx(padded[0], abs=2e-5)
    assert padded[1].norm() > 1
    torch.testing.assert_close(mine[1], padded[1], rtol=1e-4, atol=2e-5)


class Varlen:
    """torch.nn.attention.varlen.varlen_attn as a loop over segments, on CPU."""

    def __init__(self) -> None:
        self.segments: list[list[int]] = []

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        cu_seq_q: torch.Tensor,
        cu_seq_k: torch.Tensor,
        max_q: int,
        max_k: int,
        *,
        scale: float | None = None,
        window_size: tuple[int, int] = (-1, -1),
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        lengths = cu_seq_q.diff().tolist()
        self.segments.append(lengths)
        assert cu_seq_q.dtype == torch.int32
        assert cu_seq_q.is_contiguous()
        assert torch.equal(cu_seq_q, cu_seq_k)
        assert sum(lengths) == len(query) == len(key) == len(value)
        assert max_q == max_k == max(lengths)
        assert window_size == (-1, 0)  # causal
        parts = zip(*(each.transpose(0, 1).split(lengths, 1) for each in (query, key, value)), strict=True)
        outs = [
            scaled_dot_product_attention(*part, scale=scale, is_causal=True, enable_gqa=enable_gqa) for part in parts
        ]
        return torch.cat(outs, 1).transpose(0, 1)


class Flex:
    """torch.nn.attention.flex_attention.flex_attention by the operator's eager mathematics, on CPU."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        block_mask: BlockMask,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Any:
        assert block_mask.shape[-2:] == (query.shape[2], key.shape[2])
        assert enable_gqa
        self.sizes.append(query.shape[2])
        options = {"PRESCALE_QK": False, "OUTPUT_LOGSUMEXP": True, "OUTPUT_MAX": False}
        score = lambda score, *_: score  # noqa: E731
        return flex_operator(query, key, value, score, block_mask.as_tuple(), scale, options)[0]


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Varlen, Flex]]:
    varlen, flex = Varlen(), Flex()
    monkeypatch.setattr(attention, "varlen_attn", varlen)
    monkeypatch.setattr(attention, "compiled_flex", lambda: flex)
    yield varlen, flex


def take(monkeypatch: pytest.MonkeyPatch, path: Any) -> None:
    monkeypatch.setattr("rapo_ray.trainer.model.choose", lambda *_: Choice(path, "the test takes it"))


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(
    ("path", "micro_batches"), [("varlen", UNSHARED), ("flex", SHARED), ("flex", UNSHARED), ("dense", SHARED)]
)
def test_packed_rows_give_the_padded_rows_logprobs_and_gradients(
    path: str,
    micro_batches: list[Rows],
    kind: str,
    checkpointing: bool,
    kernels: tuple[Varlen, Flex],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    padded = update(ActionLogProbs(model(kind), 0.8), one_a_row(micro_batches))
    take(monkeypatch, path)
    assert_same(update(ActionLogProbs(model(kind, checkpointing), 0.8), micro_batches), padded)
    calls = 2 * len(micro_batches) * (2 if checkpointing else 1)
    varlen, flex = kernels
    assert (len(varlen.segments), len(flex.sizes)) == {"varlen": (calls, 0), "flex": (0, calls), "dense": (0, 0)}[path]


def test_varlen_gets_a_segment_for_each_sequence_and_each_padding(
    kernels: tuple[Varlen, Flex], monkeypatch: pytest.MonkeyPatch
) -> None:
    take(monkeypatch, "varlen")
    module = ActionLogProbs(model("llama"), 1.0)
    update(module, UNSHARED[:1])
    width = len(A.tokens) + len(B.tokens)
    own = [len(each.tokens) for each in (A, B, C)]
    assert kernels[0].segments == [[*own, width - own[-1], 256 - 2 * width]] * 2


def test_flex_attention_is_compiled_once_for_all_sizes_and_packings() -> None:
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(flex_attention, backend=counter, dynamic=True, fullgraph=True)
    for copies in (1, 4, 9, 2, 16):
        batch = collate(MicroBatch(((A, A2, B, B2) * copies, (C,))))
        size = batch.packing.size
        query, key, value = (torch.randn(1, size, heads, 16).transpose(1, 2) for heads in (4, 2, 2))
        with torch.no_grad():
            out = compiled(query, key, value, block_mask=batch.packing.blocks(), scale=0.3, enable_gqa=True)
        visible = torch.zeros(size, size, dtype=torch.bool)
        rows, length = batch.tokens.shape
        for row, mask in enumerate(batch.packing.dense()[:, 0]):
            visible[row * length : (row + 1) * length, row * length : (row + 1) * length] = mask
        expected = scaled_dot_product_attention(query, key, value, visible, scale=0.3, enable_gqa=True)
        real = rows * length
        torch.testing.assert_close(out[:, :, :real], expected[:, :, :real], rtol=1e-4, atol=1e-5)
    assert counter.frame_count == 1


@pytest.mark.parametrize("micro_batches", [SHARED, UNSHARED], ids=["shared", "unshared"])
@pytest.mark.parametrize("kind", WINDOWED)
def test_a_sliding_window_is_transformers_own_in_packed_rows(kind: str, micro_batches: list[Rows]) -> None:
    """A window counts positions within a sequence: in the row a prompt may be far from its last completion."""
    language_model = model(kind)
    expected: list[float] = []
    language_model.set_attn_implementation("sdpa")
    for one in (each for rows in micro_batches for row in rows for each in row):
        assert len(one.tokens) > WINDOW
        ids = torch.tensor([[*one.tokens, *[0] * 7]])
        mask = (torch.arange(ids.shape[1]) < len(one.tokens)).long().unsqueeze(0)
        logits = language_model(input_ids=ids, attention_mask=mask).logits[0, len(one.prompt) - 1 : len(one.tokens) - 1]
        labels = torch.tensor(one.completion).unsqueeze(-1)
        expected += logits.log_softmax(-1).gather(-1, labels).squeeze(-1).tolist()
    padded = update(ActionLogProbs(model(kind), 1.0), one_a_row(micro_batches))
    packed = update(ActionLogProbs(model(kind), 1.0), micro_batches)
    assert packed[0] == pytest.approx(expected, abs=2e-5)
    assert_same(packed, padded)


def test_a_mask_beside_the_gpu_is_added_to_scores_without_another_copy_a_layer() -> None:
    packing = collate(MicroBatch(((A, A2, B), (C,)))).packing
    choice, device = Choice("dense", ""), torch.device("meta")
    made = attention.mask_for(choice, packing.to(device), torch.zeros(2, 1), Layers(16), torch.bfloat16)
    assert isinstance(made, torch.Tensor)
    assert (made.dtype, made.shape) == (torch.bfloat16, packing.dense().shape)
    bias = attention.additive(packing.dense(), packing.origins.shape[1], torch.float32)
    assert torch.equal(bias == 0, packing.dense())


@pytest.mark.parametrize("name", ["softcap", "s_aux", "sliding_window", "position_bias"])
def test_what_a_kernel_does_not_know_is_an_error(name: str, kernels: tuple[Varlen, Flex]) -> None:
    """PyTorch's SDPA, behind transformers' interface, passes over the first two in silence."""
    packing = collate(MicroBatch(((A, B),))).packing
    query, key, value = (torch.randn(1, heads, packing.size, 16) for heads in (4, 2, 2))
    masks: list[Any] = [packing.cumulative(), packing.blocks()]
    for mask in masks if name not in ("softcap", "s_aux") else [*masks, None]:
        with pytest.raises(ModelError, match=f"`{name}` is not supported"):
            attention.attend(torch.nn.Identity(), query, key, value, mask, scaling=0.3, **{name: 1})


def test_layers_are_read_from_the_model() -> None:
    assert layers_of(model("qwen3")) == Layers(head_size=16)
    assert layers_of(model("of all layers")) == Layers(16, WINDOW, special=f"a sliding window of {WINDOW} tokens")
    assert layers_of(model("of one layer in two")).mixed


def test_attention_with_sinks_does_not_load(tmp_path: Any) -> None:
    """Of gpt-oss, whose sinks SDPA does not have."""
    from transformers import AutoModelForCausalLM

    config = GptOssConfig(**SIZES, num_local_experts=2, num_experts_per_tok=1)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    from rapo_ray.trainer.model import load_language_model

    with pytest.raises(ValueError, match="scaled_dot_product_attention"):
        load_language_model(tmp_path, "float32")


def test_a_micro_batch_moves_whole() -> None:
    batch = collate(MicroBatch(((A, A2), (C,)))).to(torch.device("meta"))
    assert isinstance(batch, Collated)
    packing = batch.packing
    tensors = (batch.tokens, batch.positions, batch.sources, batch.labels, batch.action_mask)
    assert {each.device.type for each in (*tensors, packing.origins, packing.branches, packing.ends)} == {"meta"}
