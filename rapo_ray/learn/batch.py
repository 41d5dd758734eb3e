"""Which sequences go into which optimizer step, rank and micro-batch (pure; equal work on every rank)."""

from collections.abc import Sequence as Seq
from dataclasses import dataclass

from rapo_ray.types import Sequence


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


def plan_steps(sequences: Seq[Sequence], num_steps: int, num_ranks: int, max_tokens: int) -> list[list[Step]]:
    """Deal sequences over steps, then ranks: `[rank][step]`, every rank with as many micro-batches as the others."""
    steps = [sequences[start::num_steps] for start in range(num_steps)]
    plans = [_plan_step(list(step), num_ranks, max_tokens) for step in steps if step]
    return [[plan[rank] for plan in plans] for rank in range(num_ranks)]


def split_by_tokens(sequences: Seq[Sequence], max_tokens: int) -> list[list[int]]:
    """Indices of sequences in micro-batches of like lengths, longest first, each within `max_tokens` padded tokens."""
    order = sorted(range(len(sequences)), key=lambda index: (-len(sequences[index].tokens), index))
    micro_batches: list[list[int]] = []
    widest = 0
    for index in order:
        if micro_batches and widest * (len(micro_batches[-1]) + 1) <= max_tokens:
            micro_batches[-1].append(index)
        else:
            micro_batches.append([index])
            widest = len(sequences[index].tokens)
    return micro_batches


def _plan_step(sequences: list[Sequence], num_ranks: int, max_tokens: int) -> list[Step]:
    micro_batches = [
        MicroBatch(tuple(sequences[index] for index in indices)) for indices in split_by_tokens(sequences, max_tokens)
    ]
    shortest = min(sequences, key=lambda sequence: len(sequence.tokens))
    while len(micro_batches) % num_ranks:
        largest = max(range(len(micro_batches)), key=lambda index: len(micro_batches[index].sequences))
        rows = micro_batches[largest].sequences
        if len(rows) > 1:
            halves = (MicroBatch(rows[: len(rows) // 2]), MicroBatch(rows[len(rows) // 2 :]))
            micro_batches[largest : largest + 1] = halves
        else:
            micro_batches.append(MicroBatch((shortest,), filler=True))
    total_tokens = sum(sequence.completion_length for sequence in sequences)
    return [Step(tuple(micro_batches[rank::num_ranks]), len(sequences), total_tokens) for rank in range(num_ranks)]
