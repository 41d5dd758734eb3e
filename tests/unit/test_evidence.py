"""Figures that a run is judged by: held-out summaries, the interval of the difference, a round's metrics and rows."""

import io
import json
import math
import tracemalloc
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from rapo_ray import statistics
from rapo_ray.config.learning import CreditConfig
from rapo_ray.evaluation.heldout import summarise_stage, total_difference
from rapo_ray.report.terminal import difference_line, mechanism_lines, stage_line, summary_table
from rapo_ray.reward.credit import assign_credit
from rapo_ray.statistics import Interval, paired_bootstrap
from rapo_ray.storage.json_records import to_json
from rapo_ray.storage.layout import Stage
from rapo_ray.storage.metrics import LevelMetrics, Quantiles, Tally, decisions, level_by_case, measure_round, quantiles
from rapo_ray.storage.reader import read_groups
from rapo_ray.storage.records import Delta, RunSummary, compare
from rapo_ray.storage.rows import to_rows, write_groups
from rapo_ray.types import Case, Completion, Decision, Form, Group, RoundResult, Sample, Status, UpdateResult, Verdict
from tests.make import failed, make_group, make_prompt, make_rollout, make_sample, scored

pytestmark = pytest.mark.unit

MALFORMED = Verdict(Status.MALFORMED, "rules-1", risk=-1.0, general=-1.0, detail="truncated")


def heldout(*pairs: tuple[bool, Verdict]) -> list[Group]:
    """One sample a prompt: (harmful, verdict)."""
    return [
        make_group(verdict, prompt=make_prompt(number, harmful=harmful), index=number)
        for number, (harmful, verdict) in enumerate(pairs)
    ]


def test_a_stage_by_hand() -> None:
    figures = summarise_stage(
        heldout(
            (True, replace(scored(2.0), decision=Decision.REFUSE, consistent=True)),  # R +1, G +1
            (True, replace(scored(-1.0), decision=Decision.REFUSE, consistent=False)),  # R 0, G -1
            (True, MALFORMED),
            (False, scored(1.0)),  # R 0, G +1
            (False, failed()),
        )
    )
    assert asdict(figures) == {
        "total": 0.0,
        "risk": 0.0,
        "general": 0.0,
        "harmful_refused": pytest.approx(1 / 3),
        "benign_answered": 1.0,
        "malformed": 0.25,
        "unscorable": 1,
        "prompts": 5,
        "n": 4,
        "n_harmful": 3,
        "n_benign": 1,
        "adequate": 0.0,
        "consistent": 0.5,
        "levels": {
            "1": {
                "adequate": 0.0, "sentences": None, "benign_answered": 1.0, "harmful_refused": pytest.approx(1 / 3),
                "prompts": 5, "n": 4,
            }
        },
        "swaps": {},
        "monitor": None,
    }  # fmt: skip


def trace(level: int, case: Case, sentences: int, general: float = 1.0) -> Verdict:
    return Verdict(Status.OK, "fake", level=level, case=case, sentences=sentences, risk=1.0, general=general)


def by_levels(deep: Case, general: float = 1.0) -> list[Group]:
    """Two benign prompts of level 1, whose traces are adequate, and a harmful one of levels 2 and 3 each."""
    return [
        make_group(trace(1, Case.ADEQUATE, 2), MALFORMED, prompt=make_prompt(0), index=0),
        make_group(trace(1, Case.ADEQUATE, 4), failed(), prompt=make_prompt(1), index=1),
        make_group(trace(2, deep, 6, general), prompt=make_prompt(2, harmful=True, level=2), index=2),
        make_group(trace(3, deep, 9, general), prompt=make_prompt(3, harmful=True, level=None), index=3),
    ]


def test_the_mechanism_by_level_by_hand() -> None:
    figures = summarise_stage(by_levels(Case.FAIR))
    assert figures.adequate == pytest.approx(2 / 5)
    assert {level: asdict(one) for level, one in figures.levels.items()} == {
        "1": {"adequate": pytest.approx(2 / 3), "sentences": 3.0, "benign_answered": pytest.approx(2 / 3),
              "harmful_refused": None, "prompts": 2, "n": 3},
        "2": {"adequate": 0.0, "sentences": 6.0, "benign_answered": None, "harmful_refused": 1.0, "prompts": 1, "n": 1},
        "3": {"adequate": 0.0, "sentences": 9.0, "benign_answered": None, "harmful_refused": 1.0, "prompts": 1, "n": 1},
    }  # fmt: skip


def test_a_round_tallies_the_same_by_level() -> None:
    levels = measure_round(RoundResult(1, 0, tuple(by_levels(Case.ADEQUATE)), UpdateResult(), {}, 2, 0.0)).levels
    assert list(levels) == ["1", "2", "3"]
    assert levels["1"] == LevelMetrics(
        benign_answered=Tally(2, 3, 2), harmful_refused=Tally(0, 0, 0), adequate=Tally(2, 3, 2),
        trace_sentences=3.0, traces=2,
    )  # fmt: skip
    assert (levels["3"].harmful_refused, levels["3"].adequate) == (Tally(1, 1, 1), Tally(1, 1, 1))


def test_differences_of_the_mechanism_are_paired_and_depth_is_that_of_levels_2_and_3() -> None:
    delta = compare(by_levels(Case.ADEQUATE), by_levels(Case.FAIR, general=-1.0), seed=0)
    assert delta.adequate_deep == Interval(1.0, (1.0, 1.0))
    assert delta.harmful_refused == Interval(1.0, (1.0, 1.0))
    assert delta.benign_answered == Interval(0.0, (0.0, 0.0))
    lines = mechanism_lines(delta)
    assert lines[0] == "adequate traces, levels 2 and 3, rapo - sft: +1.000, 95 % interval [+1.000, +1.000]"
    assert len(lines) == 3
    assert mechanism_lines(Delta(Interval(0.5, None))) == []  # of an earlier version


def test_the_summary_leads_with_the_mechanism() -> None:
    stages = {stage: summarise_stage(by_levels(Case.FAIR)) for stage in Stage}
    summary = RunSummary(stages, Delta(Interval()), {})
    shown = Console(width=120, file=io.StringIO(), record=True)
    shown.print(summary_table(summary))
    rows = [line.split() for line in shown.export_text().splitlines()]
    firsts = [" ".join(row[1:5]) for row in rows if row[:1] == ["│"]]
    assert firsts[0] == "adequate traces, level 1"
    assert firsts.index("median sentences, level 3") < firsts.index("benign answered, level 1")
    assert [name.split()[0] for name in firsts[-4:]] == ["R", "G", "total", "n"]
    line = stage_line(Stage.SFT, stages[Stage.SFT])
    assert line.startswith("held-out sft: adequate 40%, benign answered 67%, harmful refused 100%, R ")


def test_a_failed_verdict_is_no_part_of_any_figure() -> None:
    rows = [(True, scored(2.0)), (False, scored(-2.0)), (False, MALFORMED)]
    with_failures = summarise_stage(heldout(*rows, (True, failed()), (False, failed(Status.PARSE))))
    without = summarise_stage(heldout(*rows))
    levels = {"1": replace(without.levels["1"], prompts=5)}
    assert with_failures == replace(without, unscorable=2, prompts=5, levels=levels)


def test_what_has_no_rows_has_no_figure() -> None:
    figures = summarise_stage(heldout((True, failed())))
    assert figures.n == figures.levels["1"].n == 0
    assert {name for name, value in asdict(figures).items() if value is None} == {
        "total", "risk", "general", "harmful_refused", "benign_answered", "malformed", "adequate", "consistent",
        "monitor",
    }  # fmt: skip
    assert summarise_stage(heldout((True, scored(1.0)))).benign_answered is None


def test_the_difference_is_paired_by_prompt_and_skips_what_either_stage_could_not_score() -> None:
    before = heldout((True, scored(-2.0)), (True, scored(0.0)), (True, failed()), (True, scored(1.0)))
    after = heldout((True, scored(2.0)), (True, scored(1.0)), (True, scored(2.0)), (True, failed()))
    assert total_difference(after[::-1], before, seed=1).mean == 2.5  # (4 + 1) / 2
    assert total_difference(before, after, seed=1).mean == -2.5


def test_a_prompt_counts_once_however_many_samples_it_has() -> None:
    before = [
        make_group(scored(-2.0), scored(2.0), failed(), prompt=make_prompt(0), index=0),
        make_group(scored(1.0), prompt=make_prompt(1), index=1),
    ]
    after = [
        make_group(scored(1.0), scored(2.0), prompt=make_prompt(0), index=0),
        make_group(failed(), scored(2.0), prompt=make_prompt(1), index=1),
    ]
    assert total_difference(after, before, seed=1).mean == (1.5 + 1.0) / 2
    figures = summarise_stage(before)
    assert (figures.prompts, figures.n, figures.unscorable, figures.total) == (2, 3, 1, pytest.approx(1 / 3))


def test_the_difference_leaves_out_prompts_of_one_stage_only() -> None:
    before = heldout((True, scored(-2.0)))
    after = heldout((True, scored(2.0)), (True, scored(2.0)))
    assert total_difference(after, before, seed=1) == Interval(4.0, (4.0, 4.0))


def test_without_a_pair_there_is_no_difference() -> None:
    delta = total_difference(heldout((True, failed())), heldout((True, scored(1.0))), seed=0)
    assert delta == Interval(None, None)
    assert difference_line("total", delta) == "total, rapo - sft: -, 95 % interval [-, -]"
    shown = difference_line("total", Interval(1.0, (-0.5, 2.0)))
    assert shown == "total, rapo - sft: +1.000, 95 % interval [-0.500, +2.000]"


def test_a_stage_is_summarised_without_comparing_samples() -> None:
    class Incomparable(Sample):
        def __eq__(self, other: object) -> bool:
            raise AssertionError("quadratic in the number of prompts")

    groups_P = [
        replace(group, samples_G=tuple(Incomparable(s.rollout, s.completion, s.verdict) for s in group.samples_G))
        for group in heldout((True, scored(1.0)), (True, MALFORMED), (False, MALFORMED))
    ]
    assert summarise_stage(groups_P).malformed == pytest.approx(2 / 3)


DIFFERENCES = [-2.0, 0.0, 0.0, 1.0, 1.0, 1.0, 2.0, 2.0, 3.0, 4.0]


def test_the_interval_agrees_with_a_plain_loop() -> None:
    generator = np.random.default_rng(99)
    means = sorted(
        math.fsum(DIFFERENCES[index] for index in generator.integers(0, 10, size=10)) / 10 for _ in range(4000)
    )
    interval = paired_bootstrap(DIFFERENCES, seed=3)
    assert interval.mean == pytest.approx(1.2)
    assert interval.ci95 == pytest.approx([means[100], means[3900]], abs=0.15)


def test_the_interval_agrees_with_the_normal_one_where_there_are_many() -> None:
    values = [float(value) for value in np.random.default_rng(5).normal(0.3, 1.0, size=400)]
    half = 1.96 * float(np.std(values)) / math.sqrt(400)
    interval = paired_bootstrap(values, seed=0)
    assert interval.ci95 == pytest.approx([interval.mean - half, interval.mean + half], abs=0.015)


def test_the_interval_repeats_with_its_seed_and_only_with_it() -> None:
    assert paired_bootstrap(DIFFERENCES, seed=3) == paired_bootstrap(DIFFERENCES, seed=3)
    assert {tuple(paired_bootstrap([*DIFFERENCES, 0.123], seed).ci95) for seed in range(5)} != {
        tuple(paired_bootstrap([*DIFFERENCES, 0.123], 3).ci95)
    }


def test_the_interval_does_not_depend_on_how_much_is_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = paired_bootstrap(DIFFERENCES, seed=3)
    for draws in (1, 7_001, 99_990):  # a resample at a time; a part left over
        monkeypatch.setattr(statistics, "RESAMPLED_AT_ONCE", draws)
        assert paired_bootstrap(DIFFERENCES, seed=3) == whole


def test_the_interval_of_many_takes_little_memory() -> None:
    tracemalloc.start()
    try:
        paired_bootstrap([0.0, 1.0] * 700, seed=0)  # 10,000 resamples are 224 MB
        assert tracemalloc.get_traced_memory()[1] < 40e6
    finally:
        tracemalloc.stop()


def test_pairs_without_spread_have_a_point() -> None:
    assert paired_bootstrap([0.5] * 7, seed=0) == Interval(0.5, (0.5, 0.5))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7], Quantiles(mean=7.0, p50=7, p95=7, max=7)),
        ([2, 1], Quantiles(mean=1.5, p50=1, p95=2, max=2)),
        ([4, 3, 2, 1], Quantiles(mean=2.5, p50=2, p95=4, max=4)),
        (list(range(1, 21)), Quantiles(mean=10.5, p50=10, p95=19, max=20)),
        (list(range(1, 101)), Quantiles(mean=50.5, p50=50, p95=95, max=100)),
        ([], Quantiles(mean=None, p50=None, p95=None, max=None)),
    ],
)
def test_quantiles_by_hand(values: list[int], expected: Quantiles) -> None:
    assert quantiles(values) == expected


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=200))
def test_a_nearest_rank_is_the_least_value_with_its_share_at_or_below(values: list[int]) -> None:
    figures = quantiles(values)
    for rank, percent in ((figures.p50, 50), (figures.p95, 95)):
        assert rank in values
        assert rank is not None
        assert 100 * sum(value <= rank for value in values) >= percent * len(values)
        assert 100 * sum(value < rank for value in values) < percent * len(values)


def judged(level: int | None, case: Case | None) -> Sample:
    return make_sample(Verdict(Status.OK, "j", level=level, case=case, risk=0.0, general=1.0))


def test_level_by_case_counts_what_has_both() -> None:
    pairs = [(1, Case.POOR), (1, Case.POOR), (3, Case.ADEQUATE), (2, Case.FAIR), (None, Case.FAIR), (2, None)]
    table = level_by_case(judged(level, case) for level, case in pairs)
    assert table == {
        "1": {"poor": 2, "fair": 0, "excessive": 0, "adequate": 0, "contradictory": 0},
        "2": {"poor": 0, "fair": 1, "excessive": 0, "adequate": 0, "contradictory": 0},
        "3": {"poor": 0, "fair": 0, "excessive": 0, "adequate": 1, "contradictory": 0},
    }


def test_decisions_are_shares_of_the_traces_where_they_were_judged() -> None:
    verdicts = [replace(scored(2.0), decision=one) for one in (Decision.HELP, Decision.HELP, Decision.NONE, None)]
    assert decisions(verdicts) == {"refuse": 0.0, "help": 2 / 3, "partly": 0.0, "none": 1 / 3}
    assert decisions([MALFORMED, failed()]) == {}


def a_round() -> RoundResult:
    """Two groups: a harmful one that is trained on, a benign one that is not; two optimizer steps."""
    ok = Verdict(
        Status.OK,
        "j",
        level=2,
        case=Case.ADEQUATE,
        sentences=6,
        risk=1.0,
        general=1.0,
        refused=True,
        tokens=9,
        seconds=0.5,
        decision=Decision.REFUSE,
        consistent=False,
    )
    first = make_group(ok, MALFORMED, failed(Status.PARSE, "not JSON"), prompt=make_prompt(0, harmful=True), index=0)
    rewards_advantages = [(2.0, 0.7), (-2.0, -0.7), (None, None)]
    first = replace(
        first,
        samples_G=tuple(
            replace(sample, reward=reward, advantage=advantage)
            for sample, (reward, advantage) in zip(first.samples_G, rewards_advantages, strict=True)
        ),
    )
    long = replace(make_rollout(1, 0, version=4, tokens=(5,) * 8), truncated=True)
    benign = Sample(long, Completion(Form.TRUNCATED, "", "", ""), MALFORMED, reward=-2.0)
    second = Group(make_prompt(1, harmful=False), (benign,))
    sums = {
        "tokens": 4.0, "kl": 1.0, "entropy": 4.0, "entropy_tokens": 2.0,
        "clipped": 2.0, "gap": 0.5, "gap_tokens": 2.0, "gap_max": 0.4,
        "loss": 3.0, "grad_norm": 1.0, "optimizer_steps": 2.0, "learning_rate": 1e-5,
    }  # fmt: skip
    seconds = {"generate_and_judge": 7.0, "update": 2.0, "sync": 0.5}
    return RoundResult(5, 4, (first, second), UpdateResult(sums), seconds, 2, seconds["generate_and_judge"])


def test_a_line_of_metrics_by_hand() -> None:
    line = to_json(measure_round(a_round()))
    json.dumps(line, allow_nan=False)
    assert (line["round"], line["policy_version"]) == (5, 4)
    assert line["reward"] == {
        "total": pytest.approx(-2 / 3),
        "risk": pytest.approx(-1 / 3),
        "general": pytest.approx(-1 / 3),
        "general_harmful": 0.0,
        "general_benign": -1.0,
    }
    assert line["level_by_case"]["2"]["adequate"] == 1
    assert line["shares"] == {
        "malformed": 0.5,
        "truncated": 0.25,
        "unscorable": 0.25,
        "zero_variance_groups": 0.0,
        "unscorable_groups": 0.5,
        "trained": 0.5,
        "consistent": 0.0,
        "over_refusal": None,
    }
    assert (line["attacks"], line["multiplier"]) == (None, None)
    assert line["decisions"] == {"refuse": 1.0, "help": 0.0, "partly": 0.0, "none": 0.0}
    assert line["lengths"] == {
        "completion_tokens": {"mean": 3.5, "p50": 2, "p95": 8, "max": 8},
        "trace_sentences": {"mean": 6.0, "p50": 6, "p95": 6, "max": 6},
    }
    assert line["update"] == {
        "loss": 1.5,
        "kl": 0.25,
        "entropy": 2.0,
        "clip_share": 0.5,
        "logprob_gap_mean": 0.25,
        "logprob_gap_max": 0.4,
        "grad_norm": 0.5,
        "learning_rate": 1e-5,
        "optimizer_steps": 2.0,
        "pairs": None,
        "pair_accuracy": None,
        "pair_margin": None,
    }
    assert line["judge"]["tokens"] == 9
    assert line["judge"]["agreement"]["n"] == 0
    assert line["judge"]["statuses"] == {
        **dict.fromkeys(("timeout", "transport", "truncated", "injection"), 0), "ok": 1, "malformed": 2, "parse": 1
    }  # fmt: skip
    assert line["tokens"] == {"generated": 14, "trained": 4}
    assert line["tokens_per_second"] == {"generate_and_judge": 2.0, "reference": None, "update": 2.0}
    assert line["seconds"] == {"generate_and_judge": 7.0, "update": 2.0, "sync": 0.5}


def test_a_round_without_an_update_has_no_figures_of_one() -> None:
    metrics = measure_round(replace(a_round(), update=UpdateResult(), trained_sequences=0))
    assert set(asdict(metrics.update).values()) == {None}
    assert metrics.tokens.trained == 0


def test_a_round_in_which_nothing_was_scored_has_no_reward() -> None:
    silent = RoundResult(1, 0, (make_group(failed(), failed()),), UpdateResult(), {"sync": 0.0}, 0, 0.0)
    metrics = measure_round(silent)
    assert set(asdict(metrics.reward).values()) == {None}
    assert metrics.shares.unscorable == 1.0


def test_groups_without_variance_and_groups_without_scores_are_told_apart() -> None:
    verdicts = [
        (scored(1.0), scored(1.0), failed()),  # equal rewards
        (scored(1.0), scored(0.0)),
        (scored(1.0), failed()),  # one reward is no group
        (failed(), failed()),
    ]
    groups_P = tuple(
        assign_credit([make_group(*verdicts_G, index=number)], CreditConfig())[0]
        for number, verdicts_G in enumerate(verdicts)
    )
    shares = measure_round(RoundResult(1, 0, groups_P, UpdateResult(), {}, 2, 0.0)).shares
    assert (shares.zero_variance_groups, shares.unscorable_groups) == (0.25, 0.5)


def test_rows_hold_every_prompt_completion_verdict_reward_and_advantage() -> None:
    rows = to_rows(a_round().groups_P)
    assert [(row.group, row.sample, row.reward, row.advantage) for row in rows] == [
        (0, 0, 2.0, 0.7), (0, 1, -2.0, -0.7), (0, 2, None, None), (1, 0, -2.0, None)
    ]  # fmt: skip
    assert rows[0].prompt == "text 0"
    assert rows[0].completion.startswith("<think>")
    assert rows[0].trace == "The request is harmless."
    assert (rows[0].status, rows[0].case, rows[0].level, rows[0].logprob) == ("ok", "adequate", 2, -1.0)
    assert [(row.decision, row.consistent) for row in rows] == [("refuse", False), *[(None, None)] * 3]
    assert (rows[3].policy_version, rows[3].truncated, rows[3].form) == (4, True, "truncated")


def test_rows_survive_parquet(tmp_path: Path) -> None:
    path = tmp_path / "round-000005.parquet"
    write_groups(a_round().groups_P, path)
    assert pq.read_table(path).to_pylist() == [asdict(row) | {"turns": None} for row in to_rows(a_round().groups_P)]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_summaries_of_what_was_read_back_are_the_same(tmp_path: Path) -> None:
    decided = replace(scored(2.0), decision=Decision.HELP, consistent=True)
    groups_P = heldout((True, decided), (False, MALFORMED), (False, failed()), (True, scored(-1.0)))
    groups_P.append(make_group(scored(2.0), failed(), scored(-2.0), prompt=make_prompt(9), index=9))
    write_groups(groups_P, tmp_path / "base.parquet")
    read = read_groups(tmp_path / "base.parquet")
    assert summarise_stage(read) == summarise_stage(groups_P)
    assert [group.prompt for group in read] == [group.prompt for group in groups_P]
    assert [[s.verdict for s in group.samples_G] for group in read] == [
        [s.verdict for s in group.samples_G] for group in groups_P
    ]


def test_rounds_read_as_one_table_whatever_columns_are_empty_in_one(tmp_path: Path) -> None:
    write_groups((make_group(failed(), failed()),), tmp_path / "round-000001.parquet")
    write_groups(a_round().groups_P, tmp_path / "round-000002.parquet")
    assert pq.read_table(tmp_path).column("advantage").to_pylist() == [None, None, 0.7, -0.7, None, None]
