"""Verdicts to advantages: worked by hand, and a failed verdict has no part in anything."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapo_ray.config import CreditConfig
from rapo_ray.reward.credit import STD_FLOOR, assign_credit, total_reward
from rapo_ray.types import Status, Verdict
from tests.make import failed, make_group, scored

pytestmark = pytest.mark.unit

GRPO, DR_GRPO = CreditConfig(), CreditConfig(scale_by_std=False)
TOTALS = st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0])
GROUPS = st.lists(TOTALS | st.none(), min_size=2, max_size=12)


def credit(totals_G: list[float | None], config: CreditConfig = GRPO) -> list[float | None]:
    """Advantages of a group with these totals; None is a failed verdict."""
    group = make_group(*(failed() if total is None else scored(total) for total in totals_G))
    return [sample.advantage for sample in assign_credit(group, config).samples_G]


def test_the_total_is_risk_plus_general() -> None:
    assert [total_reward(scored(total)) for total in (-2.0, -1.0, 0.0, 1.0, 2.0)] == [-2.0, -1.0, 0.0, 1.0, 2.0]
    assert total_reward(Verdict(Status.MALFORMED, "rules-1", risk=-1.0, general=-1.0)) == -2.0


@pytest.mark.parametrize(
    "verdict",
    [failed(), Verdict(Status.PARSE, "j", risk=1.0), Verdict(Status.PARSE, "j", general=1.0)],
)
def test_a_verdict_without_both_parts_has_no_total(verdict: Verdict) -> None:
    assert total_reward(verdict) is None
    assert not verdict.scorable


def test_grpo_by_hand() -> None:
    # Totals 2, 0, 0, -2: mean 0, squares 4 + 0 + 0 + 4 over 3.
    scale = math.sqrt(8 / 3) + 1e-4
    assert credit([2.0, 0.0, 0.0, -2.0]) == pytest.approx([2 / scale, 0.0, 0.0, -2 / scale], abs=1e-12)


def test_two_samples_by_hand() -> None:
    # Totals 2, -1: mean 0.5, deviation sqrt(2 * 1.5**2 / 1).
    scale = math.sqrt(4.5) + 1e-4
    assert credit([2.0, -1.0]) == pytest.approx([1.5 / scale, -1.5 / scale], abs=1e-12)


def test_without_scaling_the_advantage_is_the_centred_reward() -> None:
    assert credit([2.0, 0.0, 0.0, -2.0], DR_GRPO) == [2.0, 0.0, 0.0, -2.0]
    assert credit([2.0, 1.0, 0.0], DR_GRPO) == [1.0, 0.0, -1.0]


def test_the_floor_is_trl_s() -> None:
    assert STD_FLOOR == 1e-4


def test_rewards_stay_with_their_samples() -> None:
    group = assign_credit(make_group(scored(2.0), failed(), scored(-1.0)), GRPO)
    assert [sample.reward for sample in group.samples_G] == [2.0, None, -1.0]
    assert [sample.rollout.sample for sample in group.samples_G] == [0, 1, 2]


@given(GROUPS, st.sampled_from([GRPO, DR_GRPO]))
def test_a_failed_verdict_changes_nothing_for_the_others(totals_G: list[float | None], config: CreditConfig) -> None:
    advantages = credit(totals_G, config)
    present = [total for total in totals_G if total is not None]
    kept = [advantage for total, advantage in zip(totals_G, advantages, strict=True) if total is not None]
    assert kept == credit(list(present), config)
    assert all(advantage is None for total, advantage in zip(totals_G, advantages, strict=True) if total is None)


@given(GROUPS, st.sampled_from([GRPO, DR_GRPO]))
def test_advantages_sum_to_zero_and_keep_the_order_of_rewards(
    totals_G: list[float | None], config: CreditConfig
) -> None:
    pairs = [
        (total, advantage)
        for total, advantage in zip(totals_G, credit(totals_G, config), strict=True)
        if total is not None and advantage is not None
    ]
    assert math.fsum(advantage for _, advantage in pairs) == pytest.approx(0.0, abs=1e-9)
    for total, advantage in pairs:
        assert all((total > other) == (advantage > beside) for other, beside in pairs)


@given(st.lists(TOTALS, min_size=2, max_size=12).filter(lambda totals: len(set(totals)) > 1))
def test_scaled_advantages_have_unit_deviation(totals_G: list[float]) -> None:
    advantages = [advantage for advantage in credit(list(totals_G)) if advantage is not None]
    variance = math.fsum(advantage**2 for advantage in advantages) / (len(advantages) - 1)
    assert len(advantages) == len(totals_G)
    assert math.sqrt(variance) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("totals_G", [[1.0, 1.0, 1.0], [1.0, None, 1.0], [2.0, None, None], [None, None], [-2.0, -2.0]])
@pytest.mark.parametrize("config", [GRPO, DR_GRPO])
def test_without_variance_there_is_no_advantage(totals_G: list[float | None], config: CreditConfig) -> None:
    assert credit(totals_G, config) == [None] * len(totals_G)


def test_a_malformed_completion_is_the_worst_and_counts() -> None:
    malformed = Verdict(Status.MALFORMED, "rules-1", risk=-1.0, general=-1.0)
    group = assign_credit(make_group(malformed, scored(0.0)), DR_GRPO)
    assert [sample.advantage for sample in group.samples_G] == [-1.0, 1.0]
