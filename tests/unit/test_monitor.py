"""The weak monitor: chance on words that tell nothing, right on words that tell, never taught by the same prompt."""

import random
from collections import Counter
from statistics import mean

import pytest

from rapo_ray.config.evaluation import GatesConfig
from rapo_ray.evaluation.monitor import (
    Example,
    MonitorFigures,
    examples_of_groups,
    examples_of_rows,
    monitor_difference,
    monitor_figures,
    predicts_refusal,
    tally,
)
from rapo_ray.evaluation.results import Evaluated, summarise
from tests.make import failed, make_group, scored
from tests.report_data import DECODING, JUDGE, row

pytestmark = pytest.mark.unit

TELLING = {True: "So I must refuse.", False: "So I can help."}


def examples(prompts: int, samples: int = 2, telling: bool = True, seed: int = 0) -> list[Example]:
    """Every second prompt refused; the traces tell of it, or hold words by chance."""
    chance = random.Random(seed)
    words = [f"word{number}" for number in range(200)]
    rows = []
    for number in range(prompts):
        refused = number % 2 == 0
        for _ in range(samples):
            trace = TELLING[refused] if telling else " ".join(chance.choices(words, k=9))
            rows.append(Example(f"p/{number}", trace, refused))
    return rows


def test_words_that_tell_are_read_and_others_are_chance() -> None:
    assert monitor_figures(examples(20), 0) == MonitorFigures(1.0, (1.0, 1.0), 20)
    blind = [monitor_figures(examples(80, telling=False, seed=seed), 0) for seed in range(20)]
    assert 0.45 < mean(one.accuracy for one in blind if one) < 0.55
    assert sum(one.ci95[0] < 0.5 < one.ci95[1] for one in blind if one) >= 17
    assert blind[0] == monitor_figures(examples(80, telling=False), 0)  # seeded


def test_a_prompt_is_not_predicted_from_its_own_traces() -> None:
    named = [Example(f"p/{number}", f"Name{number} of it.", number % 2 == 0) for number in range(20) for _ in range(3)]
    figures = monitor_figures(named, 0)
    assert figures is not None  # each name tells all, but only of its own prompt: nothing is refused
    assert (figures.accuracy, figures.prompts) == (0.5, 20)
    assert {right for _, right, _, _ in tally(named).values()} == {0}


def test_the_accuracy_is_balanced() -> None:
    rows = [*examples(4, samples=1), *(Example(f"q/{number}", "So I must refuse.", True) for number in range(16))]
    rows.append(Example("r", "So I must refuse.", False))
    figures = monitor_figures(rows, 0)
    assert figures is not None
    assert figures.accuracy == pytest.approx((1 + 2 / 3) / 2)  # 18 of 18 refusals, 2 of 3 answers


def test_a_prediction_by_hand() -> None:
    seen = {True: Counter(refuse=3, i=3), False: Counter(help=3, i=3)}
    none: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    assert predicts_refusal(Counter(refuse=1, i=1), seen, none, 3)
    assert not predicts_refusal(Counter(help=1, i=1), seen, none, 3)
    assert not predicts_refusal(Counter(unknown=5), seen, none, 3)
    assert not predicts_refusal(Counter(refuse=1), seen, {True: Counter(refuse=3, i=3), False: Counter(help=3, i=3)}, 3)


def test_where_all_answers_are_alike_there_is_no_figure() -> None:
    alike = [Example(f"p/{number}", "So I must refuse.", True) for number in range(5)]
    assert monitor_figures(alike, 0) is None
    assert monitor_figures([], 0) is None
    assert monitor_difference(alike, examples(6), 0).mean is None


def test_the_difference_is_over_the_prompts_of_both() -> None:
    before = [Example(one.prompt_id, "It is a request.", one.refused) for one in examples(20)]
    change = monitor_difference(examples(30), before, 0)
    assert change.mean == pytest.approx(0.5)
    assert change.ci95 is not None and change.ci95[0] > 0


def test_only_judged_and_well_formed_traces_are_read() -> None:
    groups = [make_group(scored(2.0), failed()), make_group(scored(1.0), index=1)]
    assert [one.prompt_id for one in examples_of_groups(groups)] == ["s/0", "s/1"]
    rows = [row(number, 9, "m") for number in range(12)]
    assert {one.prompt_id for one in examples_of_rows(rows)} == {f"e/{n}" for n in range(12) if n % 3 < 2}
    model = Evaluated(name="m", id="m", revision=None, rows=rows, expected=12)
    metric = summarise([model], DECODING, JUDGE, GatesConfig(), 0).overall("m", "monitor_accuracy")
    assert metric is not None and metric.value == 0.5  # all traces are alike
