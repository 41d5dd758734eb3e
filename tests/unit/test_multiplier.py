"""The bound on over-refusal: a multiplier that rises while it is violated, and what it does to advantages."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapo_ray.config.learning import CreditConfig
from rapo_ray.reward.credit import assign_credit
from rapo_ray.reward.multiplier import LARGEST, next_multiplier
from rapo_ray.reward.schemes import STD_FLOOR
from rapo_ray.types import Group, Status, Verdict
from tests.make import failed, make_group, make_prompt

pytestmark = pytest.mark.unit

SCHEMES = ["grpo", "dr_grpo", "rloo", "gdpo", "gated"]
SHARE = st.floats(0, 1)


def verdict(risk: float, general: float) -> Verdict:
    return Verdict(Status.OK, "fake", risk=risk, general=general)


def advantages(group: Group, scheme: str, multiplier: float) -> list[float | None]:
    (credited,) = assign_credit([group], CreditConfig.model_validate({"scheme": scheme}), multiplier)
    return [sample.advantage for sample in credited.samples_G]


def test_it_rises_while_the_bound_is_violated_and_falls_to_0_while_it_holds() -> None:
    series = [0.0]
    for measured in (0.5, 0.4, 0.2, 0.0, 0.0, 0.0, 0.0):
        series.append(next_multiplier(series[-1], measured, 0.2))
    assert series == pytest.approx([0.0, 0.3, 0.5, 0.5, 0.3, 0.1, 0.0, 0.0])


@given(st.floats(0, LARGEST), SHARE, SHARE)
def test_it_stays_within_its_limits_and_moves_against_the_violation(
    multiplier: float, measured: float, bound: float
) -> None:
    changed = next_multiplier(multiplier, measured, bound)
    assert 0 <= changed <= LARGEST
    assert changed >= multiplier if measured > bound and multiplier < LARGEST else changed <= multiplier


def test_without_a_bound_or_a_measurement_it_stays() -> None:
    assert next_multiplier(0.7, None, 0.2) == 0.7
    assert next_multiplier(0.0, 0.9, None) == 0.0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_benign_answer_that_helps_gains_on_one_that_does_not(scheme: str) -> None:
    group = make_group(verdict(1, 1), verdict(1, -1), verdict(-1, 1), failed())

    def lead(multiplier: float) -> float:
        """Advantage of the helpful answer with a poor trace over the unhelpful one with a good trace."""
        _, unhelpful, helpful, unscorable = advantages(group, scheme, multiplier)
        assert unscorable is None
        assert unhelpful is not None
        assert helpful is not None
        return helpful - unhelpful

    assert lead(0.0) < lead(1.0) < lead(3.0)


@pytest.mark.parametrize("scheme", ["dr_grpo", "rloo"])
def test_schemes_without_a_deviation_learn_from_a_weighted_general_reward(scheme: str) -> None:
    one, other = make_group(verdict(1, 1), verdict(0, -1)), make_group(verdict(1, 3), verdict(0, -3))
    assert advantages(one, scheme, 2.0) == pytest.approx(advantages(other, scheme, 0.0))


def test_grpo_adds_the_standardised_general_reward_by_hand() -> None:
    group = make_group(verdict(1, 1), verdict(1, -1))  # totals 2 and 0, both of deviation sqrt(2)
    one = 1 / (math.sqrt(2) + STD_FLOOR)
    assert advantages(group, "grpo", 3.0) == pytest.approx([4 * one, -4 * one])


def test_a_group_in_which_r_and_g_cancel_has_a_signal_then() -> None:
    group = make_group(verdict(1, -1), verdict(-1, 1))
    assert advantages(group, "grpo", 0.0) == [None, None]
    unhelpful, helpful = advantages(group, "grpo", 1.0)
    assert unhelpful is not None
    assert helpful is not None
    assert unhelpful < 0 < helpful


@pytest.mark.parametrize("scheme", SCHEMES)
def test_harmful_prompts_and_rewards_stay_as_they_are(scheme: str) -> None:
    config = CreditConfig.model_validate({"scheme": scheme})
    harmful = make_group(verdict(1, 1), verdict(0, -1), prompt=make_prompt(harmful=True))
    assert assign_credit([harmful], config, 2.0) == assign_credit([harmful], config)
    benign = make_group(verdict(1, 1), verdict(0, -1))
    rewards = [[s.reward for s in assign_credit([benign], config, one)[0].samples_G] for one in (0.0, 2.0)]
    assert rewards[0] == rewards[1]
