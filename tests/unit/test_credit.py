"""Verdicts to advantages: examples worked out by hand, and a failed verdict takes part in nothing."""

import math
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rapo_ray.bridges.reward import RapoReward
from rapo_ray.config import RunConfig
from rapo_ray.config.learning import CreditConfig, RewardParts
from rapo_ray.orchestrator.round import build_sequences
from rapo_ray.reward.credit import assign_credit, has_signal, length_penalty
from rapo_ray.reward.schemes import SCHEMES, STD_FLOOR, gated_reward, is_unsafe, total_reward
from rapo_ray.trainer.batch import plan_steps
from rapo_ray.types import Group, Sample, Status, Verdict
from tests.make import failed, make_group, make_prompt, make_sample, scored

pytestmark = pytest.mark.unit

GRPO, DR_GRPO, RLOO, GDPO, GATED = (
    CreditConfig(scheme=scheme) for scheme in ("grpo", "dr_grpo", "rloo", "gdpo", "gated")
)
ALL_SCHEMES = [GRPO, DR_GRPO, RLOO, GDPO, GATED]
COUNTED: tuple[RewardParts, ...] = ("both", "risk", "general")
MALFORMED = Verdict(Status.MALFORMED, "rules-1", risk=-1.0, general=-1.0)
TOTALS = st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0])
GROUPS = st.lists(TOTALS | st.none(), min_size=2, max_size=12)


def credit(totals_G: list[float | None], config: CreditConfig = GRPO) -> list[float | None]:
    """Advantages of a group with these total rewards; None stands for a failed verdict."""
    return advantages_of(make_group(*(failed() if total is None else scored(total) for total in totals_G)), config)


def advantages_of(group: Group, config: CreditConfig) -> list[float | None]:
    """Advantages of a single group."""
    (credited,) = assign_credit([group], config)
    return [sample.advantage for sample in credited.samples_G]


def verdict(risk: float, general: float) -> Verdict:
    """A verdict with the given rewards."""
    return Verdict(Status.OK, "fake", risk=risk, general=general)


def test_every_scheme_of_the_config_has_an_entry() -> None:
    assert tuple(SCHEMES) == get_args(CreditConfig.model_fields["scheme"].annotation)


def test_the_total_is_risk_plus_general() -> None:
    totals = [-2.0, -1.0, 0.0, 1.0, 2.0]
    assert [total_reward(scored(total), False, "both") for total in totals] == totals
    assert total_reward(MALFORMED, True, "both") == -2.0


@pytest.mark.parametrize(
    "incomplete",
    [failed(), Verdict(Status.PARSE, "j", risk=1.0), Verdict(Status.PARSE, "j", general=1.0)],
)
def test_a_verdict_without_both_parts_has_no_reward_whichever_counts(incomplete: Verdict) -> None:
    assert [total_reward(incomplete, True, counted) for counted in COUNTED] == [None] * 3
    assert gated_reward(incomplete, True, "both") is None
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
    scored_advantages = [advantage for total, advantage in zip(totals_G, advantages, strict=True) if total is not None]
    assert scored_advantages == credit(list(present), config)
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
        assert all((total > other) == (advantage > other_advantage) for other, other_advantage in pairs)


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
    rewards = [gated_reward(each, False, "both") for each in order]
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
    advantages = [sample.advantage for group in (first, second) for sample in group.samples_G]
    assert advantages[:4] == pytest.approx(expected)
    assert advantages[4] is None
    assert [sample.reward for sample in second.samples_G] == [1.0, -1.0, None]


def rewards_by_parts(group: Group, **settings: object) -> dict[str, list[float | None]]:
    """Rewards of the group's samples under each of `credit.parts`."""
    rewards = {}
    for counted in COUNTED:
        (credited,) = assign_credit([group], CreditConfig.model_validate({"parts": counted, **settings}))
        rewards[counted] = [sample.reward for sample in credited.samples_G]
    return rewards


@pytest.mark.parametrize("scheme", ["grpo", "dr_grpo", "rloo", "gdpo"])
def test_the_reward_is_that_of_the_parts_that_count(scheme: str) -> None:
    group = make_group(verdict(1.0, -1.0), verdict(0.0, 1.0), MALFORMED, failed(), Verdict(Status.PARSE, "j", risk=1.0))
    assert rewards_by_parts(group, scheme=scheme) == {
        "both": [0.0, 1.0, -2.0, None, None],
        "risk": [1.0, 0.0, -1.0, None, None],
        "general": [-1.0, 1.0, -1.0, None, None],
    }


def test_one_part_by_hand() -> None:
    # R 1, 0, -1 and G 1, -1, -1: means 0 and -1/3.
    group = make_group(verdict(1.0, 1.0), verdict(0.0, -1.0), MALFORMED)
    assert advantages_of(group, CreditConfig(scheme="dr_grpo", parts="risk")) == pytest.approx([1.0, 0.0, -1.0])
    assert advantages_of(group, CreditConfig(scheme="rloo", parts="risk")) == pytest.approx([1.5, 0.0, -1.5])
    assert advantages_of(group, CreditConfig(parts="risk")) == pytest.approx([1 / 1.0001, 0.0, -1 / 1.0001])
    centred_G = [4 / 3, -2 / 3, -2 / 3]
    scale = math.sqrt((16 + 4 + 4) / 9 / 2) + 1e-4
    assert advantages_of(group, CreditConfig(scheme="dr_grpo", parts="general")) == pytest.approx(centred_G)
    assert advantages_of(group, CreditConfig(parts="general")) == pytest.approx([value / scale for value in centred_G])


def test_gdpo_standardises_only_what_counts() -> None:
    # R 1, 0 against G -1, 1: deviations sqrt(1/2) and sqrt(2), then once more over the round.
    group = make_group(verdict(1.0, -1.0), verdict(0.0, 1.0))
    part_r, part_g = 0.5 / (math.sqrt(0.5) + 1e-4), -1 / (math.sqrt(2) + 1e-4)
    for counted, part in (("risk", part_r), ("general", part_g)):
        expected = part / (math.sqrt(2 * part**2) + 1e-4)
        advantages = advantages_of(group, replace_config(GDPO, parts=counted))
        assert advantages == pytest.approx([expected, -expected])


@pytest.mark.parametrize("scheme", ["grpo", "dr_grpo", "rloo", "gdpo"])
def test_a_group_that_differs_only_in_what_does_not_count_has_zero_variance(scheme: str) -> None:
    by_risk, by_general = (
        CreditConfig.model_validate({"scheme": scheme, "parts": counted}) for counted in ("risk", "general")
    )
    same_risk = make_group(verdict(0.0, 1.0), verdict(0.0, -1.0), failed())
    same_general = make_group(verdict(1.0, -1.0), verdict(0.0, -1.0), MALFORMED)
    assert [has_signal(group, by_risk) for group in (same_risk, same_general)] == [False, True]
    assert [has_signal(group, by_general) for group in (same_risk, same_general)] == [True, False]
    assert advantages_of(same_risk, by_risk) == [None] * 3
    assert advantages_of(same_general, by_general) == [None] * 3


def test_one_part_tells_apart_what_the_sum_does_not() -> None:
    group = make_group(verdict(1.0, -1.0), verdict(-1.0, 1.0))
    assert not has_signal(group, DR_GRPO)
    assert advantages_of(group, replace_config(DR_GRPO, parts="risk")) == [1.0, -1.0]
    assert advantages_of(group, replace_config(DR_GRPO, parts="general")) == [-1.0, 1.0]


def test_the_length_penalty_counts_beside_one_part() -> None:
    group = Group(make_prompt(), (of_length(verdict(1.0, 1.0), 50), of_length(verdict(1.0, -1.0), 200)))
    assert advantages_of(group, replace_config(OVERLONG, parts="risk")) == [0.25, -0.25]
    first, second = advantages_of(group, replace_config(OVERLONG, parts="risk", scheme="gdpo"))
    assert first is not None and second is not None
    assert first == -second > 0


def test_other_trainers_get_the_same_reward() -> None:
    prompt = make_prompt(0, harmful=True, level=1)
    complied = (
        "<think>\nThe user asks how to hurt a person. There is harm in the request.\n</think>\n\nUse a heavy stick."
    )
    for counted in COUNTED:
        config = RunConfig.model_validate({"judge": {"risk": {"backend": "rules"}}, "credit": {"parts": counted}})
        (judged,) = RapoReward(config)([prompt], [complied], [False])
        assert judged.reward == total_reward(judged.verdict, True, counted)
        assert judged.verdict.general == -1.0
        assert judged.unsafe is True


def test_gated_with_one_part_is_refused() -> None:
    for counted in ("risk", "general"):
        message = rf"ranks outcomes by R and G together: set credit.parts=both \(it is {counted}\)"
        with pytest.raises(ValidationError, match=message):
            CreditConfig.model_validate({"scheme": "gated", "parts": counted})


def test_gdpo_tells_apart_what_the_sum_does_not() -> None:
    group = make_group(verdict(1.0, -1.0), verdict(-1.0, 1.0), verdict(-1.0, 1.0), verdict(-1.0, 1.0))
    assert advantages_of(group, GRPO) == [None] * 4
    assert None not in advantages_of(group, GDPO)


@given(st.lists(VERDICTS | st.builds(failed), min_size=2, max_size=8), st.booleans(), st.sampled_from(ALL_SCHEMES))
def test_failed_rows_take_no_part_in_any_scheme(verdicts: list[Verdict], harmful: bool, config: CreditConfig) -> None:
    prompt = make_prompt(0, harmful=harmful)
    survivors = [each for each in verdicts if each.scorable]
    with_failures = advantages_of(make_group(*verdicts, prompt=prompt), config)
    of_survivors = [value for each, value in zip(verdicts, with_failures, strict=True) if each.scorable]
    assert of_survivors == advantages_of(make_group(*survivors, prompt=prompt), config)


def test_the_label_filter_drops_groups_that_all_fail_or_all_succeed() -> None:
    by_label = CreditConfig(filter="label")
    all_bad = make_group(verdict(1.0, -1.0), verdict(0.0, -1.0))
    all_good = make_group(verdict(1.0, 1.0), verdict(0.0, 1.0))
    mixed = make_group(verdict(1.0, 1.0), verdict(1.0, -1.0))
    assert [has_signal(group, by_label) for group in (all_bad, all_good, mixed)] == [False, False, True]
    assert all(has_signal(group, GRPO) for group in (all_bad, all_good, mixed))
    assert advantages_of(all_bad, by_label) == [None, None]


def of_length(verdict: Verdict, tokens: int, truncated: bool = False) -> Sample:
    """A sample with the given number of tokens."""
    sample = make_sample(verdict)
    return replace(sample, rollout=replace(sample.rollout, tokens=(5,) * tokens, truncated=truncated))


OVERLONG = CreditConfig(scheme="dr_grpo", overlong=(100, 200), overlong_penalty=0.5)


@pytest.mark.parametrize(("tokens", "penalty"), [(0, 0.0), (100, 0.0), (150, 0.25), (200, 0.5), (900, 0.5)])
def test_the_length_penalty_rises_between_its_bounds(tokens: int, penalty: float) -> None:
    assert length_penalty(of_length(verdict(1.0, 1.0), tokens), OVERLONG) == penalty
    assert length_penalty(of_length(verdict(1.0, 1.0), tokens), DR_GRPO) == 0.0


def test_of_equal_verdicts_the_overlong_one_is_worse() -> None:
    group = Group(make_prompt(), (of_length(verdict(1.0, 1.0), 50), of_length(verdict(1.0, 1.0), 200)))
    assert advantages_of(group, OVERLONG) == [0.25, -0.25]
    assert advantages_of(group, DR_GRPO) == [None, None]
    by_parts = replace_config(OVERLONG, scheme="gdpo")
    first, second = advantages_of(group, by_parts)
    assert first is not None and second is not None
    assert first == -second > 0


def replace_config(config: CreditConfig, **changes: object) -> CreditConfig:
    """The config with changes, validated again."""
    return CreditConfig.model_validate(config.model_dump() | changes)


@given(st.lists(st.tuples(VERDICTS, st.integers(0, 400)), min_size=2, max_size=8))
def test_gated_keeps_its_order_under_the_largest_length_penalty(rows: list[tuple[Verdict, int]]) -> None:
    config = CreditConfig(scheme="gated", overlong=(100, 200), overlong_penalty=0.74)
    group = Group(make_prompt(0, harmful=True), tuple(of_length(each, tokens) for each, tokens in rows))
    pairs = [(each, value) for (each, _), value in zip(rows, advantages_of(group, config), strict=True)]
    for unsafe, low in pairs:
        for safe, high in pairs:
            if low is not None and high is not None and is_unsafe(unsafe, True) and not is_unsafe(safe, True):
                assert low < high


@pytest.mark.parametrize("config", ALL_SCHEMES)
def test_masked_truncated_samples_are_in_no_mean_and_no_loss(config: CreditConfig) -> None:
    masking = replace_config(config, truncated="mask")
    whole = (of_length(verdict(1.0, 1.0), 5), of_length(verdict(0.0, -1.0), 7))
    group = Group(make_prompt(), (whole[0], of_length(MALFORMED, 9, truncated=True), whole[1]))
    first, masked, second = advantages_of(group, masking)
    assert masked is None
    assert [first, second] == advantages_of(Group(make_prompt(), whole), config)
    assert None not in advantages_of(group, config)


def test_the_loss_is_averaged_over_what_is_left_after_masking() -> None:
    config = RunConfig.model_validate({"credit": {"truncated": "mask"}})
    samples = (
        of_length(verdict(1.0, 1.0), 5), of_length(MALFORMED, 90, truncated=True), of_length(verdict(0.0, -1.0), 7),
    )  # fmt: skip
    sequences = build_sequences(assign_credit([Group(make_prompt(), samples)], config.credit), config)
    ((step,),) = plan_steps(sequences, num_steps=1, num_ranks=1, max_tokens=1000)
    assert (step.total_sequences, step.total_tokens) == (2, 12)


@pytest.mark.parametrize(
    ("credit_", "message"),
    [
        ({"overlong": [200, 100]}, "the smaller first"),
        ({"overlong": [5, 9], "scheme": "gated", "overlong_penalty": 0.8}, "must be below 0.75"),
        ({"overlong": [4000, 5000]}, "starts where no completion reaches"),
    ],
)
def test_impossible_length_settings_are_refused(credit_: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RunConfig.model_validate({"credit": credit_})
