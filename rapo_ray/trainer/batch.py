"""Assignment of sequences to optimizer steps, ranks, micro-batches and rows (pure; equal work on every rank).

A row packs sequences one after another; those of the same prompt share its tokens, so that a group's prompt is computed
once (`model.collate` masks sequences from each other).
"""

import itertools
import math
from collections.abc import Sequence as Seq

from rapo_ray.types import Message, Sequence, message

LOGIT_ROWS = 1024  # hidden states that the head projects at once; bounds the largest intermediate

RowItem = tuple[Sequence, ...]  # stays together in one row: one sequence, or the two of a preference pair
Row = tuple[RowItem, ...]


@message
class MicroBatch(Message):
    """Rows of one forward pass; a filler repeats a row at zero weight to keep the ranks in step."""

    rows: tuple[tuple[Sequence, ...], ...]
    filler: bool = False

    @property
    def sequences(self) -> tuple[Sequence, ...]:
        """Its sequences, row by row."""
        return tuple(sequence for row in self.rows for sequence in row)


@message
class Step(Message):
    """One rank's share of an optimizer step, with the totals over all ranks that normalize the loss."""

    micro_batches: tuple[MicroBatch, ...]
    total_sequences: int
    total_tokens: int  # action tokens


def plan_steps(
    sequences: Seq[Sequence], num_steps: int, num_ranks: int, max_tokens: int, row_tokens: int = 0, item_size: int = 1
) -> list[list[Step]]:
    """Deal prompts to steps and rows to ranks; returns `[rank][step]`, with equally many micro-batches on every rank.

    A step takes prompts that follow each other: the sampler orders a batch so that any stretch of it holds every level
    and label, which every second prompt does not (`PromptSampler`).

    Every `item_size` consecutive sequences (the two of a preference pair) stay together, in order.
    """
    items = [tuple(sequences[start : start + item_size]) for start in range(0, len(sequences), item_size)]
    prompts = [list(same) for _, same in itertools.groupby(items, key=lambda item: item[0].prompt)]
    ends = [len(prompts) * number // num_steps for number in range(num_steps + 1)]
    steps = [[item for prompt in prompts[start:end] for item in prompt] for start, end in itertools.pairwise(ends)]
    plans = [_plan_step(step, num_ranks, max_tokens, row_tokens) for step in steps if step]
    return [[plan[rank] for plan in plans] for rank in range(num_ranks)]


def pack_rows(items: Seq[RowItem], row_tokens: int) -> list[Row]:
    """Pack items, in order, into rows of up to `row_tokens` tokens; a wider item gets a row of its own."""
    rows: list[list[RowItem]] = []
    width = 0
    for item in items:
        own = row_width((item,))
        prompt = item[0].prompt
        more = own - len(prompt) if rows and rows[-1][-1][-1].prompt == prompt else own
        if rows and width + more <= row_tokens:
            rows[-1].append(item)
            width += more
        else:
            rows.append([item])
            width = own
    return [tuple(row) for row in rows]


def row_width(row: Row) -> int:
    """Count the tokens of a row; a prompt that consecutive sequences share counts once."""
    width = 0
    before: tuple[int, ...] | None = None
    for item in row:
        for sequence in item:
            width += len(sequence.completion) + (0 if sequence.prompt == before else len(sequence.prompt))
            before = sequence.prompt
    return width


def split_by_tokens(rows: Seq[Row], max_tokens: int) -> list[list[int]]:
    """Group row indices into micro-batches of similar widths, widest first, each within `max_tokens` padded tokens."""
    widths = [row_width(row) for row in rows]
    micro_batches: list[list[int]] = []
    widest = 0
    for index in sorted(range(len(rows)), key=lambda index: (-widths[index], index)):
        if micro_batches and widest * (len(micro_batches[-1]) + 1) <= max_tokens:
            micro_batches[-1].append(index)
        else:
            micro_batches.append([index])
            widest = widths[index]
    return micro_batches


def _plan_step(items: list[RowItem], num_ranks: int, max_tokens: int, row_tokens: int) -> list[Step]:
    fair = math.ceil(sum(row_width((item,)) for item in items) / num_ranks)  # so that no rank is left without a row
    rows = pack_rows(items, min(row_tokens, fair))
    micro_batches = [[rows[index] for index in indices] for indices in split_by_tokens(rows, max_tokens)]
    fillers = 0
    while (len(micro_batches) + fillers) % num_ranks:
        if not _split_largest(micro_batches):
            fillers += 1
    planned = [MicroBatch(tuple(_flat(row) for row in batch)) for batch in micro_batches]
    if fillers:
        planned += [MicroBatch((min(items, key=lambda item: row_width((item,))),), filler=True)] * fillers
    total_tokens = sum([len(sequence.completion) for item in items for sequence in item])
    total_sequences = sum(len(item) for item in items)
    return [Step(tuple(planned[rank::num_ranks]), total_sequences, total_tokens) for rank in range(num_ranks)]


def _split_largest(micro_batches: list[list[Row]]) -> bool:
    """Halve the micro-batch with the most items, between rows or within its only row; False if all hold one item."""
    index = max(range(len(micro_batches)), key=lambda index: sum(len(row) for row in micro_batches[index]))
    rows = micro_batches[index]
    if len(rows) > 1:
        halves = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
    elif len(rows[0]) > 1:
        (row,) = rows
        halves = [[row[: len(row) // 2]], [row[len(row) // 2 :]]]
    else:
        return False
    micro_batches[index : index + 1] = halves
    return True


def _flat(row: Row) -> tuple[Sequence, ...]:
    return tuple(sequence for item in row for sequence in item)
