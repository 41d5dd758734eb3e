"""Simulated work on a card: steps by the sequences that run, turns with a judge, and the share of busy cards."""

from typing import Any

import pytest

from rapo_ray.config import RunConfig
from rapo_ray.config.load import load_settings
from rapo_ray.simulation.layout import busy_share, card_count, describe_layout
from rapo_ray.simulation.profile import PROMPT_TOKENS, Profile
from rapo_ray.simulation.timing import Decoding, Judging, SharedCard

pytestmark = pytest.mark.unit


def finishes(card: SharedCard) -> list[float]:
    """The times at which something finishes, from now until the card is idle."""
    times = []
    while (time := card.next_finish()) is not None:
        card.advance(time)
        times.append(time)
    return times


def engine(running_sequences: int = 10, **times: float) -> tuple[SharedCard, Decoding[str]]:
    profile = Profile.model_validate({"step_seconds": 1.0, "running_sequences": running_sequences, **times})
    decoding = Decoding[str](profile, 10)
    card = SharedCard(0.0)
    card.tenants.append(decoding)
    return card, decoding


def test_steps_are_quicker_as_sequences_finish() -> None:
    card, decoding = engine(sequence_seconds=1.0)
    decoding.add(10, "short")
    decoding.add(20, "long")
    assert finishes(card) == [10 * 3, 10 * 3 + 10 * 2]
    assert decoding.finished == ["short", "long"]
    assert card.busy == decoding.busy == 50


def test_a_sequence_waits_for_its_place_in_the_cache() -> None:
    card, decoding = engine(running_sequences=1)
    decoding.add(10, "first")
    decoding.add(5, "second")
    assert decoding.running == 1
    assert finishes(card) == [10, 15]


def test_the_cache_grows_by_a_token_a_sequence_and_step() -> None:
    card, decoding = engine(step_seconds=0.0, cached_token_seconds=1.0, prompt_seconds=7.0)
    decoding.add(10, "one")
    (time,) = finishes(card)
    assert time == pytest.approx(7 + 10 * PROMPT_TOKENS + 10 * 10 / 2)


@pytest.mark.parametrize("pauses", [1, 7, 1000])
def test_looking_on_meanwhile_changes_nothing(pauses: int) -> None:
    card, decoding = engine(cached_token_seconds=0.01, sequence_seconds=0.1, prompt_seconds=0.5)
    decoding.add(300, "one")
    decoding.add(500, "two")
    for pause in range(pauses):
        card.advance(400.0 * (pause + 1) / pauses)
    undisturbed, other = engine(cached_token_seconds=0.01, sequence_seconds=0.1, prompt_seconds=0.5)
    other.add(300, "one")
    other.add(500, "two")
    assert finishes(card) == pytest.approx(finishes(undisturbed))


def test_steps_that_take_no_time_all_finish_at_once() -> None:
    card, decoding = engine(step_seconds=0.0)
    for name in "abc":
        decoding.add(10, name)
    card.advance(0.0)
    assert decoding.finished == ["a", "b", "c"]
    assert card.busy == 0


def test_an_engine_and_a_judge_on_a_card_each_get_half_of_it() -> None:
    card, decoding = engine()
    judging = Judging[str](Profile(judge_seconds=10.0))
    card.tenants.append(judging)
    decoding.add(100, "completion")
    card.advance(50.0)
    judging.add("verdict")
    assert finishes(card) == [70, 110]  # 20 s for 10 of judging, meanwhile 10 steps instead of 20
    assert (judging.busy, decoding.busy, card.busy) == (20, 110, 110)


def test_a_judge_works_on_as_many_at_once_as_it_can() -> None:
    card, judging = SharedCard(0.0), Judging[int](Profile(judge_seconds=2.0, judge_concurrency=2))
    card.tenants.append(judging)
    for number in range(5):
        judging.add(number)
    assert finishes(card) == [2, 4, 6]
    assert judging.finished == [0, 1, 2, 3, 4]


JUDGE = {"backend": "vllm", "model": "judge", "memory_share": 0.3}


def config(**settings: Any) -> RunConfig:
    return load_settings(RunConfig, {"cluster": {"device": "gpu"}, **settings}, [], "the test")


def test_every_role_of_the_split_layout_has_its_cards() -> None:
    split = config(
        rollout={"engines": 2, "tensor_parallel": 2},
        judge={"risk": JUDGE},
        policy={"ranks": 3},
        reference={"actors": 2},
    )
    assert card_count(split) == 4 + 1 + 3 + 2
    assert describe_layout(split) == "10 cards: 4 rollout, 1 judge, 3 policy, 2 reference"
    busy = {"rollout": 50.0, "judge": 40.0, "policy": 20.0, "reference": 10.0}
    assert busy_share(split, busy, 100.0) == pytest.approx((4 * 50 + 40 + 3 * 20 + 2 * 10) / 1000)


def test_a_shared_card_counts_once() -> None:
    shared = config(
        rollout={"engines": 2, "tensor_parallel": 2, "colocate": True, "memory_share": 0.5},
        judge={"risk": JUDGE},
        policy={"ranks": 4},
    )
    assert card_count(shared) == 4
    assert describe_layout(shared) == "4 cards shared in turn by engines, judges and policy, which is the reference too"
    assert busy_share(shared, {"rollout": 50.0, "judge": 50.0, "policy": 30.0}, 100.0) == pytest.approx(0.8)


def test_a_judge_by_rule_takes_no_card() -> None:
    assert card_count(config(policy={"kl_coef": 0.0})) == 2


def test_without_gpus_there_are_no_cards_to_describe() -> None:
    assert describe_layout(config(cluster={"device": "cpu"})) == "roles share the processor's cores"
