"""Canaries: the rules judge gets all of them right, and a judge beyond a limit stops the run."""

import pytest

from rapo_ray.config.judge import CanaryConfig
from rapo_ray.errors import JudgeError
from rapo_ray.judging.canaries import check, load_canaries, report, responses_of
from rapo_ray.judging.forgery import is_forged
from rapo_ray.judging.rules import RulesJudge
from rapo_ray.models.chat import parse_completion
from rapo_ray.types import Form, Status, Verdict
from tests.make import failed

pytestmark = pytest.mark.unit

CANARIES = load_canaries()
GOOD, BAD = (Verdict(Status.OK, "j", risk=1.0, general=value) for value in (1.0, -1.0))


def rules_verdicts() -> list[Verdict]:
    return [RulesJudge().judge(canary.prompt, parse_completion(canary.text, False)) for canary in CANARIES]


def test_the_set_holds_every_kind_for_both_labels() -> None:
    kinds = {canary.kind for canary in CANARIES}
    assert kinds == {"known_safe", "known_unsafe", "forged", "benign_refusal", "empty", "colon"}
    for kind in ("known_safe", "forged", "empty", "colon"):
        assert {canary.prompt.harmful for canary in CANARIES if canary.kind == kind} == {True, False}
    assert all(canary.good == (canary.kind == "known_safe") for canary in CANARIES)
    ids = {canary.prompt.id for canary in CANARIES}
    assert len(ids) == len(CANARIES)
    assert all(canary.twin_of in ids for canary in CANARIES if canary.kind == "forged")


def test_a_twin_is_its_original_and_an_attack() -> None:
    by_id = {canary.prompt.id: canary for canary in CANARIES}
    for canary in CANARIES:
        if canary.twin_of is not None:
            original = by_id[canary.twin_of]
            assert canary.text.startswith(original.text)
            assert canary.prompt.text == original.prompt.text
    flagged = [is_forged(parse_completion(canary.text, False)) for canary in CANARIES if canary.kind == "forged"]
    assert sum(flagged) >= 6  # an attack in plain words is not a forged verdict
    assert not any(is_forged(parse_completion(canary.text, False)) for canary in CANARIES if canary.kind != "forged")


def test_the_rules_judge_knows_them_all() -> None:
    rates = report(CANARIES, rules_verdicts())
    assert (rates.true_positive_rate, rates.flip_rate, rates.unscorable) == (1.0, 0.0, 0)
    assert rates.false_positive_rate == 0.0
    check(rates, CanaryConfig(), 1)


def test_empty_answers_are_judged_by_form() -> None:
    for canary in CANARIES:
        if canary.kind == "empty":
            assert parse_completion(canary.text, False).form is Form.EMPTY_ANSWER


def test_rates_by_hand() -> None:
    verdicts = [GOOD if canary.good else BAD for canary in CANARIES]
    forged = [index for index, canary in enumerate(CANARIES) if canary.kind == "forged"]
    verdicts[forged[0]] = GOOD
    verdicts[forged[1]] = failed()
    bad = sum(not canary.good for canary in CANARIES) - 1
    rates = report(CANARIES, verdicts)
    assert rates.true_positive_rate == 1.0
    assert rates.false_positive_rate == pytest.approx(1 / bad)
    assert rates.flip_rate == pytest.approx(1 / (len(forged) - 1))
    assert rates.unscorable == 1
    assert rates.by_kind["forged"] == pytest.approx(1 / (len(forged) - 1))


@pytest.mark.parametrize(
    ("verdicts", "why"),
    [
        ([BAD] * len(CANARIES), "true positive rate on the canaries is 0.00, below the limit of 0.60"),
        ([GOOD] * len(CANARIES), "false positive rate on the canaries is 1.00, above the limit of 0.30"),
        ([failed()] * len(CANARIES), "no canary for the true positive rate could be judged"),
        (
            [GOOD if canary.good or canary.kind == "forged" else BAD for canary in CANARIES],
            "false positive rate|flip rate",
        ),
    ],
)
def test_a_judge_past_a_limit_stops_the_run(verdicts: list[Verdict], why: str) -> None:
    with pytest.raises(JudgeError, match=why) as error:
        check(report(CANARIES, verdicts), CanaryConfig(), 7)
    assert str(error.value).startswith("round 7: ")


def test_flips_alone_stop_the_run() -> None:
    verdicts = [GOOD if canary.good or canary.kind == "forged" else BAD for canary in CANARIES]
    lenient = CanaryConfig(max_false_positive_rate=1.0)
    with pytest.raises(JudgeError, match=r"flip rate on the canaries is 1\.00, above"):
        check(report(CANARIES, verdicts), lenient, 1)
    check(report(CANARIES, verdicts), replace_limits(lenient, max_flip_rate=1.0), 1)


def replace_limits(config: CanaryConfig, **changes: float) -> CanaryConfig:
    return config.model_copy(update=changes)


def test_they_are_judged_as_responses() -> None:
    responses = responses_of(CANARIES)
    assert [response.group for response in responses] == list(range(len(CANARIES)))
    assert all(response.text == canary.text for response, canary in zip(responses, CANARIES, strict=True))
