"""Online preference pairs: best against worst, ties dropped, margins kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapo_ray.config.learning import CreditConfig
from rapo_ray.reward.credit import assign_credit
from rapo_ray.reward.pairs import make_pairs
from rapo_ray.types import Verdict
from tests.make import failed, make_group, scored

pytestmark = pytest.mark.unit


def pairs(*verdicts: Verdict, min_margin: float = 0.0) -> list[tuple[int, int, float]]:
    """(chosen, rejected, margin) by sample number."""
    credited = assign_credit([make_group(*verdicts)], CreditConfig())
    return [
        (pair.chosen.rollout.sample, pair.rejected.rollout.sample, pair.margin)
        for pair in make_pairs(credited, min_margin)
    ]


def test_best_against_worst_and_the_first_of_equals() -> None:
    verdicts = scored(1.0), failed(), scored(-2.0), scored(2.0), scored(2.0), scored(-2.0)
    assert pairs(*verdicts) == [(3, 2, 4.0)]


def test_a_tie_makes_no_pair() -> None:
    assert pairs(scored(1.0), scored(1.0), failed()) == []


def test_the_margin_must_be_exceeded() -> None:
    assert pairs(scored(1.0), scored(0.0), min_margin=1.0) == []
    assert pairs(scored(2.0), scored(0.0), min_margin=1.0) == [(0, 1, 2.0)]


@given(st.lists(st.sampled_from([-2.0, 0.0, 2.0]) | st.none(), min_size=1, max_size=6))
def test_a_failed_verdict_is_in_no_pair(totals: list[float | None]) -> None:
    results = pairs(*(failed() if total is None else scored(total) for total in totals))
    present = [total for total in totals if total is not None]
    assert len(results) == (len(set(present)) > 1)
    for chosen, rejected, margin in results:
        best, worst = totals[chosen], totals[rejected]
        assert best == max(present) and worst == min(present)
        assert margin == max(present) - min(present)
