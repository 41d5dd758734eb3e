"""Prompts that are too long: all named at once, or left out and listed."""

import pytest

from rapo_ray.errors import DataError, named
from rapo_ray.pipeline.inputs import Inputs
from rapo_ray.pipeline.lengths import fitting
from tests.make import make_prompt

pytestmark = pytest.mark.unit

PROMPTS = [make_prompt(number) for number in range(9)]
NAMES = [prompt.id for prompt in PROMPTS]
LENGTHS = {name: 99 if place in (0, 3, 6) else 5 for place, name in enumerate(NAMES)}
INPUTS = Inputs(PROMPTS[:5], PROMPTS[5:], [], [], [])


def test_all_long_prompts_are_named_at_once() -> None:
    with pytest.raises(DataError) as caught:
        fitting(INPUTS, LENGTHS, 10, refuse=True)
    assert str(caught.value) == (
        f"3 prompts have more tokens than rollout.max_prompt_tokens=10 ({NAMES[0]} has 99; {NAMES[3]} has 99; "
        f"{NAMES[6]} has 99): raise the limit, or set data.long_prompts=leave_out"
    )


def test_long_prompts_are_left_out_and_listed_where_the_setting_says_so() -> None:
    rest, rows = fitting(INPUTS, LENGTHS, 10, refuse=False)
    assert [prompt.id for prompt in rest.train_P] == [NAMES[1], NAMES[2], NAMES[4]]
    assert [prompt.id for prompt in rest.heldout_P] == [NAMES[5], NAMES[7], NAMES[8]]
    assert [row.place for row in rows] == [NAMES[0], NAMES[3], NAMES[6]]
    assert {row.reason for row in rows} == {"99 tokens, more tokens than rollout.max_prompt_tokens=10"}


@pytest.mark.parametrize("refuse", [True, False])
def test_prompts_that_fit_change_nothing(refuse: bool) -> None:
    assert fitting(INPUTS, LENGTHS, 99, refuse) == (INPUTS, [])


@pytest.mark.parametrize(("setting", "long"), [("data.train", range(5)), ("data.heldout", range(5, 9))])
def test_nothing_left_is_an_error_of_its_setting(setting: str, long: range) -> None:
    lengths = {name: 99 if place in long else 5 for place, name in enumerate(NAMES)}
    with pytest.raises(DataError, match=f"^{setting}: every prompt has more tokens than"):
        fitting(INPUTS, lengths, 10, refuse=False)


def test_many_places_are_named_as_the_first_and_a_count() -> None:
    assert named(["a", "b"]) == "a; b"
    assert named(list("abcdefgh")) == "a; b; c; d; e; ... 8 in all"
