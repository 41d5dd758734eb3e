"""Planning of sequences over steps, ranks and micro-batches: each is trained on once, and ranks do equal work."""

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapo_ray.data.sampler import PromptSampler
from rapo_ray.trainer.batch import MicroBatch, Step, pack_rows, plan_steps, row_width, split_by_tokens
from rapo_ray.types import Prompt, Sequence

pytestmark = pytest.mark.unit

LENGTHS = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 30)), min_size=1, max_size=30)
STEPS, RANKS, BUDGET = st.integers(1, 5), st.integers(1, 5), st.integers(1, 90)


def make(lengths: Iterable[tuple[int, int]]) -> list[Sequence]:
    """Make sequences of (prompt, completion) lengths; the first token is the sequence's number, so none are equal."""
    return [
        Sequence((number, *[0] * (prompt - 1)), (0,) * completion, 0.0, (0.0,) * completion)
        for number, (prompt, completion) in enumerate(lengths)
    ]


def numbers(micro_batches: Iterable[MicroBatch]) -> Counter[int]:
    """Count how often each sequence is trained on."""
    return Counter(row.tokens[0] for batch in micro_batches if not batch.filler for row in batch.sequences)


def all_of(plan: list[list[Step]], step: int) -> list[MicroBatch]:
    return [batch for steps in plan for batch in steps[step].micro_batches]


@given(LENGTHS, STEPS, RANKS, BUDGET)
def test_every_sequence_is_trained_on_exactly_once(
    lengths: list[tuple[int, int]], num_steps: int, ranks: int, budget: int
) -> None:
    plan = plan_steps(make(lengths), num_steps, ranks, budget)
    trained = numbers(batch for steps in plan for step in steps for batch in step.micro_batches)
    assert trained == Counter(range(len(lengths)))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("num_steps", [2, 3, 4])
def test_every_step_of_a_sampled_batch_holds_every_level_and_label(seed: int, num_steps: int) -> None:
    prompts = [
        Prompt(f"{level}/{harmful}/{number}", f"{level} {harmful} {number}", harmful, level, "set", "train")
        for level in (1, 2, 3)
        for harmful in (True, False)
        for number in range(20)
    ]
    batch = PromptSampler(prompts, 24, seed).next_batch()
    sequences = [Sequence((place,), (0,), 0.0, (0.0,)) for place in range(len(batch)) for _ in range(4)]
    plan = plan_steps(sequences, num_steps, num_ranks=1, max_tokens=1000)
    strata = [
        {(batch[place].level, batch[place].harmful) for place in numbers(all_of(plan, step))}
        for step in range(num_steps)
    ]
    assert all(len(held) == 6 for held in strata), strata


@given(LENGTHS, STEPS, RANKS, BUDGET)
def test_all_ranks_do_equal_work(lengths: list[tuple[int, int]], num_steps: int, ranks: int, budget: int) -> None:
    plan = plan_steps(make(lengths), num_steps, ranks, budget)
    assert len(plan) == ranks
    shapes = [[len(step.micro_batches) for step in steps] for steps in plan]
    assert all(shape == shapes[0] for shape in shapes)
    assert len(shapes[0]) == min(num_steps, len(lengths))
    assert all(count >= 1 for count in shapes[0])


@given(LENGTHS, STEPS, RANKS, BUDGET)
def test_a_micro_batch_keeps_the_token_budget_or_is_one_sequence(
    lengths: list[tuple[int, int]], num_steps: int, ranks: int, budget: int
) -> None:
    for steps in plan_steps(make(lengths), num_steps, ranks, budget):
        for batch in (batch for step in steps for batch in step.micro_batches):
            widest = max(len(row[0].tokens) for row in batch.rows)
            assert all(len(row) == 1 for row in batch.rows)  # no row is shared without row_tokens
            assert len(batch.rows) == 1 or widest * len(batch.rows) <= budget


@given(LENGTHS, STEPS, RANKS, BUDGET)
def test_fillers_come_only_where_nothing_can_be_split(
    lengths: list[tuple[int, int]], num_steps: int, ranks: int, budget: int
) -> None:
    plan = plan_steps(make(lengths), num_steps, ranks, budget)
    for step in range(len(plan[0])):
        batches = all_of(plan, step)
        fillers = [batch for batch in batches if batch.filler]
        rows = sum(len(batch.sequences) for batch in batches if not batch.filler)
        assert len(fillers) == (-rows % ranks if fillers else 0)
        if fillers:
            shortest = min(len(row.tokens) for batch in batches for row in batch.sequences)
            assert all(len(batch.sequences) == 1 for batch in batches)
            assert all(len(batch.sequences[0].tokens) == shortest for batch in fillers)


@given(LENGTHS, STEPS, RANKS, BUDGET)
def test_totals_count_the_whole_step_on_every_rank_and_no_filler(
    lengths: list[tuple[int, int]], num_steps: int, ranks: int, budget: int
) -> None:
    plan = plan_steps(make(lengths), num_steps, ranks, budget)
    for step in range(len(plan[0])):
        rows = [row for batch in all_of(plan, step) if not batch.filler for row in batch.sequences]
        totals = {(steps[step].total_sequences, steps[step].total_tokens) for steps in plan}
        assert totals == {(len(rows), sum(len(row.completion) for row in rows))}


@given(LENGTHS, BUDGET)
def test_similar_lengths_go_together_longest_first(lengths: list[tuple[int, int]], budget: int) -> None:
    sequences = make(lengths)
    order = [index for batch in split_by_tokens([((sequence,),) for sequence in sequences], budget) for index in batch]
    widths = [len(sequences[index].tokens) for index in order]
    assert sorted(order) == list(range(len(sequences)))
    assert widths == sorted(widths, reverse=True)


def test_a_step_of_three_over_two_ranks_by_hand() -> None:
    sequences = make([(1, 9), (1, 4), (1, 3)])  # 10, 5 and 4 tokens
    plan = plan_steps(sequences, num_steps=1, num_ranks=2, max_tokens=10)
    assert [[[row.tokens[0] for row in batch.sequences] for batch in steps[0].micro_batches] for steps in plan] == [
        [[0]],
        [[1, 2]],
    ]
    assert (plan[0][0].total_sequences, plan[0][0].total_tokens) == (3, 16)


def test_one_sequence_over_three_ranks_is_trained_on_one_and_fills_two() -> None:
    plan = plan_steps(make([(1, 4)]), num_steps=1, num_ranks=3, max_tokens=100)
    assert [steps[0].micro_batches[0].filler for steps in plan] == [False, True, True]
    assert {(steps[0].total_sequences, steps[0].total_tokens) for steps in plan} == {(1, 4)}


def test_one_micro_batch_is_halved_for_two_ranks_before_any_filler() -> None:
    plan = plan_steps(make([(1, 4)] * 4), num_steps=1, num_ranks=2, max_tokens=1000)
    assert [[len(batch.sequences) for batch in steps[0].micro_batches] for steps in plan] == [[2], [2]]


def test_nothing_to_train_on_is_no_step() -> None:
    assert plan_steps([], num_steps=2, num_ranks=2, max_tokens=10) == [[], []]


@given(LENGTHS.filter(lambda lengths: len(lengths) % 2 == 0), STEPS, RANKS, BUDGET)
def test_the_two_of_a_pair_stay_together_in_order(
    lengths: list[tuple[int, int]], num_steps: int, ranks: int, budget: int
) -> None:
    plan = plan_steps(make(lengths), num_steps, ranks, budget, item_size=2)
    batches = [batch for steps in plan for step in steps for batch in step.micro_batches]
    assert numbers(batches) == Counter(range(len(lengths)))
    for batch in batches:
        rows = [row.tokens[0] for row in batch.sequences]
        assert all(first % 2 == 0 and second == first + 1 for first, second in zip(rows[::2], rows[1::2], strict=True))
        assert all(len(row) == 2 for row in batch.rows)


def group(prompt: tuple[int, ...], *completions: int) -> list[Sequence]:
    """Make the sequences of one prompt with these completion lengths."""
    return [Sequence(prompt, (9,) * length, 0.0, (0.0,) * length) for length in completions]


def test_a_shared_prompt_counts_once() -> None:
    first, second = group((1, 2, 3), 4, 5)
    (other,) = group((1, 2, 4), 5)
    assert row_width(((first,), (second,))) == 3 + 4 + 5
    assert row_width(((first,), (other,))) == 3 + 4 + 3 + 5
    assert row_width(((first, second),)) == 12


@given(LENGTHS, st.integers(0, 80))
def test_rows_keep_order_and_their_limit(lengths: list[tuple[int, int]], row_tokens: int) -> None:
    sequences = make(lengths)
    rows = pack_rows([(sequence,) for sequence in sequences], row_tokens)
    assert [item[0] for row in rows for item in row] == sequences
    assert all(len(row) == 1 or row_width(row) <= row_tokens for row in rows)


@given(LENGTHS, STEPS, RANKS, BUDGET, st.integers(0, 120))
def test_packed_rows_lose_nothing_and_keep_ranks_equal(
    lengths: list[tuple[int, int]], num_steps: int, ranks: int, budget: int, row_tokens: int
) -> None:
    plan = plan_steps(make(lengths), num_steps, ranks, budget, row_tokens)
    assert numbers(batch for steps in plan for step in steps for batch in step.micro_batches) == Counter(
        range(len(lengths))
    )
    shapes = [[len(step.micro_batches) for step in steps] for steps in plan]
    assert all(shape == shapes[0] for shape in shapes)
    for batch in (batch for steps in plan for step in steps for batch in step.micro_batches):
        widest = max(sum(len(sequence.tokens) for sequence in row) for row in batch.rows)
        assert len(batch.rows) == 1 or widest * len(batch.rows) <= budget


def test_a_group_s_samples_stay_in_one_step() -> None:
    sequences = [*group((1,), 4, 4), *group((2,), 4, 4), *group((3,), 4, 4)]
    ((first, second),) = plan_steps(sequences, num_steps=2, num_ranks=1, max_tokens=1000, row_tokens=9)
    assert [sequence.tokens[0] for batch in first.micro_batches for sequence in batch.sequences] == [1, 1]
    assert [row[0].tokens[0] for batch in second.micro_batches for row in batch.rows] == [2, 3]
    assert [len(row) for batch in second.micro_batches for row in batch.rows] == [2, 2]
