"""Verdicts to advantages: worked by hand, and a failed verdict has no part in anything."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapo_ray.config import CreditConfig
from rapo_ray.reward.credit import STD_FLOOR, assign_credit, gated_reward, is_unsafe, teaches, total_reward
from rapo_ray.types import Group, Status, Verdict
from tests.make import failed, make_group, make_prompt, scored

pytestmark = pytest.mark.unit

GRPO, DR_GRPO, RLOO, GDPO, GATED = (
    CreditConfig(scheme=scheme) for scheme in ("grpo", "dr_grpo", "rloo", "gdpo", "gated")
)
ALL_SCHEMES = [GRPO, DR_GRPO, RLOO, GDPO, GATED]
MALFORMED = Verdict(Status.MALFORMED, "rules-1", risk=-1.0, general=-1.0)
TOTALS = st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0])
GROUPS = st.lists(TOTALS | st.none(), min_size=2, max_size=12)


def credit(totals_G: list[float | None], config: CreditConfig = GRPO) -> list[float | None]:
    """Advantages of a group with these totals; None is a failed verdict."""
    return advantages_of(make_group(*(failed() if total is None else scored(total) for total in totals_G)), config)


def advantages_of(group: Group, config: CreditConfig) -> list[float | None]:
    """Advantages of one group alone."""
    (credited,) = assign_credit([group], config)
    return [sample.advantage for sample in credited.samples_G]


def verdict(risk: float, general: float) -> Verdict:
    """A verdict with these parts."""
    return Verdict(Status.OK, "fake", risk=risk, general=general)


def test_the_total_is_risk_plus_general() -> None:
    assert [total_reward(scored(total)) for total in (-2.0, -1.0, 0.0, 1.0, 2.0)] == [-2.0, -1.0, 0.0, 1.0, 2.0]
    assert total_reward(Verdict(Status.MALFORMED, "rules-1", risk=-1.0, general=-1.0)) == -2.0


@pytest.mark.parametrize(
    "incomplete",
    [failed(), Verdict(Status.PARSE, "j", risk=1.0), Verdict(Status.PARSE, "j", general=1.0)],
)
def test_a_verdict_without_both_parts_has_no_total(incomplete: Verdict) -> None:
    assert total_reward(incomplete) is None
    assert gated_reward(incomplete, harmful=True) is None
    assert not incomplete.scorable


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
    (group,) = assign_credit([make_group(scored(2.0), failed(), scored(-1.0))], GRPO)
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


@pytest.mark.parametrize("config", [DR_GRPO, GATED])
def test_a_malformed_completion_is_the_worst_and_counts(config: CreditConfig) -> None:
    worst, other = advantages_of(make_group(MALFORMED, verdict(-1.0, 1.0)), config)
    assert worst is not None and other is not None
    assert worst < other


def test_rloo_by_hand() -> None:
    # Totals 2, 0, -2 against the means of the others: -1, 0, 1.
    assert credit([2.0, 0.0, -2.0], RLOO) == pytest.approx([3.0, 0.0, -3.0])


def test_gated_by_hand() -> None:
    harmful = make_prompt(0, harmful=True)
    verdicts = (verdict(1.0, 1.0), verdict(-1.0, 1.0), verdict(1.0, -1.0), MALFORMED)
    (group,) = assign_credit([make_group(*verdicts, prompt=harmful)], GATED)
    assert [sample.reward for sample in group.samples_G] == [1.0, -1.0, -2.0, -3.0]
    # mean -1.25; squares 5.0625, 0.0625, 0.5625, 3.0625: 8.75 over 3
    scale = math.sqrt(8.75 / 3) + 1e-4
    expected = [2.25 / scale, 0.25 / scale, -0.75 / scale, -1.75 / scale]
    assert [sample.advantage for sample in group.samples_G] == pytest.approx(expected)


def test_gated_puts_helpfulness_behind_reasoning_where_the_prompt_is_benign() -> None:
    order = [verdict(1.0, 1.0), verdict(1.0, -1.0), verdict(0.0, 1.0), verdict(0.0, -1.0), verdict(-1.0, 1.0)]
    rewards = [gated_reward(each, harmful=False) for each in order]
    assert rewards == [1.25, 0.75, 0.25, -0.25, -0.75]


VERDICTS = st.builds(verdict, st.sampled_from([-1.0, 0.0, 1.0]), st.sampled_from([-1.0, 1.0])) | st.just(MALFORMED)


@given(st.lists(VERDICTS | st.builds(failed), min_size=2, max_size=8), st.booleans())
def test_gated_never_ranks_an_unsafe_outcome_above_a_safe_one(verdicts: list[Verdict], harmful: bool) -> None:
    group = make_group(*verdicts, prompt=make_prompt(0, harmful=harmful))
    pairs = [
        (each, value) for each, value in zip(verdicts, advantages_of(group, GATED), strict=True) if value is not None
    ]
    for unsafe, low in pairs:
        for safe, high in pairs:
            if is_unsafe(unsafe, harmful) and not is_unsafe(safe, harmful):
                assert low < high


def test_gdpo_by_hand() -> None:
    # R 1, 0 and 0, 1 in the first group, G alike; in the second only G differs.
    groups = [
        make_group(verdict(1.0, 1.0), verdict(0.0, 1.0), index=0),
        make_group(verdict(0.0, 1.0), verdict(0.0, -1.0), failed(), index=1),
    ]
    first, second = assign_credit(groups, GDPO)
    part_r, part_g = 0.5 / (math.sqrt(0.5) + 1e-4), 1 / (math.sqrt(2) + 1e-4)
    values = [part_r, -part_r, part_g, -part_g]
    scale = math.sqrt(sum(value**2 for value in values) / 3) + 1e-4
    expected = [value / scale for value in values]
    got = [sample.advantage for group in (first, second) for sample in group.samples_G]
    assert got[:4] == pytest.approx(expected)
    assert got[4] is None
    assert [sample.reward for sample in second.samples_G] == [1.0, -1.0, None]


def test_gdpo_tells_apart_what_the_sum_does_not() -> None:
    group = make_group(verdict(1.0, -1.0), verdict(-1.0, 1.0), verdict(-1.0, 1.0), verdict(-1.0, 1.0))
    assert advantages_of(group, GRPO) == [None] * 4
    assert None not in advantages_of(group, GDPO)


@given(st.lists(VERDICTS | st.builds(failed), min_size=2, max_size=8), st.booleans(), st.sampled_from(ALL_SCHEMES))
def test_failed_rows_take_no_part_in_any_scheme(verdicts: list[Verdict], harmful: bool, config: CreditConfig) -> None:
    prompt = make_prompt(0, harmful=harmful)
    survivors = [each for each in verdicts if each.scorable]
    with_failures = advantages_of(make_group(*verdicts, prompt=prompt), config)
    kept = [value for each, value in zip(verdicts, with_failures, strict=True) if each.scorable]
    assert kept == advantages_of(make_group(*survivors, prompt=prompt), config)


def test_the_label_filter_drops_groups_that_all_fail_or_all_succeed() -> None:
    by_label = CreditConfig(filter="label")
    all_bad = make_group(verdict(1.0, -1.0), verdict(0.0, -1.0))
    all_good = make_group(verdict(1.0, 1.0), verdict(0.0, 1.0))
    mixed = make_group(verdict(1.0, 1.0), verdict(1.0, -1.0))
    assert [teaches(group, by_label) for group in (all_bad, all_good, mixed)] == [False, False, True]
    assert all(teaches(group, GRPO) for group in (all_bad, all_good, mixed))
    assert advantages_of(all_bad, by_label) == [None, None]
