"""Intervals and agreement against scipy and statsmodels."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap
from statsmodels.stats.inter_rater import cohens_kappa as their_kappa
from statsmodels.stats.proportion import proportion_confint

from rapo_ray.evaluation.gate import rows_needed
from rapo_ray.judging.agreement import cohens_kappa
from rapo_ray.statistics import Interval, paired_bootstrap, wilson_bounds, wilson_interval

pytestmark = pytest.mark.unit

COUNTS = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(COUNTS)
def test_wilson_is_scipy_s_and_statsmodels(counts: tuple[int, int]) -> None:
    successes, n = counts
    ours = wilson_interval(successes, n)
    theirs = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert ours.mean == successes / n
    assert ours.ci95 == pytest.approx([theirs.low, theirs.high], abs=1e-9)
    assert ours.ci95 == pytest.approx(list(proportion_confint(successes, n, method="wilson")), abs=1e-9)


def test_zero_trials_have_no_interval() -> None:
    assert wilson_interval(0, 0) == Interval()


def test_the_bootstrap_is_scipy_s_percentile_one() -> None:
    values = [random.Random(0).gauss(0.3, 1.0) for _ in range(120)]
    ours = paired_bootstrap(values, seed=0)
    theirs = bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert ours.mean == pytest.approx(float(np.mean(values)))
    assert ours.ci95 == pytest.approx([theirs.low, theirs.high], abs=0.02)  # two draws of the same resampling


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=60))
def test_kappa_is_statsmodels(pairs: list[tuple[int, int]]) -> None:
    ours = cohens_kappa(pairs)
    table = np.zeros((3, 3))
    for one, other in pairs:
        table[one, other] += 1
    if ours is None:  # chance alone agrees fully, and theirs divides by zero
        assert len({label for pair in pairs for label in pair}) == 1
    else:
        assert ours == pytest.approx(float(their_kappa(table, return_results=False)), abs=1e-9)


@given(st.floats(0, 1), st.floats(0.01, 0.99))
def test_the_rows_needed_are_the_fewest_that_settle_it(share: float, bar: float) -> None:
    if abs(share - bar) < 0.02:
        return
    needed = rows_needed(share, bar)
    assert needed is not None

    def settled(n: int) -> bool:
        low, high = wilson_bounds(share, n)
        return high <= bar or low > bar

    assert settled(needed)
    assert needed == 2 or not settled(needed - 1)


def test_a_share_on_the_bar_is_never_settled() -> None:
    assert rows_needed(0.1, 0.1) is None
