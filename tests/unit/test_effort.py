"""Success against effort: the estimator against all subsets, its intervals, and the tries that half of them take."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapo_ray.evaluation.effort import (
    Tried,
    interval_over_behaviours,
    steps,
    success_within,
    tried,
    tries_for_half,
    values_at,
)
from rapo_ray.statistics import wilson_interval

pytestmark = pytest.mark.unit

OUTCOMES = st.lists(st.sampled_from([True, False, None]), min_size=1, max_size=9)


@given(outcomes=OUTCOMES)
def test_success_within_agrees_with_a_plain_computation_over_all_subsets(outcomes: list[bool | None]) -> None:
    known = [outcome for outcome in outcomes if outcome is not None]
    one = tried(outcomes)
    assert one == Tried(len(known), known.count(True))
    for tries in range(1, len(known) + 1):
        subsets = list(combinations(known, tries))
        plain = sum(any(subset) for subset in subsets) / len(subsets)
        assert success_within(one, tries) == pytest.approx(plain)


@given(outcomes=OUTCOMES)
def test_more_tries_never_succeed_less(outcomes: list[bool | None]) -> None:
    one = tried(outcomes)
    curve = [success_within(one, tries) for tries in range(1, one.tries + 1)]
    assert curve == sorted(curve)
    assert not curve or curve[-1] == float(one.successes > 0)


@pytest.mark.parametrize("tries", [0, 4])
def test_there_is_no_figure_for_more_tries_than_could_be_scored(tries: int) -> None:
    with pytest.raises(ValueError, match=f"no subset of {tries} among 3 tries"):
        success_within(Tried(3, 1), tries)


def test_a_behaviour_counts_as_far_as_it_was_tried() -> None:
    some = [Tried(4, 1), Tried(2, 2), Tried(0, 0)]
    assert values_at(some, 1) == [0.25, 1.0]
    assert values_at(some, 4) == [1.0]
    assert values_at(some, 8) == []


def test_intervals_resample_behaviours_and_are_never_certain() -> None:
    interval = interval_over_behaviours([0.0] * 30 + [1.0] * 10, 0)
    assert interval.mean == 0.25 and interval.ci95 is not None
    low, high = interval.ci95
    assert low == pytest.approx(0.125, abs=0.03) and high == pytest.approx(0.4, abs=0.03)
    assert interval_over_behaviours([0.0] * 20, 0) == wilson_interval(0, 20)
    assert interval_over_behaviours([1.0] * 20, 0) == wilson_interval(20, 20)
    assert interval_over_behaviours([], 0) == wilson_interval(0, 0)


@pytest.mark.parametrize(
    ("tries", "numbers"), [(0, []), (1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])]
)  # fmt: skip
def test_figures_are_for_powers_of_two_and_all(tries: int, numbers: list[int]) -> None:
    assert steps(tries) == numbers


def test_the_tries_that_half_of_the_behaviours_take() -> None:
    one_in_four = [Tried(8, 2)] * 4  # 1/4, then 1 - (6*5)/(8*7) = 0.464, then 1 - (6*5*4)/(8*7*6) = 0.643
    assert tries_for_half(one_in_four, 8) == 3
    assert tries_for_half(one_in_four, 2) is None
    assert tries_for_half([Tried(8, 0)] * 3 + [Tried(8, 8)], 8) is None
    assert tries_for_half([Tried(1, 1), Tried(0, 0)], 8) == 1
    assert tries_for_half([], 8) is None
