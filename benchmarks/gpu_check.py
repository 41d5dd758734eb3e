"""The prepared check of a bare machine with one GPU: the trainer's core beside the usual padded update.

    python -m benchmarks.gpu_check --out gpu-check.json          # `make gpu-check`; ten minutes at most
    python -m benchmarks.gpu_check --device cpu --shapes tiny --tokens 64

It needs torch and transformers (peft for LoRA) and nothing of Ray, DeepSpeed or vLLM. Models are random, of published
shapes. For each shape and row length it takes the same update twice: ours (rows that share their prompt, the head in
chunks, checkpointed layers) and the padded one over full logits, checkpointed too; and says tokens a second, the share
of the card's own matmul rate, peak memory beside the plan's prediction, and how far loss and gradients are apart. A
case that does not fit, or does not run, is recorded with its reason.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from rapo_ray.models.shape import KNOWN, ModelShape
from rapo_ray.trainer.batch import MicroBatch
from rapo_ray.trainer.memory import activations, logits
from rapo_ray.trainer.model import ActionLogProbs, collate
from rapo_ray.types import Sequence

SAMPLES = 4  # completions of one prompt, a group
PROMPT_SHARE = 0.25  # of a sequence's tokens
MATRIX = 8192  # rows and columns of the measured matmul
SHAPES = {
    "tiny": ModelShape(2, 64, 128, 128, 64, 512, tied=True, normed_heads=True),
    "1.7b": KNOWN["Qwen/Qwen3-1.7B"],
    "8b": KNOWN["Qwen/Qwen3-8B"],
}


@dataclass(frozen=True, slots=True)
class Case:
    """One way of taking an update, measured; or the reason that it did not run."""

    shape: str
    tokens: int  # of a sequence
    way: str
    lora: bool
    seconds: float | None = None
    tokens_per_second: float | None = None  # a shared prompt counted with each sequence
    share_of_matmul_rate: float | None = None
    peak_gib: float | None = None
    planned_gib: float | None = None
    loss: float | None = None
    why_not: str | None = None


def main(arguments: list[str] | None = None) -> int:
    """Run all cases and write them as JSON."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu_check", description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shapes", nargs="+", default=["1.7b", "8b"], choices=list(SHAPES))
    parser.add_argument("--tokens", nargs="+", type=int, default=[2048, 8192, 16384], help="tokens of a sequence")
    parser.add_argument("--seconds", type=float, default=540, help="no new case begins after this time")
    parser.add_argument("--out", type=Path, default=Path("gpu-check.json"))
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    rate = matmul_rate(device)
    print(f"{card(device)}: {rate / 1e12:.3g} Tflop/s in a bf16 matmul", flush=True)
    cases, ends = [], time.monotonic() + options.seconds
    for shape in options.shapes:
        for case in check_shape(shape, options.tokens, device, rate, ends):
            print(json.dumps(asdict(case)), flush=True)
            cases.append(asdict(case))
    content = {
        "card": card(device),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "matmul_rate": rate,
        "agreement": agreement(device),
        "cases": cases,
    }
    print(json.dumps(content["agreement"]))
    options.out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0


def card(device: torch.device) -> str:
    """Name of the card, or of the processor's architecture."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()


def matmul_rate(device: torch.device) -> float:
    """Operations per second of a large bf16 matmul, the best of five."""
    size = MATRIX if device.type == "cuda" else 512
    left = torch.randn(size, size, dtype=torch.bfloat16, device=device)
    return max(2 * size**3 / timed(device, lambda: left @ left) for _ in range(5))


def timed(device: torch.device, act: Callable[[], object]) -> float:
    """Seconds of a call, the device's queue emptied before and after."""
    synchronize(device)
    started = time.perf_counter()
    act()
    synchronize(device)
    return time.perf_counter() - started


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def random_model(shape: ModelShape, device: torch.device, dtype: torch.dtype, lora: bool = False) -> Any:
    """A random Qwen3 of a shape, in training mode with checkpointed layers."""
    size = 32 if shape.key_width < 128 else 128  # of a head
    config = transformers.Qwen3Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.query_width // size,
        num_key_value_heads=shape.key_width // size,
        head_dim=size,
        tie_word_embeddings=shape.tied,
        attn_implementation="sdpa",
    )
    with torch.device(device):
        model = transformers.Qwen3ForCausalLM(config).to(dtype)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if lora:
        from rapo_ray.trainer.lora import add_lora

        add_lora(model, rank=16, alpha=32)
    return model.train()


def group(tokens: int, vocabulary: int) -> tuple[Sequence, ...]:
    """Completions of one prompt, each with its prompt of about `tokens` tokens, of other lengths."""
    generator = torch.Generator().manual_seed(tokens)
    prompt_length = max(1, int(PROMPT_SHARE * tokens))
    prompt = tuple(torch.randint(3, vocabulary, (prompt_length,), generator=generator).tolist())
    rows = []
    for sample in range(SAMPLES):
        length = (tokens - prompt_length) * (SAMPLES + sample) // (2 * SAMPLES - 1)  # the last has all, the first half
        completion = tuple(torch.randint(3, vocabulary, (length,), generator=generator).tolist())
        rows.append(Sequence(prompt, completion, (-1.0) ** sample, (-1.0,) * length))
    return tuple(rows)


def ours(model: Any, rows: tuple[Sequence, ...], device: torch.device) -> torch.Tensor:
    """The loss over rows of one sequence each, the head in chunks."""
    module = ActionLogProbs(model, temperature=1.0)
    total = torch.zeros((), device=device)
    for row in rows:  # one sequence a pass: what a row shares needs a mask, and so no flash attention
        batch = collate(MicroBatch(((row,),))).to(device)
        logprobs, _ = module(batch)
        loss = -row.advantage * logprobs[batch.action_mask].mean() / len(rows)
        loss.backward()
        total += loss.detach()
    return total


def padded(model: Any, rows: tuple[Sequence, ...], device: torch.device) -> torch.Tensor:
    """The same loss the usual way: one right-padded batch with an attention mask, logits of every token in float32."""
    width = max(len(row.tokens) for row in rows)
    ids = torch.tensor([[*row.tokens, *[0] * (width - len(row.tokens))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row.tokens) + [0] * (width - len(row.tokens)) for row in rows], device=device)
    output = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
    logprobs = output.log_softmax(-1).gather(-1, ids[:, 1:].unsqueeze(-1)).squeeze(-1)
    total = torch.zeros((), device=device)
    for index, row in enumerate(rows):
        own = logprobs[index, len(row.prompt) - 1 : len(row.tokens) - 1]
        total = total - row.advantage * own.mean() / len(rows)
    total.backward()
    return total.detach()


WAYS: dict[str, Callable[[Any, tuple[Sequence, ...], torch.device], torch.Tensor]] = {"ours": ours, "padded": padded}


def check_shape(name: str, lengths: list[int], device: torch.device, rate: float, ends: float) -> Iterator[Case]:
    """All cases of a shape: every length both ways, and ours with adapters at the first length."""
    shape = SHAPES[name]
    for lora in (False, True):
        model = None
        for tokens in lengths if not lora else lengths[:1]:
            for way in WAYS if not lora else ("ours",):
                case = Case(name, tokens, way, lora)
                if time.monotonic() > ends:
                    yield Case(name, tokens, way, lora, why_not="no time left")
                    continue
                try:
                    model = model or random_model(shape, device, torch.bfloat16, lora)
                    yield measure(case, shape, model, device, rate)
                except (torch.cuda.OutOfMemoryError, ImportError) as error:
                    yield Case(name, tokens, way, lora, why_not=str(error).splitlines()[0])
                    if model is not None:
                        model.zero_grad(set_to_none=True)
                    if device.type == "cuda":
                        torch.cuda.empty_cache()
        del model


def measure(case: Case, shape: ModelShape, model: Any, device: torch.device, rate: float) -> Case:
    """One update, after one to warm up."""
    rows = group(case.tokens, shape.vocabulary)
    act = WAYS[case.way]
    act(model, rows, device)
    model.zero_grad(set_to_none=True)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    results: list[torch.Tensor] = []
    seconds = timed(device, lambda: results.append(act(model, rows, device)))
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    model.zero_grad(set_to_none=True)
    counted = sum(len(row.tokens) for row in rows)
    operations = counted * 6 * shape.parameters  # forward and backward; recomputed layers are no work done
    planned = None
    if case.way == "ours" and not case.lora:
        planned = (4 * shape.parameters + activations(shape, case.tokens, checkpointed=True) + logits(shape)) / 2**30
    return Case(
        case.shape, case.tokens, case.way, case.lora, seconds, counted / seconds, operations / seconds / rate, peak,
        planned, float(results[0]),
    )  # fmt: skip


def agreement(device: torch.device) -> dict[str, float]:
    """Largest differences of loss and gradients between the two ways, in float32 on a tiny model."""
    shape = SHAPES["tiny"]
    torch.manual_seed(0)
    model = random_model(shape, device, torch.float32)
    rows = group(48, shape.vocabulary)
    losses, gradients = [], []
    for act in WAYS.values():
        model.zero_grad(set_to_none=True)
        losses.append(float(act(model, rows, device)))
        gradients.append(nn.utils.parameters_to_vector([parameter.grad for parameter in model.parameters()]).clone())
    return {
        "loss": abs(losses[0] - losses[1]),
        "gradient": float((gradients[0] - gradients[1]).abs().max()),
        "largest_gradient": float(gradients[1].abs().max()),
    }


if __name__ == "__main__":
    raise SystemExit(main())
