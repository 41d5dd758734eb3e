"""Stage `policy`: a `PolicyRank` alone on one card under ZeRO-2, which shares it with an engine."""

import math
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.gpu_check.core import timed
from benchmarks.gpu_check.models import SHAPES, group, random_model
from benchmarks.gpu_check.record import Check, Record, gib
from rapo_ray.config.learning import PolicyConfig
from rapo_ray.models.shape import ModelShape
from rapo_ray.trainer.batch import MicroBatch, Step, plan_steps, row_width
from rapo_ray.trainer.deepspeed_setup import join_process_group
from rapo_ray.trainer.memory import policy_memory
from rapo_ray.trainer.policy import PolicyRank, ReferenceModel
from rapo_ray.types import Sequence

LARGEST_GAP = 0.05  # between the log-probs of policy and reference that hold the same weights, in bfloat16


def run(check: Check, record: Record) -> None:
    """Two equal updates of one group, and what they leave."""
    device = torch.device("cuda" if check.on_gpu else "cpu")
    name, tokens = check.shapes[0], check.tokens[0]
    shape = SHAPES[name]
    rows = group(tokens, shape.vocabulary)
    folder, config = random_model(name, check.models, check.device), policy_config(row_width((rows,)))
    record.add(shape=name, tokens=tokens, row=config.row_tokens, config=config.model_dump(mode="json"))

    steps = plan_steps(rows, 1, 1, config.micro_batch_tokens, config.row_tokens)[0]
    reference = ReferenceModel(folder, config.dtype, 1.0, check.device)
    logprobs = reference.logprobs([micro_batch for step in steps for micro_batch in step.micro_batches])
    del reference
    steps = with_logprobs(steps, iter([values for part in logprobs for values in part]))

    started = time.perf_counter()
    join_process_group(0, 1, "127.0.0.1", free_port(), check.device)
    policy = PolicyRank(config, folder, rank=0, temperature=1.0, total_steps=2, seed=0, shares_card=True)
    record.add(start_seconds=time.perf_counter() - started)
    update(policy, steps, device, rows, shape, config, record)
    exported(policy, folder, check.models / f"{name}-exported", record)
    torch.distributed.destroy_process_group()


def policy_config(row: int) -> PolicyConfig:
    """Settings for rows of this width, at a learning rate that 16-bit weights show."""
    return PolicyConfig(
        dtype="bfloat16",
        zero_stage=2,  # DeepSpeed's optimizer of stage 1 in bfloat16 cannot leave the card
        gradient_checkpointing=True,
        kl_coef=0.0,
        learning_rate=1e-4,
        row_tokens=row,
        micro_batch_tokens=row,
    )


def with_logprobs(steps: list[Step], logprobs: Iterator[list[float]]) -> list[Step]:
    """The same steps, whose sequences say that the engine gave these log-probs."""

    def filled(row: tuple[Sequence, ...]) -> tuple[Sequence, ...]:
        return tuple(replace(sequence, rollout_logprobs=tuple(next(logprobs))) for sequence in row)

    return [
        replace(step, micro_batches=tuple(MicroBatch(tuple(map(filled, each.rows))) for each in step.micro_batches))
        for step in steps
    ]


def update(
    policy: PolicyRank,
    steps: list[Step],
    device: torch.device,
    rows: tuple[Sequence, ...],
    shape: ModelShape,
    config: PolicyConfig,
    record: Record,
) -> None:
    """Take the update twice, off the card between: at first the policy is the reference, then it has moved."""
    sums: list[dict[str, float]] = []
    first = timed(device, lambda: sums.append(policy.update(steps)))
    record.add(**turn(policy, device))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = timed(device, lambda: sums.append(policy.update(steps)))
    plan = policy_memory(shape, config, row_width((rows,)))
    record.add(
        first_update_seconds=first,
        update_seconds=seconds,
        tokens_per_second=sum(len(row.tokens) for row in rows) / seconds,
        peak_gib=gib(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else "not on CPU",
        planned_gib=gib(plan.peak - plan.static["context"]),  # which torch does not count
        action_tokens=sums[0]["gap_tokens"],
        first_gap=sums[0]["gap_max"],
        second_gap=sums[1]["gap_max"],
        agrees=sums[0]["gap_max"] <= LARGEST_GAP and math.isfinite(sums[1]["gap"]),
        sums=sums,
    )


def turn(policy: PolicyRank, device: torch.device) -> dict[str, object]:
    """Leave the card and return; says seconds of both, and GiB that the card gains meanwhile."""
    before = free_memory(device)
    leaving = timed(device, policy.leave_card)
    freed = free_memory(device) - before if device.type == "cuda" else "not on CPU"
    return {"leave_seconds": leaving, "freed_gib": freed, "return_seconds": timed(device, policy.return_to_card)}


def free_memory(device: torch.device) -> float:
    """Free GiB of the card; 0 on CPU."""
    return gib(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 0.0


def exported(policy: PolicyRank, start: Path, folder: Path, record: Record) -> None:
    """Write the weights, and count those that the updates changed."""
    started = time.perf_counter()
    policy.export(folder, "bfloat16")
    seconds = time.perf_counter() - started
    before, after = read(start), read(folder)
    record.add(
        export_seconds=seconds,
        exported=len(after),
        matrices=sum(tensor.dim() == 2 for tensor in before.values()),
        changed_matrices=sum(t.dim() == 2 and not torch.equal(t, after[name]) for name, t in before.items()),
    )


def read(folder: Path) -> dict[str, Any]:
    """All weights of a model's folder."""
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


def free_port() -> int:
    """A free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
