"""Stage `core`: the trainer's update beside the usual one, in tokens a second, memory, loss and gradients.

Four ways take the same update of a group, all with checkpointed layers. Ours share the head in chunks over action
tokens: `packed` has all completions in one row behind their prompt, `one by one` a pass for each. The usual ones take
full logits in float32: `padded` pads the group to one batch, `padded one by one` has a pass for each, which fits where
the batch does not. They use transformers' own choice of attention.
"""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from benchmarks.gpu_check.models import SAMPLES, SHAPES, group, random_model
from benchmarks.gpu_check.record import Check, Record, gib, one_line
from rapo_ray.models.shape import ModelShape
from rapo_ray.trainer.batch import MicroBatch, row_width
from rapo_ray.trainer.memory import ADAPTER_SHARE, activations, logits
from rapo_ray.trainer.model import ActionLogProbs, collate, load_language_model
from rapo_ray.types import Sequence

MATRIX = 8192  # rows and columns of the measured matmul
LORA_RANK = 16
Rows = tuple[Sequence, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """One way of taking an update, measured; or the reason that it did not run."""

    shape: str
    tokens: int  # of the longest sequence
    way: str
    lora: bool
    seconds: float | None = None
    tokens_per_second: float | None = None  # a shared prompt counted with each sequence
    share_of_matmul_rate: float | None = None
    peak_gib: float | None = None
    planned_gib: float | None = None  # of our ways
    loss: float | None = None
    why_not: str | None = None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Differences between one of our ways and the usual one; or the reason that there are none."""

    shape: str
    tokens: int
    dtype: str
    way: str
    loss_difference: float | None = None  # over the mean size of a log-prob
    logprob_difference: float | None = None  # the largest, over the log-prob
    gradient_cosine: float | None = None
    gradient_difference: float | None = None  # the largest, over the largest gradient
    within: bool | None = None
    why_not: str | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """Largest differences, and smallest cosine, that count as agreement."""

    loss: float
    logprob: float
    cosine: float

    def hold(self, loss: float, logprob: float, cosine: float) -> bool:
        """True where all are within; false where one is not a number."""
        return loss <= self.loss and logprob <= self.logprob and cosine >= self.cosine


# In bfloat16 each way rounds attention and logits in another order. A missing mask gives a cosine of 0.3 there.
BOUNDS = {"float32": Bounds(1e-5, 1e-4, 0.99999), "bfloat16": Bounds(5e-4, 5e-2, 0.99)}


def run(check: Check, record: Record) -> None:
    """Measure, the most valuable cases first: the first shape at the first length, then agreement, then the others."""
    device = torch.device("cuda" if check.on_gpu else "cpu")
    rate = matmul_rate(device)
    print(f"core: {rate / 1e12:.3g} Tflop/s in a bf16 matmul", flush=True)
    record.add(matmul_rate=rate, bounds={name: asdict(bounds) for name, bounds in BOUNDS.items()})
    first, length = check.shapes[0], check.tokens[0]
    _cases(check, record, device, rate, first, (length,), lora=False)
    for dtype, shape, lengths in (("float32", "tiny", (48,)), ("bfloat16", first, (length, min(check.tokens)))):
        for item in agreements(check, device, dtype, shape, lengths):
            record.append("agreement", asdict(item))
    for shape in reversed(check.shapes):
        rest = check.tokens[1:] if shape == first else check.tokens
        _cases(check, record, device, rate, shape, rest, lora=False)
        _cases(check, record, device, rate, shape, (length,), lora=True)


def _cases(
    check: Check, record: Record, device: torch.device, rate: float, shape: str, lengths: tuple[int, ...], lora: bool
) -> None:
    """Every way at every length with one model; ours alone with adapters."""
    model = None
    for tokens in lengths:
        for way in OURS if lora else WAYS:
            case = Case(shape, tokens, way, lora)
            if not check.time_left:
                record.append("cases", asdict(replace(case, why_not="no time left")))
                continue
            try:
                model = model or trainable(check, shape, "bfloat16", device, lora)
                case = measured(case, model, device, rate)
            except Exception as error:  # a way that fails is a result, and the others go on
                case = replace(case, why_not=one_line(error))
            record.append("cases", asdict(case))
            forget(model, device)


def trainable(check: Check, shape: str, dtype: str, device: torch.device, lora: bool = False) -> Any:
    """A random model as a policy has it: in training mode, with checkpointed layers and our attention."""
    folder = random_model(shape, check.models, check.device)
    model = load_language_model(folder, dtype, gradient_checkpointing=True).train()
    if lora:
        from rapo_ray.trainer.lora import add_lora

        add_lora(model, rank=LORA_RANK, alpha=2 * LORA_RANK)
    return model.to(device)


def measured(case: Case, model: Any, device: torch.device, rate: float) -> Case:
    """One update, after one to warm up."""
    shape = SHAPES[case.shape]
    rows = group(case.tokens, shape.vocabulary)
    update(case.way, model, rows, device)
    forget(model, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    losses: list[float] = []
    seconds = timed(device, lambda: losses.append(update(case.way, model, rows, device)[0]))
    counted = sum(len(row.tokens) for row in rows)
    # Forward and backward; recomputed layers are no work done, nor are gradients of frozen weights.
    operations = (4 if case.lora else 6) * shape.parameters * counted
    return replace(
        case,
        seconds=seconds,
        tokens_per_second=counted / seconds,
        share_of_matmul_rate=operations / seconds / rate,
        peak_gib=gib(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else None,
        planned_gib=gib(planned(shape, case, rows)) if case.way in OURS else None,
        loss=losses[0],
    )


def planned(shape: ModelShape, case: Case, rows: Rows) -> float:
    """The plan's bytes of weights, gradients, activations and logits in 16-bit arithmetic."""
    width = row_width((rows,)) if case.way == "packed" else case.tokens
    trained = ADAPTER_SHARE if case.lora else 1.0
    return 2 * (1 + trained) * shape.parameters + activations(shape, width, checkpointed=True) + logits(shape)


def chunked(model: Any, rows: Rows, device: torch.device) -> list[torch.Tensor]:
    """Log-probs of each completion as the policy computes them, all rows in one."""
    batch = collate(MicroBatch((rows,))).to(device)
    logprobs, _ = ActionLogProbs(model, temperature=1.0)(batch)
    return [values[mask] for values, mask in zip(logprobs, batch.action_mask, strict=True)]


def full_logits(model: Any, rows: Rows, device: torch.device) -> list[torch.Tensor]:
    """Log-probs of each completion the usual way: one right-padded batch, logits of every token in float32."""
    width = max(len(row.tokens) for row in rows)
    ids = torch.tensor([[*row.tokens, *[0] * (width - len(row.tokens))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row.tokens) + [0] * (width - len(row.tokens)) for row in rows], device=device)
    # In one expression, so that logits are freed as soon as may be.
    logprobs = (
        model(input_ids=ids, attention_mask=mask, use_cache=False)
        .logits[:, :-1]
        .float()
        .log_softmax(-1)
        .gather(-1, ids[:, 1:].unsqueeze(-1))
        .squeeze(-1)
    )
    return [values[len(row.prompt) - 1 : len(row.tokens) - 1] for values, row in zip(logprobs, rows, strict=True)]


Forward = Callable[[Any, Rows, torch.device], list[torch.Tensor]]
WAYS: dict[str, tuple[Forward, bool]] = {  # and whether all sequences are in one pass
    "packed": (chunked, True),
    "one by one": (chunked, False),
    "padded": (full_logits, True),
    "padded one by one": (full_logits, False),
}
OURS = ("packed", "one by one")
USUAL = "padded one by one"


def update(way: str, model: Any, rows: Rows, device: torch.device) -> tuple[float, torch.Tensor]:
    """Gradients of the policy loss over sequence means; returns the loss and the action tokens' log-probs."""
    forward, together = WAYS[way]
    total, logprobs = torch.zeros((), device=device), []
    with attention_of(model, None if way in OURS else "sdpa"):
        for part in (rows,) if together else [(row,) for row in rows]:
            values = forward(model, part, device)
            weighted = [row.advantage * value.mean() for row, value in zip(part, values, strict=True)]
            loss = -torch.stack(weighted).sum() / SAMPLES
            loss.backward()
            total += loss.detach()
            logprobs += [value.detach() for value in values]
    return float(total), torch.cat(logprobs)


@contextmanager
def attention_of(model: Any, name: str | None) -> Iterator[None]:
    """Another attention of transformers for a forward pass and its backward pass; None for the model's own."""
    own = model.config._attn_implementation
    model.set_attn_implementation(name or own)
    try:
        yield
    finally:
        model.set_attn_implementation(own)


def agreements(
    check: Check, device: torch.device, dtype: str, shape: str, lengths: tuple[int, ...]
) -> Iterator[Agreement]:
    """Both of our ways beside the usual one, at the first of the lengths at which that one fits."""
    model = trainable(check, shape, dtype, device)
    for tokens in lengths:
        rows = group(tokens, SHAPES[shape].vocabulary)
        try:
            loss, logprobs = update(USUAL, model, rows, device)
        except torch.cuda.OutOfMemoryError as error:
            yield Agreement(shape, tokens, dtype, USUAL, why_not=one_line(error))
            forget(model, device)
            continue
        gradients = [parameter.grad for parameter in model.parameters()]
        for way in OURS:
            item = Agreement(shape, tokens, dtype, way)
            forget(model, device)
            try:
                own_loss, own = update(way, model, rows, device)
                yield compared(item, own_loss - loss, own, logprobs, model, gradients)
            except Exception as error:  # as in `_cases`
                yield replace(item, why_not=one_line(error))
        return


def compared(
    item: Agreement, loss: float, own: torch.Tensor, usual: torch.Tensor, model: Any, gradients: list[torch.Tensor]
) -> Agreement:
    """The differences of loss, log-probs and gradients, parameter by parameter."""
    loss_difference = abs(loss) / float(usual.abs().mean())
    logprob_difference = float(((own - usual).abs() / usual.abs()).max())
    products, own_squares, usual_squares, largest, apart = 0.0, 0.0, 0.0, 0.0, 0.0
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        left, right = parameter.grad.float(), gradient.float()
        products += float((left * right).sum())
        own_squares += float(left.square().sum())
        usual_squares += float(right.square().sum())
        largest = max(largest, float(right.abs().max()))
        apart = max(apart, float((left - right).abs().max()))
    cosine = products / (own_squares * usual_squares) ** 0.5
    within = BOUNDS[item.dtype].hold(loss_difference, logprob_difference, cosine)
    return replace(
        item,
        loss_difference=loss_difference,
        logprob_difference=logprob_difference,
        gradient_cosine=cosine,
        gradient_difference=apart / largest,
        within=within,
    )


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


def forget(model: Any, device: torch.device) -> None:
    """Free a model's gradients, what an error's frames held, and what torch caches."""
    if model is not None:
        model.zero_grad(set_to_none=True)
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
