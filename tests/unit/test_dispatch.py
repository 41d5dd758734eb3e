"""Assignments: whole groups, long prompts first, to the least loaded engine, and again to one that was lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapo_ray.orchestrator.dispatch import OVERCOMMIT, Dispatch, SampleRequest
from rapo_ray.types import Rollout, Sampling
from tests.make import make_prompt, make_rollout

pytestmark = pytest.mark.unit

SAMPLING = Sampling(1.0, 1.0, 8, None, logprobs=True)


def groups(lengths: list[int], samples: int = 2) -> list[list[SampleRequest]]:
    """A group a prompt of that many characters."""
    return [
        [SampleRequest(group, make_prompt(group, text="x" * length), sample, 7, SAMPLING) for sample in range(samples)]
        for group, length in enumerate(lengths)
    ]


def keys(batches: list[list[SampleRequest]]) -> list[tuple[int, int]]:
    return [request.key for batch in batches for request in batch]


def ends(requests: list[SampleRequest]) -> list[Rollout]:
    return [make_rollout(request.group, request.sample) for request in requests]


def test_what_fits_is_handed_out_at_once_long_prompts_first() -> None:
    dispatch = Dispatch(groups([1, 9, 5, 7]), engines=2, capacity=4)
    handed = dispatch.next_assignments()
    assert {engine: keys(batches) for engine, batches in handed.items()} == {
        0: [(1, 0), (1, 1), (2, 0), (2, 1)],
        1: [(3, 0), (3, 1), (0, 0), (0, 1)],
    }
    assert all(len(batches) == 1 for batches in handed.values()), "one batch an engine, so that timing decides nothing"
    assert dispatch.next_assignments() == {}


def test_the_rest_goes_to_whoever_has_least_to_do() -> None:
    dispatch = Dispatch(groups([1] * 5, samples=1), engines=2, capacity=1)
    first = dispatch.next_assignments()
    assert {engine: len(keys(batches)) for engine, batches in first.items()} == {0: OVERCOMMIT, 1: OVERCOMMIT}
    dispatch.mark_finished(1, ends(first[1][0]))
    assert {engine: keys(batches) for engine, batches in dispatch.next_assignments().items()} == {1: [(4, 0)]}
    assert dispatch.busy(0) and dispatch.busy(1)


def test_a_group_larger_than_an_engine_is_not_stuck() -> None:
    dispatch = Dispatch(groups([1], samples=50), engines=1, capacity=2)
    assert len(keys(dispatch.next_assignments()[0])) == 50


def test_a_lost_engine_gets_its_open_batch_whole_and_its_repeats_are_dropped() -> None:
    dispatch = Dispatch(groups([3, 2, 1]), engines=1, capacity=8)
    (batch,) = dispatch.next_assignments()[0]
    written = ends(batch)
    assert dispatch.mark_finished(0, written[:2]) == written[:2]
    assert dispatch.requeue(0) == 4
    assert dispatch.next_assignments() == {0: [batch]}
    assert dispatch.mark_finished(0, written) == written[2:]
    assert not dispatch.unfinished
    assert not dispatch.busy(0)


def test_a_batch_that_is_done_is_not_written_again() -> None:
    dispatch = Dispatch(groups([2, 1], samples=1), engines=1, capacity=1)
    (batch,) = dispatch.next_assignments()[0]
    dispatch.mark_finished(0, ends(batch))
    assert dispatch.requeue(0) == 0
    assert dispatch.next_assignments() == {}


@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), st.integers(1, 4), st.integers(1, 6), st.data())
def test_every_completion_comes_once_whatever_is_lost(
    lengths: list[int], engines: int, capacity: int, data: st.DataObject
) -> None:
    dispatch = Dispatch(groups(lengths), engines, capacity)
    holds: dict[int, list[SampleRequest]] = {engine: [] for engine in range(engines)}
    came: list[tuple[int, int]] = []
    losses = 3
    while dispatch.unfinished:
        for engine, batches in dispatch.next_assignments().items():
            holds[engine] += [request for batch in batches for request in batch]
        engine = data.draw(st.sampled_from([engine for engine, held in holds.items() if held]))
        if losses and data.draw(st.booleans()):
            losses -= 1
            holds[engine] = []
            dispatch.requeue(engine)
            continue
        request = holds[engine].pop(data.draw(st.integers(0, len(holds[engine]) - 1)))
        came += [(rollout.group, rollout.sample) for rollout in dispatch.mark_finished(engine, ends([request]))]
    assert sorted(came) == [(group, sample) for group in range(len(lengths)) for sample in range(2)]
