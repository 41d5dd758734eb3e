"""The ablation: runs that are planned and made, and tables of figures by hand."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.ablation import ARMS, Run, check_folder, main, make, plan, results
from benchmarks.ablation_table import (
    BOTH,
    WARMUP,
    Result,
    Table,
    as_markdown,
    crossed_bootstrap,
    figures_table,
    held_to_one_rule,
    tables,
)
from rapo_ray.config.load import hashed_tree
from rapo_ray.errors import ConfigError
from rapo_ray.statistics import Interval
from rapo_ray.storage.layout import Stage
from rapo_ray.storage.records import Delta, RunSummary
from rapo_ray.storage.rows import write_groups
from rapo_ray.storage.run_folder import RunFolder
from rapo_ray.types import Case, Decision, Group, Status, Verdict
from tests.make import failed, make_group, make_prompt

pytestmark = pytest.mark.unit

SUITE = "quickstart-validation:all"


def planned(out: Path, *extra: str, arms: Sequence[str] = tuple(ARMS), seeds: Sequence[int] = (0, 1)) -> list[Run]:
    """Runs of these arms and seeds."""
    return plan(arms, seeds, out, SUITE, extra)


def trace(case: Case, sentences: int, general: float, consistent: bool | None = None) -> Verdict:
    """A verdict on a completion, with the reward of its case."""
    risk = {Case.ADEQUATE: 1.0, Case.POOR: -1.0, Case.CONTRADICTORY: -1.0}.get(case, 0.0)
    return Verdict(
        Status.OK, "fake", case=case, sentences=sentences, risk=risk, general=general,
        decision=None if consistent is None else Decision.HELP, consistent=consistent,
    )  # fmt: skip


def measured(easy: Verdict, deep: Verdict, *more: Verdict) -> list[Group]:
    """A benign prompt of level 1, and a harmful one of level 3 with further samples."""
    return [
        make_group(easy, prompt=make_prompt(0, level=1), index=0),
        make_group(deep, *more, prompt=make_prompt(1, harmful=True, level=3), index=1),
    ]


SHORT = measured(trace(Case.ADEQUATE, 2, 1.0), trace(Case.FAIR, 3, -1.0))
LONG = measured(trace(Case.ADEQUATE, 4, 1.0), trace(Case.ADEQUATE, 9, 1.0))
REFUSES_ALL = measured(trace(Case.ADEQUATE, 2, -1.0), trace(Case.ADEQUATE, 7, 1.0))


def finish(run: Run, groups: dict[Stage, list[Group]]) -> bool:
    """Write a finished run with these measurements and a checkpoint."""
    folder = RunFolder(run.config)
    folder.open()
    for stage, groups_P in groups.items():
        write_groups(groups_P, folder.heldout_file(stage))
    (folder.checkpoints / "round-000001").mkdir()
    folder.publish_summary(RunSummary({}, Delta(Interval()), {}))
    folder.close()
    return True


def test_an_arm_changes_only_what_it_is_named_for(tmp_path: Path) -> None:
    runs = {run.arm: run for run in planned(tmp_path, seeds=[1])}
    assert list(runs) == list(ARMS)
    both = hashed_tree(runs[BOTH].config)
    changed = {
        arm: {
            f"{section}.{name}"
            for section in ("data", "model", "warmup", "judge", "credit", "policy")
            for name in both[section]
            if hashed_tree(run.config)[section][name] != both[section][name]
        }
        for arm, run in runs.items()
    }
    assert changed == {
        WARMUP: {"model.path", "warmup.source"},
        "R-only": {"credit.parts"},
        "G-only": {"credit.parts"},
        BOTH: set(),
        "gated": {"credit.scheme"},
        "gdpo": {"credit.scheme"},
        "consistency-off": {"judge.consistency"},
    }
    assert [run.config.judge.checks_consistency for run in runs.values()] == [True] * 6 + [False]
    assert {(run.config.seed, run.config.data.heldout) for run in runs.values()} == {(1, SUITE)}


def test_the_runs_of_a_seed_start_from_its_warm_up(tmp_path: Path) -> None:
    runs = planned(tmp_path, "rounds=2", "model.path=tiny", arms=["gdpo"])
    assert [run.config.name for run in runs] == [f"{WARMUP}-seed0", "gdpo-seed0", f"{WARMUP}-seed1", "gdpo-seed1"]
    warmup, gdpo = runs[2:]
    assert (warmup.config.rounds, warmup.config.warmup.source, warmup.config.model.path) == (
        0,
        "demonstrations",
        "tiny",
    )
    assert (gdpo.config.rounds, gdpo.config.warmup.source) == (2, "none")
    assert gdpo.config.model.path == str(warmup.folder.sft)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("credit.parts=risk", "override `credit.parts=risk`: the ablation sets credit.parts itself: leave it out"),
        ("credit={scheme: rloo}", "the ablation sets credit.parts, credit.scheme itself"),
        ("seed=4", "the ablation sets seed itself"),
        ("warmup.source=none", "leaves no warm-up"),
        ("rouns=2", "unknown key `rouns`"),
    ],
)
def test_settings_that_no_run_could_have_are_refused(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        planned(tmp_path, override)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0,one"], "'0,one' is no list of seeds, such as 0,1,2"),
        (["--arms", "gated,grpo"], "no arm grpo; there are warm-up-only, R-only"),
    ],
)
def test_unknown_arms_and_seeds_are_refused(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ablation", *arguments])
    with pytest.raises(SystemExit):
        main()
    assert message in capsys.readouterr().err


def test_a_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    (run, _) = planned(tmp_path, arms=[WARMUP])
    check_folder(run)  # nothing is there yet
    finish(run, {})
    check_folder(run)
    (other, _) = planned(tmp_path, "policy.kl_coef=0.02", arms=[WARMUP])
    with pytest.raises(ConfigError, match="was started with other settings: use them again, or another --out"):
        check_folder(other)


def test_only_what_is_missing_is_run(tmp_path: Path) -> None:
    runs = planned(tmp_path, arms=["gated", "gdpo"], seeds=[0])
    ran: list[str] = []

    def fails_at_first(run: Run) -> bool:
        ran.append(run.arm)
        return (run.arm != "gated" or ran.count("gated") > 1) and finish(run, {})

    assert make(runs, fails_at_first) == ["gated-seed0"]
    assert make(runs, fails_at_first) == []
    assert make(runs, fails_at_first) == []
    assert ran == [WARMUP, "gated", "gdpo", "gated"]


def test_without_its_warm_up_a_seed_has_no_runs(tmp_path: Path) -> None:
    ran: list[str] = []

    def fails_with_seed_0(run: Run) -> bool:
        ran.append(run.config.name)
        return run.seed != 0 and finish(run, {})

    assert make(planned(tmp_path, arms=["gdpo"]), fails_with_seed_0) == [f"{WARMUP}-seed0"]
    assert ran == [f"{WARMUP}-seed0", f"{WARMUP}-seed1", "gdpo-seed1"]


def test_checkpoints_go_once_a_run_is_finished(tmp_path: Path) -> None:
    finished, stopped = planned(tmp_path, arms=[WARMUP])
    (stopped.folder.checkpoints / "round-000001").mkdir(parents=True)
    make([finished, stopped], lambda run: run is finished and finish(run, {}))
    assert not finished.folder.checkpoints.exists()
    assert stopped.folder.checkpoints.exists()


def test_figures_are_means_over_the_seeds() -> None:
    table = figures_table([Result(BOTH, {}, {0: SHORT, 1: LONG})])
    assert dict(zip(table.headings, table.lines[0], strict=True)) == {
        "arm": BOTH,
        "seeds": "2",
        "adequate 2+3": "0.500",
        "sentences 1, 2, 3": "3.0, -, 6.0",
        "benign answered": "1.000",
        "harmful refused": "0.500",
        "consistent": "-",
        "total": "1.250",  # of 2 and -1, and of 2 and 2
    }


def test_differences_by_hand() -> None:
    made = tables(
        [
            Result(WARMUP, {}, {0: SHORT, 1: SHORT}),
            Result(BOTH, {0: SHORT, 1: SHORT}, {0: LONG, 1: LONG}),
            Result("G-only", {0: SHORT, 1: SHORT}, {0: REFUSES_ALL, 1: REFUSES_ALL, 2: LONG}),
        ]
    )
    figures, gains, over_both = made
    assert [line[:2] for line in figures.lines] == [[WARMUP, "2"], [BOTH, "2"], ["G-only", "3"]]
    both, general = gains.lines
    # adequate deep, benign answered, harmful refused: one prompt each, alike under both seeds
    assert both[:5] == [BOTH, "2", "+1.000 [+1.000, +1.000]", "+0.000 [+0.000, +0.000]", "+1.000 [+1.000, +1.000]"]
    assert both[5:] == ["+1.500 [+0.000, +3.000]", "+1.500, +1.500"]  # totals 2 and -1 became 2 and 2
    assert general[:4] == ["G-only", "2", "+1.000 [+1.000, +1.000]", "-1.000 [-1.000, -1.000]"]
    assert general[5:] == ["+0.500 [-2.000, +3.000]", "+0.500, +0.500"]  # 0 and 2
    assert over_both.title == f"after the rounds minus {BOTH}, with 95 % intervals"
    assert [line[0] for line in over_both.lines] == ["G-only"]
    assert over_both.lines[0][5:] == ["-1.000 [-2.000, +0.000]", "-1.000, -1.000"]  # 0 and 2 against 2 and 2


def test_a_prompt_counts_where_every_seed_has_it() -> None:
    unjudged = [SHORT[0], make_group(failed(), prompt=SHORT[1].prompt, index=1)]
    (_, gains) = tables([Result("gdpo", {0: SHORT, 1: unjudged}, {0: LONG, 1: LONG})])
    assert gains.lines == [
        ["gdpo", "1", "-", "+0.000 [+0.000, +0.000]", "-", "+0.000 [+0.000, +0.000]", "+0.000, +0.000"]
    ]


def test_the_interval_covers_seeds_as_well_as_prompts() -> None:
    by_seed = crossed_bootstrap([[0.0] * 50, [1.0] * 50, [2.0] * 50], seed=0)
    assert by_seed.mean == 1.0
    assert by_seed.ci95 == (0.0, 2.0)  # to resample prompts alone would leave it no width
    by_prompt = crossed_bootstrap([[0.0, 2.0] * 200] * 3, seed=0)
    assert by_prompt.mean == 1.0
    assert by_prompt.ci95 == pytest.approx((1 - 1.96 / 20, 1 + 1.96 / 20), abs=0.01)  # 400 prompts, deviation 1
    assert crossed_bootstrap([[0.25, 0.25]], seed=0) == Interval(0.25, (0.25, 0.25))
    assert crossed_bootstrap([[], []], seed=0) == Interval()


def test_all_arms_are_held_to_one_rule() -> None:
    verdicts = [
        trace(Case.ADEQUATE, 3, 1.0, consistent=True), trace(Case.ADEQUATE, 3, 1.0, consistent=False),
        trace(Case.CONTRADICTORY, 3, 1.0, consistent=False), trace(Case.POOR, 1, 1.0, consistent=False),
        trace(Case.FAIR, 1, 1.0), failed(),
    ]  # fmt: skip
    (group,) = held_to_one_rule([make_group(*verdicts)])
    held = [sample.verdict for sample in group.samples_G]
    assert held[1] == replace(verdicts[1], case=Case.CONTRADICTORY, risk=-1.0)
    assert held[:1] + held[2:] == verdicts[:1] + verdicts[2:]


def test_a_run_without_consistency_is_read_by_the_same_rule(tmp_path: Path) -> None:
    runs = [run for run in planned(tmp_path, seeds=[0]) if run.arm in (WARMUP, "consistency-off")]
    contradicts = measured(trace(Case.ADEQUATE, 2, 1.0, consistent=False), trace(Case.ADEQUATE, 9, 1.0))
    for run in runs:
        finish(run, {Stage.SFT: SHORT, Stage.RAPO: contradicts})
    warmup, off = results(runs)
    assert (warmup.arm, warmup.before, off.arm) == (WARMUP, {}, "consistency-off")
    assert [group.samples_G[0].verdict.risk for group in warmup.after[0]] == [1.0, 0.0]
    assert [group.samples_G[0].verdict.risk for group in off.before[0]] == [1.0, 0.0]
    assert [group.samples_G[0].verdict.risk for group in off.after[0]] == [-1.0, 1.0]


def test_the_command_shows_and_writes_the_tables_of_finished_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in planned(tmp_path, "rounds=3", arms=["gdpo"]):
        finish(run, {Stage.SFT: SHORT, Stage.RAPO: LONG})
    file = tmp_path / "tables.md"
    arguments = ["rounds=3", "--out", str(tmp_path), "--seeds", "0,1", "--arms", "gdpo", "--suite", SUITE]
    monkeypatch.setattr(sys, "argv", ["ablation", *arguments, "--markdown", str(file)])
    assert main() == 0
    assert "held-out prompts, means over the seeds" in capsys.readouterr().out
    assert "| gdpo | 2 | +1.000 [+1.000, +1.000] |" in file.read_text()
    assert WARMUP not in file.read_text()


def test_tables_in_markdown() -> None:
    made = [Table("one", ["arm", "total"], [["gdpo", "0.5"]]), Table("two", ["arm"], [["gated"]])]
    assert as_markdown(made) == (
        "one:\n\n| arm | total |\n| --- | --- |\n| gdpo | 0.5 |\n\ntwo:\n\n| arm |\n| --- |\n| gated |\n"
    )
