"""Which sequences go into which optimizer step, rank and micro-batch (pure; equal work on every rank)."""

from collections.abc import Sequence as Seq
from dataclasses import dataclass

from rapo_ray.types import Sequence

Unit = tuple[Sequence, ...]  # what may not be parted


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Sequences of one forward pass; a filler repeats a sequence with no weight so that ranks stay in step."""

    sequences: tuple[Sequence, ...]
    filler: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One rank's share of an optimizer step, with the totals over all ranks that the loss is averaged by."""

    micro_batches: tuple[MicroBatch, ...]
    total_sequences: int
    total_tokens: int  # action tokens


def plan_steps(
    sequences: Seq[Sequence], num_steps: int, num_ranks: int, max_tokens: int, unit: int = 1
) -> list[list[Step]]:
    """Deal sequences over steps, then ranks: `[rank][step]`, every rank with as many micro-batches as the others.

    Each run of `unit` sequences (the two of a preference pair) stays together, in order.
    """
    units = [tuple(sequences[start : start + unit]) for start in range(0, len(sequences), unit)]
    steps = [units[start::num_steps] for start in range(num_steps)]
    plans = [_plan_step(step, num_ranks, max_tokens) for step in steps if step]
    return [[plan[rank] for plan in plans] for rank in range(num_ranks)]


def split_by_tokens(units: Seq[Unit], max_tokens: int) -> list[list[int]]:
    """Indices of units in micro-batches of like lengths, longest first, each within `max_tokens` padded tokens."""
    order = sorted(range(len(units)), key=lambda index: (-_width(units[index]), index))
    micro_batches: list[list[int]] = []
    widest = 0
    for index in order:
        rows = len(units[index])
        if micro_batches and widest * rows * (len(micro_batches[-1]) + 1) <= max_tokens:
            micro_batches[-1].append(index)
        else:
            micro_batches.append([index])
            widest = _width(units[index])
    return micro_batches


def _width(unit: Unit) -> int:
    return max(len(sequence.tokens) for sequence in unit)


def _plan_step(units: list[Unit], num_ranks: int, max_tokens: int) -> list[Step]:
    micro_batches = [[units[index] for index in indices] for indices in split_by_tokens(units, max_tokens)]
    fillers = 0
    while (len(micro_batches) + fillers) % num_ranks:
        largest = max(range(len(micro_batches)), key=lambda index: len(micro_batches[index]))
        rows = micro_batches[largest]
        if len(rows) > 1:
            micro_batches[largest : largest + 1] = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
        else:
            fillers += 1
    planned = [MicroBatch(tuple(row for unit in rows for row in unit)) for rows in micro_batches]
    planned += [MicroBatch(min(units, key=_width), filler=True)] * fillers
    total_tokens = sum(row.completion_length for unit in units for row in unit)
    total_sequences = sum(len(unit) for unit in units)
    return [Step(tuple(planned[rank::num_ranks]), total_sequences, total_tokens) for rank in range(num_ranks)]
